# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema table in memory: which paths and methods exist, and what each method takes and asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

Facts = Mapping[str, Any]

# How many of each numbered parameter there are (qemu-server, pve-container and corosync facts).
COUNTS = {
    "acmedomain": 6, "dev": 256, "hostpci": 16, "ide": 4, "ipconfig": 32, "link": 8, "mp": 256, "net": 32, "numa": 8,
    "parallel": 3, "sata": 6, "scsi": 31, "serial": 4, "unused": 256, "usb": 14, "virtio": 16, "virtiofs": 10,
}  # fmt: skip

# Path parameters that take the rest of the path, slashes included.
_REST = {"{volume}", "{cidr}"}


@dataclass(frozen=True)
class Method:
    """One API method. ``perm`` is "all", "world", a check as Proxmox VE writes it, or None for root@pam only.

    ``params`` maps names to facts, or is None where labnode knows only that the method exists. ``token`` says
    whether an API
    token may call it, ``node`` whether it belongs to the node named in the path, ``null`` whether it returns nothing.
    """

    method: str
    path: str
    params: Mapping[str, Facts] | None
    perm: Any = None
    token: bool = True
    node: bool = False
    null: bool = False


@dataclass
class _Branch:
    children: dict[str, _Branch] = field(default_factory=dict)
    path: str | None = None


class Table:
    """All paths of Proxmox VE 9.1."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self._root = _Branch()
        for path in data["paths"]:
            branch = self._root
            for part in path.strip("/").split("/"):
                branch = branch.children.setdefault(part, _Branch())
            branch.path = path

    def paths(self) -> list[str]:
        """Every path as the schema spells it."""
        return list(self._data["paths"])

    def find(self, path: str) -> tuple[str, dict[str, str]] | None:
        """The schema path that an (unquoted) request path belongs to, with its path parameters; None if there is
        none."""
        parts = [part for part in path.split("/") if part]
        branch, values = self._root, {}
        for index, part in enumerate(parts):
            if part in branch.children:
                branch = branch.children[part]
                continue
            name = next((child for child in branch.children if child.startswith("{")), None)
            if name is None:
                return None
            branch = branch.children[name]
            rest = name in _REST and not branch.children
            values[name.strip("{}")] = "/".join(parts[index:]) if rest else part
            if rest:
                break
        return (branch.path, values) if branch.path else None

    def methods(self, path: str) -> list[str]:
        """Names of the methods of a schema path."""
        return list(self._data["paths"].get(path, ()))

    @cache  # noqa: B019 - one table lives as long as the process
    def method(self, method: str, path: str) -> Method | None:
        """The facts of a method of a schema path, None when Proxmox VE has no such method."""
        known = self._data["paths"].get(path, {})
        if method not in known:
            return None
        facts = known[method]
        if facts is None:
            return Method(method, path, None, node="{node}" in path)
        params = {name: self._data["params"][index] for name, index in facts.get("p", {}).items()}
        for name in re.findall(r"{([^}]+)}", path):
            params.setdefault(name, {"type": "string"})
        return Method(
            method,
            path,
            expand(params),
            facts.get("perm"),
            bool(facts.get("token", 1)),
            "node" in facts,
            "null" in facts,
        )


def expand(params: Mapping[str, Facts]) -> dict[str, Facts]:
    """Parameters with each ``name[n]`` written out as ``name0``, ``name1`` and so on."""
    full: dict[str, Facts] = {}
    for name, facts in params.items():
        base = name.removesuffix("[n]")
        if base == name:
            full[name] = facts
        else:
            full.update({f"{base}{n}": facts for n in range(COUNTS[base])})
    return full


@cache
def table() -> Table:
    """The table that comes with labnode."""
    return Table(json.loads(resources.files("labnode.schema").joinpath("table.json").read_text(encoding="utf-8")))
