# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests have plugged into the kernel's bridges, kept over a reload of the network.

The ifupdown2 of Proxmox VE leaves ports called tap…, veth… and fwpr… on their bridges (bridge-ports-condone-regex has a
default there). That of Debian takes off whatever the file does not name, and brings it down.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.storage.run import run

GUESTS = re.compile(r"^(tap|veth|fwpr)")
SYS_NET = Path("/sys/class/net")
_FLAGS = {"PVID": "pvid", "Egress Untagged": "untagged"}


@dataclass(frozen=True)
class Port:
    """A guest's end on a bridge. ``vlans`` are what ``bridge vlan add`` takes."""

    name: str
    bridge: str
    vlans: tuple[tuple[str, ...], ...]


@contextlib.asynccontextmanager
async def kept() -> AsyncIterator[None]:
    """Whatever becomes of the block, what is unplugged after it is plugged in again, with the VLANs it had."""
    before = await plugged()
    try:
        yield
    finally:
        for port in before:
            await _plug(port)


async def plugged() -> list[Port]:
    """The ports of guests."""
    links = json.loads(await run(["ip", "-j", "link", "show"], timeout=10) or "[]")
    tables = json.loads(await run(["bridge", "-j", "vlan", "show"], timeout=10) or "[]")
    vlans = {row["ifname"]: tuple(_vlan(v) for v in row.get("vlans", [])) for row in tables}
    mine = [x for x in links if GUESTS.match(x["ifname"]) and x.get("master")]
    return [Port(x["ifname"], x["master"], vlans.get(x["ifname"], ())) for x in mine]


def _vlan(row: Mapping[str, Any]) -> tuple[str, ...]:
    vid = f"{row['vlan']}-{row['vlanEnd']}" if "vlanEnd" in row else str(row["vlan"])
    return ("vid", vid, *(_FLAGS[f] for f in row.get("flags", []) if f in _FLAGS))


async def _plug(port: Port) -> None:
    """A guest that has ended meanwhile, or a bridge that is gone, is left out."""
    here, bridge = SYS_NET / port.name, SYS_NET / port.bridge / "bridge"
    if not here.is_dir() or (here / "master").exists() or not bridge.is_dir():
        return
    with contextlib.suppress(ApiError):
        await run(["ip", "link", "set", "dev", port.name, "master", port.bridge, "up"], timeout=10)
        if port.vlans:
            await run(["bridge", "vlan", "del", "dev", port.name, "vid", "1"], timeout=10)
        for vlan in port.vlans:
            await run(["bridge", "vlan", "add", "dev", port.name, *vlan], timeout=10)
