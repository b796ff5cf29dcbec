# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of a swap area, through the seam that is handed in."""

from __future__ import annotations

from typing import Any

from .core import swap
from .core.memory import meminfo
from .core.reconcile import Params
from .core.state import State
from .core.steps import Failure
from .disk_reads import survey as survey_disks

_BY_UUID = "/dev/disk/by-uuid/"


def survey(host: Any, params: Params) -> dict[str, Any]:
    """What there is. Raises Failure for a path that cannot hold a swap area, Missing for a device that is not there."""
    path = params["path"]
    if not path.startswith("/") or path != path.rstrip("/") or ".." in path.split("/") or " " in path:
        raise Failure(f"{path} is not the absolute path of a file or device. Give one such as /swapfile.")
    if params["state"] == "present":
        swap.refuse_device(path, host.link(path) or path)
    seen = look(host, params)
    if params["state"] == "present":
        swap.refuse(params, seen)
    return {"_seen": seen}


def read(host: Any, params: Params) -> State | None:
    """The observed state."""
    return swap.observed(look(host, params))


def look(host: Any, params: Params) -> swap.Sight:
    """All that matters about one swap area. Raises Failure, and Missing for a device that is not there."""
    path = params["path"]
    real = host.link(path) or path
    fstab = host.read(swap.FSTAB) or ""
    common: dict[str, Any] = {
        "real": real,
        "swaps": swap.areas(host.read("/proc/swaps")),
        "fstab": fstab,
        "memory": meminfo(host.read("/proc/meminfo")),
    }
    if path.startswith("/dev/"):
        return _device(host, path, common)
    return _file(host, path, common)


def _device(host: Any, path: str, common: dict[str, Any]) -> swap.Sight:
    disks = survey_disks(host, [path])
    device = disks.find(path)
    uuid = str(device.facts.get("uuid") or "")
    specs = {w[0] for w in map(str.split, common["fstab"].splitlines()) if len(w) > 2 and w[2] == "swap"}
    same = {s for s in specs if s.startswith("/dev/") and host.link(s) == common["real"]}
    names = frozenset({path, *same, *((f"UUID={uuid}", f"{_BY_UUID}{uuid}") if uuid else ())})
    return swap.Sight(names=names, fstype=device.fstype, bytes=0, disks=disks, **common)


def _file(host: Any, path: str, common: dict[str, Any]) -> swap.Sight:
    directory = path.rpartition("/")[0] or "/"
    if host.link(directory) is None:
        raise Failure(f"there is no directory {directory}. Make it first.")
    fstype, count = None, 0
    if host.link(path) is not None:
        fstype = host.query(["blkid", "-p", "-s", "TYPE", "-o", "value", path], ok_rcs=(0, 2)).strip()
        count = int(host.query(["stat", "--dereference", "--format=%s", path]))
    place = host.query(["findmnt", "--noheadings", "--output=FSTYPE", f"--target={directory}"]).strip()
    room = int(host.query(["df", "--block-size=1", "--output=avail", directory]).split()[-1])
    names = frozenset({path, common["real"]})
    return swap.Sight(names=names, fstype=fstype, bytes=count, place=place, room=room, **common)
