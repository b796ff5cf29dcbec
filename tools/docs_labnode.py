# SPDX-License-Identifier: GPL-3.0-or-later
"""What labnode answers of the API of Proxmox VE 9.1, read from its table of that API and from its handlers."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path

from labnode.app import load_handlers
from labnode.route import ROUTES

ROOT = Path(__file__).resolve().parents[1]
LABNODE = ROOT / "labnode/src/labnode"
PAGE = ROOT / "docs/guides/what-labnode-answers.md"
# Below these, an area is one word more.
DEEPER = ("cluster", "nodes")
Method = tuple[str, str]
HEAD = """\
<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Made by `make docs-pages` from labnode's table and handlers. Change those, not this page. -->
# What the embedded node answers

The API of Proxmox VE 9.1 has {all} methods. labnode answers {answered}, with parameters and rights checked, and says of
the others that it does not have them (501). How true its answers are is told in
[how true the embedded node is](fidelity.md).

| Area | Methods | Answered |
|---|---|---|
"""


@cache
def known() -> tuple[Method, ...]:
    """Every method of Proxmox VE 9.1."""
    paths = json.loads((LABNODE / "schema/table.json").read_text(encoding="utf-8"))["paths"]
    return tuple(sorted((path, verb) for path, verbs in paths.items() for verb in verbs))


@cache
def answered() -> frozenset[Method]:
    """Those that a handler is bound to."""
    load_handlers()
    return frozenset((path, verb) for verb, path in ROUTES)


def area(path: str) -> str:
    words = path.strip("/").split("/")
    names = [word for word in words if not word.startswith("{")]
    return "/" + "/".join(names[:2] if words[0] in DEEPER else names[:1])


def page() -> str:
    areas: dict[str, list[Method]] = defaultdict(list)
    for method in known():
        areas[area(method[0])].append(method)
    head = HEAD.format(all=len(known()), answered=len(answered()))
    rows = [f"| `{name}` | {len(found)} | {len(answered() & set(found)) or 'none'} |" for name, found in areas.items()]
    parts = [head + "\n".join(rows)]
    for name, found in areas.items():
        lines = [f"- `{verb} {path}`" for path, verb in found if (path, verb) in answered()]
        if lines:
            parts.append(f"## {name}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"
