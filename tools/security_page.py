# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the part of docs/security.md that docs/privileges.yml decides: tables of privileges, and commands to type.

python tools/security_page.py     writes it; a test says when that is to be done
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/security.md"
USER, TOKEN = "ansible@pve", "lab"
# Names of the roles that the commands make; Proxmox VE keeps those that begin with PVE for itself.
ROLES = {
    "/": "LabHost",
    "/nodes": "LabNodes",
    "/pool": "LabPools",
    "/sdn/zones": "LabNetwork",
    "/storage": "LabStorage",
    "/vms": "LabGuests",
}
Entries = list[dict[str, str]]


def load() -> dict[str, Any]:
    found: dict[str, Any] = yaml_load((ROOT / "docs/privileges.yml").read_text(encoding="utf-8"))
    return found


def used_by_roles(modules: Iterable[str]) -> dict[str, list[str]]:
    """{role: the modules of the API that its tasks call}, for the roles that call any."""
    named = re.compile(rf"^\s*pvelab\.proxmox\.({'|'.join(sorted(modules))}):", re.MULTILINE)
    found: dict[str, list[str]] = {}
    for role in sorted(p for p in (ROOT / "roles").iterdir() if p.is_dir()):
        text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(role.glob("tasks/**/*.yml")))
        if calls := sorted(set(named.findall(text))):
            found[role.name] = calls
    return found


def needed(data: Mapping[str, Any], modules: Iterable[str]) -> dict[str, list[str]]:
    """{path: privileges} of several modules together."""
    found: dict[str, set[str]] = {}
    for module in modules:
        for entry in data["modules"][module]:
            found.setdefault(entry["path"], set()).add(entry["privilege"])
    return {path: sorted(names) for path, names in sorted(found.items())}


def of_the_roles(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """{path: privileges} that all roles need together."""
    return needed(data, {module for calls in used_by_roles(data["modules"]).values() for module in calls})


def _by_reason(data: Mapping[str, Any]) -> dict[str, Entries]:
    """Modules that need the same are told together: {"guests, vm": entries}."""
    names: dict[str, list[str]] = {}
    for module, entries in data["modules"].items():
        names.setdefault(str(entries), []).append(module)
    shown = {", ".join(f"`{n}`" for n in same): data["modules"][same[0]] for same in names.values()}
    return {**dict(sorted(shown.items())), "the inventory `guests`": data["inventory"]}


def modules_table(data: Mapping[str, Any]) -> list[str]:
    lines = ["| Module | Privilege | On | To |", "|---|---|---|---|"]
    for names, entries in _by_reason(data).items():
        for i, entry in enumerate(entries):
            shown = names if i == 0 else ""
            lines.append(f"| {shown} | `{entry['privilege']}` | `{entry['path']}` | {entry['for']} |")
    return lines


def roles_table(data: Mapping[str, Any]) -> list[str]:
    used = used_by_roles(data["modules"])
    lines = ["| Role | Privileges |", "|---|---|"]
    for role, modules in used.items():
        parts = [f"`{path}`: {', '.join(names)}" for path, names in needed(data, modules).items()]
        lines.append(f"| [`{role}`](../roles/{role}/README.md) | {'<br>'.join(parts)} |")
    return lines


def commands(data: Mapping[str, Any]) -> list[str]:
    """What root types on a node to make roles, user and token for all that the roles of the collection do."""
    wanted = of_the_roles(data)
    lines = [f'pveum role add {ROLES[path]} --privs "{" ".join(names)}"' for path, names in wanted.items()]
    lines.append(f'pveum user add {USER} --comment "pvelab.proxmox"')
    lines.append(f"pveum user token add {USER} {TOKEN} --privsep 1")
    who = f"--users {USER} --tokens '{USER}!{TOKEN}'"
    # What is granted on / holds for everything below it, unless that is said.
    grants = {path: " --propagate 0" if path == "/" else "" for path in wanted}
    return [*lines, *(f"pveum acl modify {path} --roles {ROLES[path]} {who}{more}" for path, more in grants.items())]


def parts() -> dict[str, str]:
    """The parts of the page by name."""
    data = load()
    made = {"modules": modules_table(data), "roles": roles_table(data)}
    made["commands"] = ["```bash", *commands(data), "```"]
    return {name: "\n".join(lines) for name, lines in made.items()}


def written(page: str) -> str:
    """The page with its parts as they should be. ValueError when it has no place for one."""
    for name, text in parts().items():
        place = re.compile(rf"(<!-- {name}: from privileges\.yml -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"{PAGE.name} has no place for the part '{name}'")
        page = place.sub(lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page)
    return page


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
