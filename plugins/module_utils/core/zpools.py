# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of zpools as ``zpool status -P`` and ``-jP`` show them (zpool-status(8), OpenZFS 2.1 to 2.3).

Pure. A device is called what ZFS calls it: the path that it was given, or its GUID once it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_CLASSES = {"logs": "log", "cache": "cache", "l2cache": "cache", "spares": "spare"}
_CLASSES |= {role: role for role in ("special", "dedup")}
_GROUP = re.compile(r"(mirror|raidz[123]|draid[123]|replacing|spare)(?::\S+)?-\d+")


@dataclass
class Vdev:
    """A group of devices. ``kind``: disk, mirror, raidz1, raidz2, raidz3 …; ``role``: data, log, cache, spare …"""

    kind: str
    role: str
    devices: list[str] = field(default_factory=list)


@dataclass
class Pool:
    """A pool: its groups in order, and whether it is copying onto a device. ``paths``: device → the kernel's path."""

    vdevs: list[Vdev] = field(default_factory=list)
    resilvering: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Node:
    name: str
    children: list[_Node] = field(default_factory=list)

    def vdev(self, role: str) -> Vdev:
        kind = self.kind
        return Vdev("disk" if kind in ("replacing", "spare") else kind, role, self.members())

    @property
    def kind(self) -> str:
        found = _GROUP.fullmatch(self.name)
        return found[1] if found else "disk"

    def members(self) -> list[str]:
        """Its devices: of one that is being replaced the new one, of one that a spare stands in for the lasting one."""
        if not self.children:
            return [self.name]
        chosen = {"replacing": self.children[-1:], "spare": self.children[:1]}.get(self.kind, self.children)
        return [device for child in chosen for device in child.members()]


def from_json(answer: Mapping[str, Any]) -> dict[str, Pool]:
    """All pools of ``zpool status -jP``."""
    found = {}
    for name, told in (answer.get("pools") or {}).items():
        roots = (told.get("vdevs") or {}).values()
        vdevs = [node.vdev("data") for root in roots for node in _nodes(root.get("vdevs"))]
        for key, role in _CLASSES.items():
            vdevs += [node.vdev(role) for node in _nodes(told.get(key))]
        scan = told.get("scan_stats") or {}
        found[name] = Pool(vdevs, (scan.get("function"), scan.get("state")) == ("RESILVER", "SCANNING"))
    return found


def _nodes(entries: Mapping[str, Any] | None) -> list[_Node]:
    return [_Node(name, _nodes(entry.get("vdevs"))) for name, entry in (entries or {}).items()]


def from_text(text: str) -> dict[str, Pool]:
    """All pools of ``zpool status -P``."""
    found = {}
    for name, lines, scan in _configs(text):
        vdevs: list[Vdev] = []
        role = "data"
        for index, (depth, word) in enumerate(lines):
            if depth == 0:
                # The first line is the pool itself, whatever its name.
                role = _CLASSES.get(word, "data") if index else "data"
            elif depth == 1:
                vdevs.append(_tree(lines, index).vdev(role))
        found[name] = Pool(vdevs, re.match(r"resilver.* in progress", scan) is not None)
    return found


def _tree(lines: Sequence[tuple[int, str]], start: int) -> _Node:
    """The node of one line with those of the deeper lines after it."""
    depth, word = lines[start]
    node = _Node(word)
    for index in range(start + 1, len(lines)):
        if lines[index][0] <= depth:
            break
        if lines[index][0] == depth + 1:
            node.children.append(_tree(lines, index))
    return node


def _configs(text: str) -> Iterator[tuple[str, list[tuple[int, str]], str]]:
    """Each pool's name, the (depth, first word) of the lines of its configuration, and what it says of its scan."""
    for part in re.split(r"(?m)^ *pool: ", text)[1:]:
        name, _none, rest = part.partition("\n")
        scan = re.search(r"(?m)^ *scan: (.*)", rest)
        lines: list[tuple[int, str]] = []
        for line in re.split(r"(?m)^errors:", rest.partition("\nconfig:")[2])[0].splitlines():
            body = line.removeprefix("\t")
            if line.startswith("\t") and body.strip() and body.split()[0] != "NAME":
                lines.append(((len(body) - len(body.lstrip(" "))) // 2, body.split()[0]))
        yield name.strip(), lines, scan[1] if scan else ""


def importable(text: str) -> list[str]:
    """The names of the pools that ``zpool import`` lists."""
    return [
        rest.strip()
        for line in text.splitlines()
        for key, _none, rest in [line.strip().partition(":")]
        if key == "pool"
    ]
