# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated dist-upgrade as data. Pure. Facts: the lines that `apt-get -s` prints, apt-get(8) of apt 2.6 and 3.0."""

from __future__ import annotations

import re
from typing import Any

# Inst NAME [OLD] (NEW SOURCE:RELEASE/SUITE [ARCHITECTURE]) …
_INSTALL = re.compile(r"^Inst (?P<name>\S+) (?:\[(?P<old>[^\]]+)\] )?\((?P<new>\S+)")
_REMOVE = re.compile(r"^(?:Remv|Purg) (?P<name>\S+)(?: \[(?P<old>[^\]]+)\])?")
# Their upstream major versions are the releases of Debian and of Proxmox VE.
MARKS = ("base-files", "pve-manager")


def simulated(said: str) -> dict[str, Any]:
    """{install, upgrade, remove, release_changes}: versions by package; the last by mark, "12 → 13"."""
    install, upgrade, remove = {}, {}, {}
    for line in said.splitlines():
        if found := _INSTALL.match(line):
            if found["old"]:
                upgrade[found["name"]] = {"from": found["old"], "to": found["new"]}
            else:
                install[found["name"]] = found["new"]
        elif found := _REMOVE.match(line):
            remove[found["name"]] = found["old"] or ""
    changes = {
        name: f"{major(upgrade[name]['from'])} → {major(upgrade[name]['to'])}"
        for name in MARKS
        if name in upgrade and major(upgrade[name]["from"]) != major(upgrade[name]["to"])
    }
    return {"install": install, "upgrade": upgrade, "remove": remove, "release_changes": changes}


def major(version: str) -> str:
    """The first number of a version, without its epoch."""
    return re.split(r"[^0-9]", version.rpartition(":")[2], maxsplit=1)[0]
