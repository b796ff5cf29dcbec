# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a guest is on this host: its process, its control group, its network taps, its disks."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from . import shell
from .node import Node
from .plan import Plan
from .shell import Skip, Trouble

CGROUPS = Path("/sys/fs/cgroup")
NET = Path("/sys/class/net")
BLOCK = Path("/sys/dev/block")


def pid(plan: Plan, vmid: int) -> int | None:
    """The process id of a guest's QEMU, None where it does not run."""
    try:
        number = int(plan.place("pid", vmid).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return number if state(number) not in (None, "Z") else None


def state(number: int) -> str | None:
    """The state of a process as its letter (R, S, D, T, Z), None where there is none."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[0]


def running(plan: Plan, vmid: int) -> int:
    """The process id of a guest's QEMU. Raises Trouble where it does not run."""
    number = pid(plan, vmid)
    if number is None:
        raise Trouble(
            f"guest {vmid} does not run on {plan.node} (no process in {plan.place('pid', vmid)}); start it first"
        )
    return number


def cgroup(plan: Plan, vmid: int) -> Path:
    """The control group of a guest's QEMU. Raises Skip where it has none of its own."""
    number = running(plan, vmid)
    text = Path(f"/proc/{number}/cgroup").read_text(encoding="ascii")
    path = CGROUPS / text.strip().rpartition("::/")[2]
    if not re.fullmatch(rf"(?!session-)(.*\W)?{vmid}\.scope", path.name):
        raise Skip(f"guest {vmid} has no control group of its own (it is in {path}), so others would be hit, too")
    return path


def taps(vmid: int) -> list[str]:
    """The network taps of a guest that are there."""
    return sorted(path.name for path in NET.glob(f"tap{vmid}i*"))


def tap(plan: Plan, vmid: int) -> str:
    """One tap of a guest, by the option `nic` (net0). Raises Trouble where it is not there."""
    name = f"tap{vmid}i{str(plan.options.get('nic') or 'net0').removeprefix('net')}"
    if name not in taps(vmid):
        raise Trouble(f"guest {vmid} has no {name} on this host; there is {', '.join(taps(vmid)) or 'none'}")
    return name


def vlans(name: str) -> list[dict[str, Any]]:
    """The VLANs of a bridge's port: rows with vlan and flags. Raises Trouble."""
    rows = json.loads(shell.run(["bridge", "-j", "vlan", "show", "dev", name]) or "[]")
    return list(rows[0]["vlans"]) if rows else []


def disk(plan: Plan, node: Node, vmid: int) -> Path:
    """Where the first disk of a guest lies on this host. Raises Trouble where the node does not say."""
    config = node.get(f"/nodes/{{node}}/qemu/{vmid}/config")
    order = re.findall(r"(?:scsi|virtio|sata|ide)\d+", str(config.get("boot", "")))
    for key in [*order, "scsi0", "virtio0", "sata0", "ide0"]:
        volume = str(config.get(key, "")).partition(",")[0]
        if ":" in volume and "media=cdrom" not in str(config[key]):
            return _path(plan, node, volume)
    raise Trouble(f"guest {vmid} has no disk")


def held_by(path: Path) -> str | None:
    """Through which block device QEMU's writes to a disk go, as MAJOR:MINOR: the disk itself where it is a device, else
    that of its file system, and the whole of it where that is a partition. None where no such device is known. Raises
    Trouble where there is no such disk."""
    try:
        found = path.stat()
    except OSError as error:
        raise Trouble(f"{path} is to be a guest's disk, and cannot be looked at: {error.strerror}") from error
    number = found.st_rdev if stat.S_ISBLK(found.st_mode) else found.st_dev
    device = BLOCK / f"{os.major(number)}:{os.minor(number)}"
    if not device.exists():
        return None
    whole = device.resolve().parent if (device / "partition").exists() else device
    return (whole / "dev").read_text(encoding="ascii").strip()


def _path(plan: Plan, node: Node, volume: str) -> Path:
    storage, _colon, name = volume.partition(":")
    # The name of a linked clone begins with that of what it is a clone of.
    directory, _slash, disk = name.rpartition("/")
    found = node.get(f"/storage/{storage}")
    if found["type"] == "lvmthin" or found["type"] == "lvm":
        return Path("/dev", str(found["vgname"]), disk)
    if found["type"] == "zfspool":
        return Path("/dev/zvol", str(found["pool"]), disk)
    if found.get("path"):
        return Path(found["path"]) / plan.places.get("images", "images") / directory.rpartition("/")[2] / disk
    raise Trouble(f"{volume} lies on a storage of type {found['type']}, whose place on this host is not known")
