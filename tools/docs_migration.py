# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of what community.proxmox's modules and options are called here: read, held against both, made a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import docs_options
from ansible.module_utils.common.yaml import yaml_load

ROOT = docs_options.ROOT
TABLE = ROOT / "docs/guides/community-proxmox.yml"
PAGE = ROOT / "docs/guides/options-of-community-proxmox.md"


@dataclass(frozen=True)
class Counterpart:
    """What one option is here: ``targets`` as "module.option.inside" or "…=value". Where there is none, ``remark`` says
    why, or the module's own "why" does."""

    targets: tuple[str, ...]
    remark: str


@cache
def table() -> dict[str, Any]:
    found: dict[str, Any] = yaml_load(TABLE.read_text(encoding="utf-8"))
    return found


@cache
def ours() -> dict[str, frozenset[str]]:
    """The options of each of our modules, with those inside others."""
    return {name: frozenset(docs_options.flat(options)) for name, options in docs_options.modules(ROOT).items()}


def version_of(collection: Path) -> str:
    manifest = json.loads((collection / "MANIFEST.json").read_text(encoding="utf-8"))
    return str(manifest["collection_info"]["version"])


def options(entry: Mapping[str, Any]) -> dict[str, Counterpart]:
    """What the table says of each option of a module of theirs. Raises ValueError where it says it twice."""
    here = entry.get("here") or [""]
    found = {name: Counterpart((f"{here[0]}.{name}",), "") for name in entry.get("same") or []}
    given = {name: _counterpart(said, here[0]) for name, said in (entry.get("options") or {}).items()}
    none = {name: Counterpart((), "") for name in entry.get("none") or []}
    if len({*found, *given, *none}) != len(found) + len(given) + len(none):
        raise ValueError(f"an option is there twice: {sorted([*found, *given, *none])}")
    return found | given | none


def _counterpart(said: str, main: str) -> Counterpart:
    names, _, remark = said.partition(";")
    targets = [] if names.strip() == "none" else names.split()
    return Counterpart(tuple(_full(target, main) for target in targets), remark.strip())


def _full(target: str, main: str) -> str:
    """A target with its module: the main one unless it begins with another's name."""
    first, dot, _ = target.partition(".")
    return target if first in ours() and (dot or first not in _top(main)) else f"{main}.{target}"


def _top(module: str) -> set[str]:
    return {name for name in ours()[module] if "." not in name}


def wrong_here(said: Mapping[str, Any]) -> list[str]:
    """What the table names that we do not have."""
    named = [(theirs, name) for theirs, entry in said["modules"].items() for name in entry.get("here") or []]
    found = [f"{theirs}: there is no module {name}" for theirs, name in named if name not in ours()]
    for module, entry in said["modules"].items():
        for name, counterpart in options(entry).items():
            found += [f"{module}.{name}: there is no {t}" for t in counterpart.targets if not _exists(t)]
            if not counterpart.targets and not (counterpart.remark or entry.get("why")):
                found.append(f"{module}.{name}: none, and it is not said why")
    shared = ours()["vm"]
    return found + [f"everywhere: there is no {name}" for name in said["everywhere"]["same"] if name not in shared]


def _exists(target: str) -> bool:
    path, _, value = target.partition("=")
    module, _, option = path.partition(".")
    if module not in ours() or (option and option not in ours()[module]):
        return False
    if not value:
        return True
    known: Any = {"suboptions": docs_options.plugin_options(ROOT, "modules", module)}
    for part in option.split("."):
        known = (known.get("suboptions") or {})[part]
    return value in known.get("choices", [])


def differences(theirs: Mapping[str, Mapping[str, Any]], version: str) -> list[str]:
    """Where the table and the modules of one version of theirs differ; ``theirs``: options by module."""
    if version not in table()["versions"]:
        return [f"the table was held against {table()['versions']}, and not against {version}: look what is new there"]
    known = {name: entry for name, entry in table()["modules"].items() if _is_in(entry.get("version"), version)}
    found = [f"{name}: missing in the table" for name in sorted(set(theirs) - set(known))]
    found += [f"{name}: not in community.proxmox {version}" for name in sorted(set(known) - set(theirs))]
    for name in sorted(set(known) & set(theirs)):
        counterparts = options(known[name])
        said = _of(known[name], counterparts, version) | _everywhere(version)
        there = {option for option in docs_options.flat(theirs[name]) if not _inside_none(option, counterparts)}
        found += [f"{name}.{option}: missing in the table" for option in sorted(there - said)]
        found += [f"{name}.{option}: not in {version}" for option in sorted(said - there)]
    return found


def _inside_none(option: str, counterparts: Mapping[str, Counterpart]) -> bool:
    """Whether it is inside an option that has no counterpart, which says all."""
    outer = counterparts.get(option.partition(".")[0])
    return "." in option and outer is not None and not outer.targets


def _is_in(only: str | None, version: str) -> bool:
    return only is None or only == version


def _of(entry: Mapping[str, Any], names: Mapping[str, Any], version: str) -> set[str]:
    return {name for name in names if _is_in((entry.get("only") or {}).get(name), version)}


def _everywhere(version: str) -> set[str]:
    shared = table()["everywhere"]
    return _of(shared, dict.fromkeys(shared["same"]), version)


def page() -> str:
    """All of it, to be read."""
    entries = table()["modules"]
    there = [name for name, entry in entries.items() if entry.get("here")]
    parts = [HEAD.format(versions=" and ".join(table()["versions"])), *_overview(), "## In every module", _shared()]
    parts += [part for name in there for part in _section(name, entries[name])]
    parts += ["## Without a counterpart", NOTHING, *(_nothing(n, e) for n, e in entries.items() if n not in there)]
    return "\n\n".join(parts) + "\n"


HEAD = """\
<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Made by `make docs-pages` from docs/guides/community-proxmox.yml. Change that, not this page. -->
# Options of community.proxmox

Every module of community.proxmox {versions}, every option of each, and what it is called here. How to move is told in
[moving from community.proxmox](from-community-proxmox.md). A test holds this page against both collections."""
NOTHING = "What these do is not done here. Both collections work side by side in one play, with the same variables."


def _overview() -> Iterator[str]:
    rows = []
    for name, entry in table()["modules"].items():
        here = ", ".join(f"`{module}`" for module in entry.get("here") or []) or "none"
        rows.append(f"| `{name}` | {here} | {_sentence(entry.get('why', ''))} |")
    yield "| There | Here | |\n|---|---|---|\n" + "\n".join(rows)


def _sentence(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _shared() -> str:
    remarks = table()["everywhere"]["remarks"]
    rows = [
        f"| `{name}`{_since(table()['everywhere'], name)} | `{name}` | {remarks.get(name, '')} |"
        for name in sorted(table()["everywhere"]["same"])
    ]
    return "\n".join(["| There | Here | |", "|---|---|---|", *rows])


def _since(entry: Mapping[str, Any], name: str) -> str:
    only = (entry.get("only") or {}).get(name)
    return f" (only {only})" if only else ""


def _section(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name}" + (f"\n\nOnly in {entry['version']}." if entry.get("version") else "")
    if entry.get("why"):
        yield _sentence(entry["why"])
    rows = [
        f"| `{option}`{_since(entry, option)} | {_shown(found)} | {_sentence(found.remark)} |"
        for option, found in sorted(options(entry).items())
    ]
    if rows:
        yield "\n".join(["| There | Here | |", "|---|---|---|", *rows])
    else:
        yield f"It has no options of its own; `{entry['here'][0]}` does what it does."


def _shown(found: Counterpart) -> str:
    return ", ".join(f"`{target}`" for target in found.targets) or "none"


def _nothing(name: str, entry: Mapping[str, Any]) -> str:
    names = ", ".join(f"`{option}`{_since(entry, option)}" for option in sorted(options(entry)))
    version = f" (only {entry['version']})" if entry.get("version") else ""
    said = f"None of its options has a counterpart: {names}." if names else "It has no options of its own."
    return f"**`{name}`**{version}: {_sentence(entry['why'])} {said}"
