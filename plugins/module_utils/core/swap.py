# SPDX-License-Identifier: GPL-3.0-or-later
"""Swap areas in files and on devices: what is in use, what the boot uses, the refusals and the steps. Pure.

Facts: swapon(8), mkswap(8) and fstab(5) of util-linux; mm/swapfile.c of Linux for /proc/swaps, whose sizes are KiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .disks import SETTLE, Disks, size
from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step, Write

FSTAB = "/etc/fstab"
FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs")
"""Where a swap file is nothing but its blocks. On btrfs it takes care of many kinds, and ZFS cannot hold one."""
# A file is made under this name, so that what is cut off half way is never taken for a swap area.
CANDIDATE = ".pvelab-new"


@dataclass(frozen=True)
class Area:
    """A swap area in use, from a line of /proc/swaps. ``priority`` is negative where the kernel chose it."""

    size_bytes: int
    used_bytes: int
    priority: int


@dataclass(frozen=True)
class Sight:
    """What a host shows of one swap area.

    ``real``: where its path leads; ``names``: what fstab may call it; ``fstype``: what is in the file or on the device
    ("swap"), None where there is no such file; ``bytes``: size of the file. ``place`` and ``room``: the type of the
    file system that it is to be on and the bytes that are free there. ``memory``: /proc/meminfo in bytes.
    """

    real: str
    names: frozenset[str]
    fstype: str | None
    bytes: int
    swaps: Mapping[str, Area]
    fstab: str
    place: str = ""
    room: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)
    disks: Disks | None = None

    @property
    def area(self) -> Area | None:
        """Its line of /proc/swaps."""
        return self.swaps.get(self.real)

    @property
    def boot(self) -> str:
        """The options of its line in fstab; empty where there is none."""
        line = next((w for w in map(str.split, self.fstab.splitlines()) if self.means(w)), [])
        return (line[3] if len(line) > 3 else "defaults") if line else ""

    def means(self, words: Sequence[str]) -> bool:
        """Whether the words of a line in fstab are about this area."""
        return len(words) > 2 and words[2] == "swap" and words[0] in self.names


def areas(text: str | None) -> dict[str, Area]:
    """/proc/swaps → {path: area}."""
    found = {}
    for line in (text or "").splitlines()[1:]:
        path, _kind, total, used, priority = line.split()
        name = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), path)
        found[name] = Area(int(total) << 10, int(used) << 10, int(priority))
    return found


def wanted(params: Params) -> State | None:
    """The wanted state; ``boot`` are the options of the line in fstab, of which only the priority is managed."""
    if params["state"] == "absent":
        return None
    seen: Sight | None = params.get("_seen")
    boot = boot_options(seen.boot if seen else "", params["priority"]) if params["persist"] else None
    return {
        "size_mib": params["size_mib"],
        "formatted": True,
        "active": True,
        "priority": params["priority"],
        "boot": boot,
    }


def boot_options(present: str, priority: int | None) -> str:
    """The options for fstab: those that are there, with this priority if one is given."""
    options = present.split(",") if present else ["defaults", "nofail"]
    if priority is None:
        return ",".join(options)
    return ",".join([*(o for o in options if not o.startswith("pri=")), f"pri={priority}"])


def observed(seen: Sight) -> State | None:
    """None where nothing is in use, nothing is in fstab and no file holds a swap area."""
    ours = seen.fstype == "swap" and seen.disks is None
    if not (seen.area or seen.boot or ours):
        return None
    return {
        "size_mib": seen.bytes >> 20 if seen.disks is None else None,
        "formatted": seen.fstype == "swap",
        "active": seen.area is not None,
        "priority": seen.area.priority if seen.area and seen.area.priority >= 0 else None,
        "boot": seen.boot,
    }


def refuse_device(path: str, real: str) -> None:
    """Raise Failure for devices that nothing should be swapped to."""
    if re.match(r"/dev/zd\d", real):
        raise Failure(
            f"{path} is a volume of ZFS, which needs memory itself in order to write what is swapped out, so that the "
            "host can hang. Name a partition or a file on another file system."
        )
    if re.match(r"/dev/zram\d", real):
        raise Failure(f"{path} is compressed memory. The module zram manages that.")


def refuse(params: Params, seen: Sight) -> None:
    """Raise Failure for a size that does not fit the place, and for a place that cannot hold a swap file."""
    path = params["path"]
    if seen.disks is not None:
        if params["size_mib"] is not None:
            raise Failure(f"{path} is a device, whose size is its own. Leave size_mib away.")
        return
    if params["size_mib"] is None and seen.fstype is None:
        raise Failure("there is no such file yet. Say how large it is to be with size_mib.")
    if seen.place not in FILE_SYSTEMS:
        raise Failure(
            f"{path} would be on {seen.place or 'no file system'}. A swap file takes one of "
            f"{', '.join(FILE_SYSTEMS)}; name another place, or a partition."
        )


def steps(plan: Plan, params: Params) -> list[Step]:
    """The steps. A new file is whole before the old one is given up. Raises Failure where memory or space is short."""
    seen: Sight = params["_seen"]
    path, changes = params["path"], set(plan.changes)
    if plan.action == "delete":
        gone: list[Step] = [*_off(seen, path), *_boot(seen, path, "")]
        if seen.disks is None and seen.fstype == "swap":
            gone.append(Write(path, None, label=f"remove {path}", backup=False))
        return gone
    made: list[Step] = []
    again = seen.fstype != "swap" or (seen.disks is None and "size_mib" in changes)
    if again:
        made = _file(params, seen) if seen.disks is None else _device(params, seen.disks)
    off = _off(seen, path) if again or "priority" in changes else []
    use: list[Step] = []
    if again or changes & {"active", "priority"}:
        priority = plan.after("priority")
        told = ("--priority", str(priority)) if priority is not None else ()
        use.append(Run(("swapon", *told, path), label=f"swap to {path}"))
    place = [_put(params, seen)] if again and seen.disks is None else []
    boot = _boot(seen, path, plan.after("boot")) if "boot" in changes else []
    return [*made, *off, *place, *use, *boot]


def need_room(swaps: Mapping[str, Area], path: str, memory: Mapping[str, int]) -> None:
    """Raise Failure where what is swapped out to an area has no place in memory and the other areas."""
    used = swaps[path].used_bytes if path in swaps else 0
    free = sum(a.size_bytes - a.used_bytes for name, a in swaps.items() if name != path)
    room = memory.get("MemAvailable", 0) + free
    if used > room:
        raise Failure(
            f"{size(used)} are swapped out to it, and only {size(room)} of memory and other swap are free to take them "
            "back. Stop guests first."
        )


def _off(seen: Sight, path: str) -> list[Step]:
    if seen.area is None:
        return []
    need_room(seen.swaps, seen.real, seen.memory)
    return [Run(("swapoff", seen.real), label=f"take back what is swapped out to {path}", timeout_s=1800.0)]


def _file(params: Params, seen: Sight) -> list[Step]:
    mib = params["size_mib"] if params["size_mib"] is not None else seen.bytes >> 20
    if mib << 20 >= seen.room:
        raise Failure(f"it takes {size(mib << 20)} and only {size(seen.room)} are free there.")
    candidate = params["path"] + CANDIDATE
    return [
        Run(("install", "--mode=0600", "/dev/null", candidate), label="a file that only root can read"),
        Run(("fallocate", "--length", f"{mib}MiB", candidate), label=f"give it {mib} MiB", timeout_s=600.0),
        Run(("mkswap", candidate), label="make a swap area in it"),
    ]


def _put(params: Params, seen: Sight) -> Run:
    path = params["path"]
    other = seen.fstype is not None and seen.fstype != "swap"
    lost = f"the file {path} with {size(seen.bytes)}, which is no swap area" if other else None
    return Run(("mv", "--force", "--no-target-directory", path + CANDIDATE, path), label=f"make {path}", destroys=lost)


def _device(params: Params, disks: Disks) -> list[Step]:
    made = Run(("mkswap", disks.path(params["path"])), label=f"make a swap area on {params['path']}")
    return [*disks.clearing(params["path"]), made, SETTLE]


def _boot(seen: Sight, path: str, options: str) -> list[Step]:
    """fstab with the area's line as it is to be, or without one; every other line stays as it is."""
    if seen.boot == options:
        return []
    lines, found = [], False
    for line in seen.fstab.splitlines():
        words = line.split()
        if not seen.means(words):
            lines.append(line)
        elif options and not found:
            lines.append(" ".join([*words[:3], options, *words[4:]]))
            found = True
    if options and not found:
        lines.append(f"{path} none swap {options} 0 0")
    text = "\n".join(lines) + "\n"
    written = Write(FSTAB, text, label=f"{'swap' if options else 'do not swap'} to {path} at boot")
    return [written, Run(("systemctl", "daemon-reload"), label="let systemd know")]
