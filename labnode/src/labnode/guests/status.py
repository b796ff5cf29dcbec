# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is doing: the rows of the list of guests and of ``status/current`` (``vmstatus`` of qemu-server)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from labnode.guests import related, values
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import boot_disk
from labnode.guests.propstring import Format, PropertyError, parse
from labnode.route import Raw

if TYPE_CHECKING:
    from labnode.guests.service import GuestService
    from labnode.machine.model import RunInfo

MIB = 1 << 20
# what Proxmox VE's patches to QEMU can do and a stock QEMU cannot
SUPPORT = {
    "backup-access-api": False,
    "backup-fleecing": False,
    "backup-max-workers": False,
    "pbs-dirty-bitmap": False,
    "pbs-dirty-bitmap-migration": False,
    "pbs-dirty-bitmap-savevm": False,
    "pbs-library-version": "none",
    "pbs-masterkey": False,
    "query-bitmap-info": False,
}
PRESSURE = tuple(f"pressure{what}{how}" for what in ("cpu", "io", "memory") for how in ("full", "some"))


async def guest_status(g: GuestService, vmid: int, *, full: bool = True) -> dict[str, Any]:
    """One row; ``full`` adds what only the running QEMU knows. Sizes in bytes, uptime in seconds."""
    conf = g.load(vmid)
    row = _static(vmid, conf)
    info = await g.machines.info(vmid, conf.main) if g.running(vmid) else None
    if info is None:
        return {**row, "qmpstatus": "stopped"} if full else row
    row.update(
        status="running",
        pid=info.pid,
        uptime=info.uptime,
        cpu=info.cpu,
        mem=info.mem,
        memhost=info.memhost,
        netin=info.netin,
        netout=info.netout,
        diskread=info.diskread,
        diskwrite=info.diskwrite,
        **dict.fromkeys(PRESSURE, 0),
    )
    if full:
        row.update(_live(info))
    return row


def _static(vmid: int, conf: GuestConfig) -> dict[str, Any]:
    main = conf.main
    disk = boot_disk(main)
    count = os.cpu_count() or 1
    row: dict[str, Any] = {
        "vmid": vmid,
        "name": main.get("name") or f"VM {vmid}",
        "status": "stopped",
        "cpus": int(main["vcpus"]) if main.get("vcpus", "0") != "0" else min(values.cpus(main), count),
        "maxmem": values.memory_mib(main) * MIB,
        "maxdisk": (disk.size or 0) if disk else 0,
        **dict.fromkeys(("cpu", "disk", "mem", "memhost", "netin", "netout", "uptime"), 0),
    }
    if main.get("balloon", "0") != "0":
        row.update(balloon_min=int(main["balloon"]) * MIB, shares=int(main.get("shares", "1000")))
    if conf.is_template:
        row["template"] = 1
    if any(f"serial{i}" in main for i in range(4)):
        row["serial"] = 1
    row.update({key: main[key] for key in ("lock", "tags") if main.get(key)})
    return row


def _live(info: RunInfo) -> dict[str, Any]:
    found: dict[str, Any] = {
        "qmpstatus": info.qmpstatus,
        "nics": info.nics,
        "blockstat": info.blockstat,
        "running-machine": info.running_machine,
        "running-qemu": info.running_qemu,
        "proxmox-support": dict(SUPPORT),
    }
    if info.balloon is not None:
        found.update(balloon=info.balloon, ballooninfo=info.ballooninfo)
        found["maxmem"] = info.ballooninfo.get("max_mem", info.balloon)
        if free := info.ballooninfo.get("free_mem"):
            found["freemem"] = free
    return found


async def current(g: GuestService, vmid: int) -> dict[str, Any]:
    """``GET .../status/current``: the full row with HA, display and agent."""
    main = g.load(vmid).main
    row = await guest_status(g, vmid)
    row.update({key: Raw(row[key]) for key in ("blockstat", "proxmox-support") if key in row})
    state = related.ha_state(g, vmid)
    row["ha"] = {"managed": 1, "state": state} if state else {"managed": 0}
    row.update(_display(main))
    if values.agent(main):
        row["agent"] = 1
    return row


def _display(main: Section) -> dict[str, Any]:
    try:
        vga = parse(main.get("vga", ""), Format("type"))
    except PropertyError:
        return {}
    found: dict[str, Any] = {"spice": 1} if vga.get("type", "").startswith(("qxl", "virtio")) else {}
    return {**found, "clipboard": vga["clipboard"]} if "clipboard" in vga else found
