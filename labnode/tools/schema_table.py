# SPDX-License-Identifier: GPL-3.0-or-later
"""Make labnode's schema table from a published API schema, keeping facts and dropping all text.

usage: python tools/schema_table.py pve-api-9.1.json.gz [> src/labnode/schema/table.json]

The source is JSON (gzip or not): ``{"paths": {PATH: {METHOD: {...}}}}`` or PATH alone, as the API viewer has it.
Kept: paths, methods, parameter names, types, limits, enums, patterns, formats and their sub-formats, what a method
needs of its caller, whether it is tied to a node, whether it returns nothing. Areas of ``ONLY_PATHS`` keep their paths
and methods only.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Facts about a parameter that decide whether a value is accepted.
KEPT = (
    "type", "optional", "format", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "requires",
    "alias", "keyAlias", "default_key", "items",
)  # fmt: skip

# Areas labnode does not have at all: it must know that they exist, not what they take.
ONLY_PATHS = re.compile(
    r"^\w+ (/cluster/(acme|bulk-action|ceph|mapping|metrics/server|notifications|qemu"
    r"|sdn/(fabrics|controllers|dns|ipams|prefix))"
    r"|/nodes/\{node\}/(ceph|certificates|lxc/|scan|hardware|replication|sdn/fabrics)"
    r"|/access/openid"
    r"|/nodes/\{node\}/(query-oci.*|oci.*|suspendall|aplinfo|subscription|termproxy|vncshell|vncwebsocket|spiceshell))"
    r"|^POST /nodes/\{node\}/lxc$"
)

Json = dict[str, Any]


def facts_of(prop: Mapping[str, Any]) -> Json:
    """The facts of one parameter or sub-format key."""
    kept: Json = {key: prop[key] for key in KEPT if prop.get(key) is not None}
    for bound in ("minimum", "maximum"):
        if isinstance(kept.get(bound), str):
            kept[bound] = int(kept[bound])
    if "pattern" in kept:
        kept["pattern"] = python_pattern(kept["pattern"])
    if isinstance(kept.get("format"), dict):
        kept["format"] = {name: facts_of(sub) for name, sub in sorted(kept["format"].items())}
    if isinstance(kept.get("items"), dict):
        kept["items"] = facts_of(kept["items"])
    return kept


def python_pattern(pattern: str) -> str:
    """A Perl pattern as Python spells it: stringified groups ``(?^:`` and ``(?^i:``."""
    return pattern.replace("(?^:", "(?:").replace("(?^i:", "(?i:")


def method_facts(info: Mapping[str, Any], drive: Json) -> Json:
    """What one method takes and asks for: p parameters, perm, and the flags token, node, null where they are not
    the rule.

    ``drive`` is the sub-format of an IDE drive, which the parameter ``cdrom`` only names.
    """
    facts: Json = {}
    properties = info.get("parameters", {}).get("properties") or {}
    if properties:
        facts["p"] = {name: facts_of(prop) for name, prop in sorted(properties.items())}
        if facts["p"].get("cdrom", {}).get("format") == "pve-qm-ide":
            facts["p"]["cdrom"] = facts_of({**properties["cdrom"], "format": drive})
    permissions = info.get("permissions") or {}
    if "check" in permissions:
        facts["perm"] = permissions["check"]
    elif "user" in permissions:
        facts["perm"] = permissions["user"]
    if not info.get("allowtoken", 1):
        facts["token"] = 0
    if info.get("proxyto") == "node":
        facts["node"] = 1
    if (info.get("returns") or {}).get("type") == "null":
        facts["null"] = 1
    return facts


def table_of(paths: Mapping[str, Mapping[str, Json]]) -> Json:
    """The whole table; equal parameters are stored once, in ``params``, and named by their position there."""
    shared: dict[str, int] = {}
    out: Json = {}
    drive = paths["/nodes/{node}/qemu"]["POST"]["parameters"]["properties"]["ide[n]"]["format"]
    for path, methods in sorted(paths.items()):
        out[path] = {}
        for method, info in sorted(methods.items()):
            if ONLY_PATHS.search(f"{method} {path}"):
                out[path][method] = None
                continue
            facts = method_facts(info, drive)
            for name, prop in facts.get("p", {}).items():
                text = json.dumps(prop, sort_keys=True)
                facts["p"][name] = shared.setdefault(text, len(shared))
            out[path][method] = facts
    return {"params": [json.loads(text) for text in shared], "paths": out}


def lines_of(table: Json) -> Iterator[str]:
    """JSON with one path or parameter a line, so that a change is readable in a diff."""
    yield '{"params": ['
    yield ",\n".join(json.dumps(prop, sort_keys=True) for prop in table["params"])
    yield '], "paths": {'
    yield ",\n".join(f"{json.dumps(path)}: {json.dumps(facts)}" for path, facts in table["paths"].items())
    yield "}}"


def load(source: Path) -> Json:
    """The ``paths`` of a published schema file."""
    raw = source.read_bytes()
    data: Json = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    paths: Json = data.get("paths", data)
    return paths


def main() -> None:
    """Write the table of the schema named on the command line to standard output."""
    for line in lines_of(table_of(load(Path(sys.argv[1])))):
        print(line)


if __name__ == "__main__":
    main()
