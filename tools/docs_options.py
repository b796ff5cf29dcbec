# SPDX-License-Identifier: GPL-3.0-or-later
"""What options there are, read from the documentation of plugins, and whether the YAML of a guide keeps to them."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
NEIGHBOUR = Path(sysconfig.get_path("purelib"), "ansible_collections/community/proxmox")
OURS = "pvelab.proxmox."
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Options = Mapping[str, Mapping[str, Any]]


def texts(path: Path) -> dict[str, Any]:
    """The constants that a plugin's file assigns at its top or in a class there: DOCUMENTATION and the like, loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    return {
        target.id: yaml.load(node.value.value, Loader) or {}
        for body in bodies
        for node in body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper() and target.id not in {"EXAMPLES", "RETURN"}
    }


@cache
def plugin_options(collection: Path, kind: str, name: str) -> dict[str, Any]:
    """The options of one plugin, with those of the fragments that it extends."""
    docs = texts(collection / f"plugins/{kind}/{name}.py")["DOCUMENTATION"]
    found: dict[str, Any] = {}
    extended = docs.get("extends_documentation_fragment") or []
    for fragment in [extended] if isinstance(extended, str) else extended:
        found |= _fragment(collection, fragment.lower()).get("options") or {}
    return found | (docs.get("options") or {})


def _fragment(collection: Path, name: str) -> Any:
    """One of the collection's, "pvelab.proxmox.vm.guests", or one of Ansible's own, "constructed"."""
    if "." in name:
        # What a fragment says by itself may be named in full, too.
        return _fragments(collection)[name.split(".", maxsplit=2)[2].removesuffix(".documentation")]
    module = importlib.import_module(f"ansible.plugins.doc_fragments.{name}")
    return yaml.load(module.ModuleDocFragment.DOCUMENTATION, Loader)


@cache
def _fragments(collection: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((collection / "plugins/doc_fragments").glob("*.py")):
        for name, docs in (_computed(path) if collection == ROOT else texts(path)).items():
            found[path.stem if name == "DOCUMENTATION" else f"{path.stem}.{name.lower()}"] = docs
    return found


def _computed(path: Path) -> dict[str, Any]:
    """The texts of a fragment of ours, of which some are put together by Python."""
    if str(ROOT / ".build") not in sys.path:
        sys.path.insert(0, str(ROOT / ".build"))
    module = importlib.import_module(f"ansible_collections.pvelab.proxmox.plugins.doc_fragments.{path.stem}")
    members = vars(module.ModuleDocFragment).items()
    return {name: yaml.load(text, Loader) or {} for name, text in members if name.isupper() and isinstance(text, str)}


def modules(collection: Path) -> dict[str, dict[str, Any]]:
    """The options of every module of a collection."""
    names = sorted(p.stem for p in (collection / "plugins/modules").glob("*.py") if p.stem != "__init__")
    return {name: plugin_options(collection, "modules", name) for name in names}


def flat(options: Options, before: str = "") -> Iterator[str]:
    """The names of options, those inside others too: "disks.slot"."""
    for name, option in options.items():
        yield before + name
        yield from flat(option.get("suboptions") or option.get("options") or {}, f"{before}{name}.")


@cache
def role_options() -> dict[str, Any]:
    """The variables of all roles."""
    found: dict[str, Any] = {}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        for spec in yaml.load(path.read_text(encoding="utf-8"), Loader)["argument_specs"].values():
            found |= spec.get("options") or {}
    return found


@cache
def play_variables() -> frozenset[str]:
    """The variables that the playbooks themselves take, beside those of roles."""
    found = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "playbooks").glob("*.yml"))]
    return frozenset(re.findall(r"\b(proxmox_api_\w+|teardown_confirm)\b", "\n".join(found)))


def complaints(data: Any) -> list[str]:
    """What is wrong with YAML of a guide: a playbook, a list of tasks, variables, or the source of an inventory."""
    if isinstance(data, list):
        return [said for entry in data for said in _entry(entry)]
    if isinstance(data, dict) and "plugin" in data:
        options = plugin_options(ROOT, "inventory", str(data["plugin"]).removeprefix(OURS))
        return list(_given(data, options, str(data["plugin"])))
    if isinstance(data, dict) and all(isinstance(group, dict) and set(group) <= GROUP for group in data.values()):
        return [said for group in data.values() for said in _group(group)]
    if isinstance(data, dict):
        return list(_variables(data, "these variables"))
    return ["it is neither a playbook, nor tasks, nor variables"]


GROUP = {"hosts", "vars", "children"}


def _group(group: Mapping[str, Any]) -> Iterator[str]:
    """A group of an inventory; what its hosts say is about how they are reached as well."""
    yield from _variables(group.get("vars") or {}, "vars", own=False)
    for variables in (group.get("hosts") or {}).values():
        yield from _variables(variables or {}, "hosts", own=False)
    for child in (group.get("children") or {}).values():
        yield from _group(child or {})


def _entry(entry: Any) -> Iterator[str]:
    """A play or a task."""
    if not isinstance(entry, dict):
        yield f"{entry!r} is neither a play nor a task"
        return
    for part in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
        for task in entry.get(part) or []:
            yield from _entry(task)
    for role in entry.get("roles") or []:
        yield from _role(role)
    yield from _variables(entry.get("vars") or {}, "vars", own=False)
    for key, value in entry.items():
        name = str(key).removeprefix(OURS)
        if str(key).startswith(OURS):
            if not (ROOT / f"plugins/modules/{name}.py").exists():
                yield f"there is no module {key}"
            else:
                yield from _given(value or {}, plugin_options(ROOT, "modules", name), str(key))
        elif str(key).endswith(("include_role", "import_role")):
            yield from _role({"role": (value or {}).get("name", "")})


def _role(role: Any) -> Iterator[str]:
    given = {"role": role} if isinstance(role, str) else dict(role)
    name = str(given.get("role") or given.get("name"))
    if name.startswith(OURS) and not (ROOT / "roles" / name.removeprefix(OURS)).is_dir():
        yield f"there is no role {name}"
    keywords = {"role", "name", "vars", "tags", "when", "become"}
    yield from _variables({**{k: v for k, v in given.items() if k not in keywords}, **(given.get("vars") or {})}, name)


def _variables(given: Mapping[str, Any], where: str, *, own: bool = True) -> Iterator[str]:
    """``own``: every one of them has to be ours. A play may have others, but none that is nearly one of ours."""
    known, prefixes = role_options(), tuple(f"{p.parent.parent.name}_" for p in _specs())
    for name, value in given.items():
        if name in known:
            yield from _value(value, known[name], name)
        elif name not in play_variables() and (own or str(name).startswith(prefixes)):
            yield f"{where}: no role has a variable {name}"


@cache
def _specs() -> tuple[Path, ...]:
    return tuple(sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")))


def _given(given: Mapping[str, Any], options: Options, where: str) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{where}: {given!r} is no dictionary"
        return
    known = {alias: name for name, option in options.items() for alias in [name, *(option.get("aliases") or [])]}
    for name, value in given.items():
        if name not in known:
            yield f"{where}: there is no option {name}"
        else:
            yield from _value(value, options[known[name]], f"{where}: {name}")
    for name, option in options.items():
        if option.get("required") and name not in {known.get(key) for key in given}:
            yield f"{where}: the option {name} is missing"


def _value(value: Any, option: Mapping[str, Any], where: str) -> Iterator[str]:
    """Choices, and what is inside. What a template makes is not known here."""
    choices, inner = option.get("choices"), option.get("suboptions") or option.get("options")
    for one in value if isinstance(value, list) else [value]:
        if (isinstance(one, str) and "{{" in one) or one is None:
            continue
        if choices and one not in choices and str(one) not in map(str, choices):
            yield f"{where}: {one!r} is none of {', '.join(map(str, choices))}"
        if inner:
            yield from _given(one, inner, where)
    kind = option.get("type") or "str"
    if kind in {"int", "float", "bool", "dict"} and isinstance(value, str) and "{{" not in value:
        yield f"{where}: {value!r} is no {kind}"
