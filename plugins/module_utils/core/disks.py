# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices: what is on one, who uses it, and which steps take it away. Pure.

The device tree is that of ``lsblk -J -b`` (util-linux 2.37 and later, lsblk(8)); its names of file systems are those of
libblkid ("LVM2_member", "zfs_member", "linux_raid_member", "crypto_LUKS").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .options import listed
from .steps import Failure, Missing, Run

COLUMNS = "NAME,PATH,TYPE,SIZE,MODEL,SERIAL,WWN,TRAN,ROTA,RM,RO,FSTYPE,LABEL,UUID,PTTYPE,MOUNTPOINTS,LOG-SEC,PHY-SEC"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_KINDS = {
    "LVM2_member": "an LVM physical volume",
    "zfs_member": "a ZFS label",
    "linux_raid_member": "a RAID member",
    "crypto_LUKS": "an encrypted volume",
    "swap": "swap space",
    "unreadable": "something that cannot be read",
}
# What libblkid calls partition tables, among the signatures that wipefs(8) finds.
_TABLES = frozenset(
    ("aix", "atari", "bsd", "dos", "gpt", "mac", "minix", "PMBR", "sgi", "solaris_x86", "sun", "ultrix", "unixware")
)
# Disks in name only: volumes of zpools, compressed memory, RAM disks and disks over the network.
_UNREAL = re.compile(r"/dev/(?:zd|zram|ram|nbd)\d")
UNREADABLE = {"type": "unreadable"}
_SYSTEM = frozenset({"/", "/boot", "/boot/efi", "/usr", "/var"})
SETTLE = Run(("udevadm", "settle", "--timeout=30"), label="wait until udev knows")


@dataclass(frozen=True)
class Device:
    """One block device with the devices that stand on it."""

    path: str
    facts: Mapping[str, Any]
    children: tuple[Device, ...] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Device:
        """From one entry of lsblk's JSON."""
        return cls(str(entry["path"]), entry, tuple(cls.of(c) for c in entry.get("children") or ()))

    def tree(self) -> Iterator[Device]:
        """It and everything that stands on it."""
        yield self
        for child in self.children:
            yield from child.tree()

    def own(self) -> Iterator[Device]:
        """It and its partitions: what a wipe of it takes away directly."""
        yield self
        for child in self.children:
            if child.kind == "part":
                yield from child.own()

    @property
    def kind(self) -> str:
        """disk, part, lvm, crypt, raid1, loop …"""
        return str(self.facts.get("type") or "")

    @property
    def fstype(self) -> str:
        """The name of the file system or member signature on it, or nothing."""
        return str(self.facts.get("fstype") or "")

    @property
    def mounts(self) -> list[str]:
        """Where it is mounted; "[SWAP]" if it is swapped to."""
        return [m for m in self.facts.get("mountpoints") or () if m]

    @property
    def unreal(self) -> bool:
        """True for what lsblk calls a disk and is none."""
        return _UNREAL.match(self.path) is not None

    @property
    def silent(self) -> bool:
        """True when lsblk tells of no contents: it is empty, or udev's database is not there to tell."""
        told = self.fstype or (self.kind != "part" and self.facts.get("pttype"))
        return not told and self.kind != "rom" and int(self.facts.get("size") or 0) > 0

    def signed(self, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Device:
        """It with the signatures that were found on it and on what stands on it: path → rows of wipefs(8)."""
        children = tuple(child.signed(found) for child in self.children)
        return replace(self, facts={**self.facts, **_told_by(found.get(self.path, ()))}, children=children)

    def __str__(self) -> str:
        told = [size(int(self.facts.get("size") or 0)), *(str(self.facts.get(k) or "") for k in ("model", "serial"))]
        return f"{self.path} ({', '.join(t.strip() for t in told if t.strip())})"


@dataclass(frozen=True)
class Disks:
    """All block devices of a host.

    ``links``: names below /dev/disk/by-id → device paths. ``groups``: physical volume → volume group ("" for none).
    ``volumes``: volume group → its logical volumes. ``pools``: device path → imported zpool. ``aliases``: what the task
    calls a device → its path. ``mapped``: the kernel's path of a volume (/dev/dm-0) → the one that lsblk and LVM have
    (/dev/mapper/pve-swap), which is the one that counts here.
    """

    devices: tuple[Device, ...]
    links: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    mapped: Mapping[str, str] = field(default_factory=dict)

    def find(self, called: str) -> Device:
        """The device that a task names by any of its paths. Raises Missing when there is none."""
        path = self.path(called)
        for top in self.devices:
            for device in top.tree():
                if device.path == path:
                    return device
        raise Missing(f"there is no block device {called}. The module disk_info lists those that there are.")

    def path(self, called: str) -> str:
        """The path of a device as lsblk has it, whichever of its names a task uses."""
        return self.aliases.get(called, called)

    def whole(self, path: str) -> str:
        """The disk that a partition is on; any other path stays as it is."""
        for top in self.devices:
            if any(d.path == path for d in top.own()):
                return top.path
        return path

    def by_id(self, path: str) -> list[str]:
        """Its lasting names, most telling first: those with model and serial number before bare numbers."""
        # The name of a physical volume is gone with what is on the device.
        found = [n for n, target in self.links.items() if target == path and not n.startswith("lvm-pv-uuid-")]
        return [f"/dev/disk/by-id/{n}" for n in sorted(found, key=lambda n: (n.startswith(("wwn-", "nvme-eui.")), n))]

    def lasting(self, called: str) -> str:
        """The name to give to what remembers it: the one of the task if that lasts, else one below by-id."""
        return called if called.startswith("/dev/disk/") else next(iter(self.by_id(self.path(called))), called)

    def contents(self, device: Device) -> list[str]:
        """What is on a device and its partitions, in words; nothing for an empty one."""
        said = []
        for part in device.own():
            place = "" if part is device else f" on {part.path}"
            if part.facts.get("pttype") and part.kind != "part":
                count = sum(c.kind == "part" for c in part.children)
                said.append(f"a {part.facts['pttype']} partition table with {count} partition{'s' * (count != 1)}")
            if part.fstype:
                said.append(f"{self._signature(part)}{place}")
        return said

    def _signature(self, part: Device) -> str:
        what = _KINDS.get(part.fstype, f"a file system ({part.fstype})")
        label = str(part.facts.get("label") or "")
        if part.fstype == "LVM2_member":
            group = self.groups.get(part.path, "")
            held = list(self.volumes.get(group, ()))
            inside = f" with the logical volumes {listed(held)}" if held else ""
            return f"{what} of volume group {group}{inside}" if group else what
        if part.fstype == "zfs_member" and label:
            return f"{what} of pool {label}"
        return f"{what} {label!r}" if label else what

    def users(self, device: Device) -> list[str]:
        """Who uses a device or anything on it right now, in words."""
        said = []
        for part in device.tree():
            said += ["used as swap" if m == "[SWAP]" else f"mounted on {m} ({part.path})" for m in part.mounts]
            if group := self.groups.get(part.path):
                said.append(f"in volume group {group}")
            if pool := self.pools.get(part.path):
                said.append(f"in zpool {pool}")
            said += [f"the base of {c.path} ({c.kind})" for c in part.children if c.kind not in ("part", "lvm")]
        return list(dict.fromkeys(said))

    def is_system(self, device: Device) -> bool:
        """True when the running system itself is on it."""
        return any(m in _SYSTEM for d in device.tree() for m in d.mounts)

    def clearing(self, called: str) -> list[Run]:
        """The steps that leave a device empty; none if it is. Raises Failure while anything uses it."""
        device = self.find(called)
        if self.is_system(device):
            raise Failure(f"the running system is on {device}. Name another device.")
        if users := self.users(device):
            raise Failure(f"{device} is {listed(users)}. Take it out of use first.")
        if device.facts.get("ro"):
            raise Failure(f"{device} is read-only. Make it writable first.")
        if not (found := self.contents(device)):
            return []
        argv = ["wipefs", "--all", "--force", *(p.path for p in reversed(list(device.own())) if p is not device)]
        lost = f"{listed(found)} on {self.told(called)}"
        steps = [Run((*argv, device.path), label=f"clear {device.path}", destroys=lost)]
        if device.facts.get("pttype") and device.kind != "part":
            # While udev looks at the partitions, the kernel cannot forget them.
            steps.append(SETTLE)
            steps.append(Run(("blockdev", "--rereadpt", device.path), label=f"forget partitions of {device.path}"))
        return [*steps, SETTLE]

    def told(self, called: str) -> str:
        """A device as a refusal names it: by the task's name, its path, size, model and serial number."""
        device = self.find(called)
        return str(device) if called == device.path else f"{called}, which is {device}"


def _told_by(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """lsblk's facts out of signatures. Several kinds at once make one that is none of them, so that none is trusted."""
    kinds = list(dict.fromkeys(str(row["type"]) for row in rows))
    tables = sorted((k for k in kinds if k in _TABLES), key=lambda k: k == "PMBR")
    others = [k for k in kinds if k not in _TABLES]
    facts: dict[str, Any] = {"pttype": tables[0]} if tables else {}
    if others:
        first = next(row for row in rows if row["type"] == others[0])
        facts |= {"fstype": " and ".join(others), "label": first.get("label"), "uuid": first.get("uuid")}
    return facts


def size(count: int) -> str:
    """Bytes for people: 10737418240 → "10 GiB"."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}".replace(".0 ", " ")


def storages(text: str) -> list[dict[str, str]]:
    """The sections of Proxmox VE's storage.cfg: ``type``, ``storage`` and the section's own keys."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        head, _none, rest = line.strip().partition(" " if line[:1].isspace() else ":")
        if line[:1].isspace() and found and head:
            found[-1][head] = rest.strip()
        elif head and rest and not head.startswith("#"):
            found.append({"type": head, "storage": rest.strip()})
    return found


def stored_on(disks: Disks, device: Device, sections: Sequence[Mapping[str, str]]) -> list[str]:
    """The storages of Proxmox VE whose volumes are on a device: by volume group, zpool, or a directory's mount."""
    parts = list(device.tree())
    groups = {g for p in parts if (g := disks.groups.get(p.path))}
    pools = {z for p in parts if (z := disks.pools.get(p.path))}
    mounts = [m for top in disks.devices for d in top.tree() for m in d.mounts]
    here = {m for p in parts for m in p.mounts}
    named = set()
    for section in sections:
        path = section.get("path", "")
        over = [m for m in mounts if path == m or path.startswith(m.rstrip("/") + "/")] if path else []
        nearest = max(over, key=len, default="")
        if section.get("vgname") in groups or section.get("pool", "").split("/")[0] in pools or nearest in here:
            named.add(section["storage"])
    return sorted(named)
