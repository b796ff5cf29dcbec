# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of zpools as ``zpool status -LP`` shows them (zpool-status(8), OpenZFS 2.1 to 2.3). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_CLASSES = {"logs": "log", "cache": "cache", "spares": "spare", "special": "special", "dedup": "dedup"}
_GROUPS = ("mirror-", "raidz", "draid", "replacing-", "spare-")


@dataclass
class Vdev:
    """A group of devices. ``kind``: disk, mirror, raidz1, raidz2, raidz3 …; ``role``: data, log, cache, spare …"""

    kind: str
    role: str
    devices: list[str] = field(default_factory=list)


def parse(text: str) -> dict[str, list[Vdev]]:
    """All pools of the output: name → its vdevs in order. Devices are named by the paths that are printed."""
    pools: dict[str, list[Vdev]] = {}
    for name, lines in _configs(text):
        vdevs: list[Vdev] = []
        role = "data"
        for depth, word in lines:
            if depth == 0:
                role = _CLASSES.get(word, "data")
            elif depth == 1 and word.startswith(_GROUPS):
                vdevs.append(Vdev(word.split(":")[0].rsplit("-", 1)[0], role))
            elif depth == 1:
                vdevs.append(Vdev("disk", role, [word]))
            elif not word.startswith(_GROUPS):
                vdevs[-1].devices.append(word)
        pools[name] = vdevs
    return pools


def _configs(text: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Each pool's name and the (depth, first word) of the lines of its configuration."""
    lines: list[tuple[int, str]] = []
    name, inside = "", False
    for line in text.splitlines():
        key, _none, rest = line.strip().partition(":")
        if key == "pool" and line.startswith(" "):
            if name:
                yield name, lines
            name, lines, inside = rest.strip(), [], False
        elif line.startswith("config:"):
            inside = True
        elif line.startswith("errors:"):
            inside = False
        elif inside and line.startswith("\t") and line.split()[0] != "NAME":
            body = line[1:]
            lines.append(((len(body) - len(body.lstrip(" "))) // 2, body.split()[0]))
    if name:
        yield name, lines


def importable(text: str) -> list[str]:
    """The names of the pools that ``zpool import`` lists."""
    return [
        rest.strip()
        for line in text.splitlines()
        for key, _none, rest in [line.strip().partition(":")]
        if key == "pool"
    ]
