# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshots of a guest: what the API lists, which of them retention gives up, which of them block a rollback."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .options import moment
from .steps import Call, Failure

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")
DISK = re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate)\d+")


@dataclass(frozen=True)
class Snapshot:
    """One snapshot. ``time`` is in seconds since 1970; ``half`` is "prepare" or "delete" where a task was cut off."""

    name: str
    time: int
    description: str = ""
    ram: bool = False
    parent: str = ""
    half: str = ""

    def __str__(self) -> str:
        return f"{self.name}, taken {moment(self.time)}{' with RAM' if self.ram else ''}"


@dataclass(frozen=True)
class Listing:
    """All snapshots of a guest, oldest first; ``current`` is the one that the guest's state follows."""

    snapshots: tuple[Snapshot, ...]
    running: bool
    current: str

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> Listing:
        """From GET …/snapshot, whose pseudo entry "current" is the guest itself (qemu-server API2/Qemu.pm)."""
        real = {str(e["name"]): _snapshot(e) for e in entries if e["name"] != "current"}
        now: Mapping[str, Any] = next((e for e in entries if e["name"] == "current"), {})
        order = sorted(real.values(), key=lambda s: (s.time, len(_ancestors(s, real)), s.name))
        return cls(tuple(order), bool(int(now.get("running") or 0)), str(now.get("parent") or ""))

    @property
    def names(self) -> list[str]:
        """The names, oldest first."""
        return [s.name for s in self.snapshots]

    def get(self, name: str | None) -> Snapshot | None:
        """The snapshot of this name, or None."""
        return next((s for s in self.snapshots if s.name == name), None)

    def matching(self, pattern: str) -> list[str]:
        """The names of the whole snapshots that retention looks at, oldest first."""
        return [s.name for s in self.snapshots if fnmatchcase(s.name, pattern) and not s.half]

    def surplus(self, pattern: str, keep: int, coming: str | None = None) -> list[str]:
        """What retention gives up, oldest first, when ``coming`` is about to be taken (or is there): never that one."""
        matched = self.matching(pattern)
        if coming and fnmatchcase(coming, pattern):
            matched = [*(n for n in matched if n != coming), coming]
        return [n for n in matched[: max(0, len(matched) - keep)] if n != coming]

    def retained(self, pattern: str, keep: int, coming: str | None = None) -> list[str]:
        """What is left of the series afterwards, by name."""
        left = {*self.matching(pattern), *([coming] if coming and fnmatchcase(coming, pattern) else [])}
        return sorted(left - set(self.surplus(pattern, keep, coming)))

    def half(self, pattern: str | None = None) -> list[Snapshot]:
        """The snapshots of a series (without ``pattern``: of none) that were cut off half way."""
        return [s for s in self.snapshots if s.half and pattern is not None and fnmatchcase(s.name, pattern)]

    def newer(self, than: Snapshot) -> list[str]:
        """The names of the snapshots taken after one, oldest first."""
        return self.names[self.names.index(than.name) + 1 :]


def check_name(name: str) -> None:
    """Raises Failure for a name that Proxmox VE refuses (format pve-configid, at most 40, "current" is its own)."""
    if not NAME.fullmatch(name) or name == "current":
        raise Failure(
            f"'{name}' cannot name a snapshot: it takes 2 to 40 letters, digits, - and _, begins with a letter, "
            "and is not 'current'."
        )


def check_snapshot_options(params: Mapping[str, Any]) -> None:
    """Raises Failure for options of the module snapshot that make no sense together."""
    name, kept = params["snapname"], params["retention"]
    if name is not None:
        check_name(name)
    if params["state"] == "absent" and (name is None or kept):
        raise Failure("state: absent removes one snapshot. Name it with snapname, and leave out retention.")
    if kept and kept["keep"] < 1:
        raise Failure(f"retention.keep is {kept['keep']}; it has to be at least 1.")


def remove(guest: Any, found: Snapshot, params: Mapping[str, Any]) -> list[Call]:
    """The calls that remove a snapshot. Raises Failure for a half one unless ``force`` is set.

    A half one keeps the guest locked (``_lock``) after its task died, and no removal begins under a lock. With state
    present the half one is not data: it is taken again in the same breath.
    """
    path, sent = f"{guest.path}/snapshot/{found.name}", {}
    calls: list[Call] = []
    if found.half:
        if not params["force"]:
            raise Failure(
                f"it was cut off half way (snapstate {found.half}), so nothing can be made of it. Set force: true to "
                f"remove it{' and take it again' if params['state'] == 'present' else ''}."
            )
        if params["_lock"]:
            unlock = {"delete": "lock", "skiplock": 1}
            calls.append(Call("PUT", f"{guest.path}/config", unlock, label=f"lift the lock {params['_lock']}"))
        sent = {"force": 1}
    lost = f"snapshot {found} of guest {guest}" if params["state"] == "absent" else None
    return [*calls, Call("DELETE", path, sent, label=f"remove snapshot {found.name}", destroys=lost)]


def disks(config: Mapping[str, Any]) -> dict[str, str]:
    """{"scsi0": "local:100/vm-100-disk-0.qcow2"}: the volumes that a snapshot of this configuration holds."""
    found: dict[str, str] = {}
    for key, value in config.items():
        volume, *rest = str(value).split(",")
        volume = volume.removeprefix("file=")
        if DISK.fullmatch(key) and ":" in volume and "media=cdrom" not in rest:
            found[key] = volume
    return found


def newest_only(volumes: Iterable[str], storages: Iterable[Mapping[str, Any]]) -> list[str]:
    """The storages among those of ``volumes`` that roll back to the newest snapshot only.

    These are ZFS and, where snapshots are chains of volumes, every other type (pve-storage ZFSPoolPlugin, Plugin).
    """
    strict = {
        str(s["storage"])
        for s in storages
        if s.get("type") in ("zfspool", "zfs") or int(s.get("snapshot-as-volume-chain") or 0)
    }
    return sorted(strict & {volume.partition(":")[0] for volume in volumes})


def _snapshot(entry: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        name=str(entry["name"]),
        time=int(entry.get("snaptime") or 0),
        description=str(entry.get("description") or "").rstrip("\n"),
        ram=bool(int(entry.get("vmstate") or 0)),
        parent=str(entry.get("parent") or ""),
        half=str(entry.get("snapstate") or ""),
    )


def _ancestors(snapshot: Snapshot, known: Mapping[str, Snapshot]) -> set[str]:
    """Those before it in the chain of parents; a chain that bites its tail, which Proxmox VE has had, ends there."""
    seen: set[str] = set()
    parent = snapshot.parent
    while parent in known and parent not in seen:
        seen.add(parent)
        parent = known[parent].parent
    return seen
