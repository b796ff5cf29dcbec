# SPDX-License-Identifier: GPL-3.0-or-later
"""StorageService: everything the node does with storages and the volumes on them.

A volume is named by its volume id, `STORE:NAME`, spelled as Proxmox VE spells it:
`local:100/vm-100-disk-0.qcow2` on a directory, `thin:vm-100-disk-0` on LVM and ZFS,
`local:110/base-110-disk-0.qcow2/112/vm-112-disk-0.qcow2` for a linked clone, `local:iso/debian.iso`.
Sizes are bytes. All errors are `ApiError` with the text Proxmox VE gives, where one is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from labnode.storage.model import Definition, StorageStatus, Volume, VolumeInfo
from labnode.store import Store

Log = Callable[[str], None]


def silent(_line: str) -> None:
    """A log for callers that have none."""


class StorageService:
    """The storages of one node: their definitions (storage.cfg), their state and their volumes."""

    def __init__(self, store: Store, node: str) -> None:
        """`store` holds storage.cfg; `node` is this node's name (a definition may be limited to some nodes)."""
        self.store = store
        self.node = node

    # definitions ------------------------------------------------------------------------------------------------

    def definitions(self) -> dict[str, Definition]:
        """All definitions of storage.cfg by storage id, the built-in `local` always among them."""
        raise NotImplementedError

    def definition(self, storeid: str) -> Definition:
        """One definition; ApiError "storage 'x' does not exist"."""
        raise NotImplementedError

    def check(self, storeid: str, content: str | None = None) -> Definition:
        """The definition, if it is enabled, is for this node and (if asked) carries `content`; else ApiError."""
        raise NotImplementedError

    async def activate(self, storeid: str) -> Definition:
        """Check, then make the storage ready for use (create directories, `vgchange`, `zpool import`); ApiError."""
        raise NotImplementedError

    async def status(self, storeid: str) -> StorageStatus:
        """Type, content, enabled, active and bytes total/used/avail. A broken storage is active=False, never an error."""
        raise NotImplementedError

    # volumes: pure ----------------------------------------------------------------------------------------------

    def parse(self, volid: str) -> Volume:
        """The parts of a volume id (storage, kind of content, owner, format, base); ApiError if it cannot be one."""
        raise NotImplementedError

    def path(self, volid: str) -> Path:
        """Where QEMU finds the volume (file or block device). Does no I/O, so the volume need not exist."""
        raise NotImplementedError

    def default_format(self, storeid: str) -> str:
        """The format a new disk gets on this storage when the caller names none: raw or qcow2."""
        raise NotImplementedError

    def formats(self, storeid: str) -> list[str]:
        """The formats a disk image may have on this storage."""
        raise NotImplementedError

    def feature(self, volid: str, feature: str, *, snap: str | None = None, running: bool = False) -> bool:
        """Whether the volume can `snapshot`, `clone` (be the base of a linked clone), `copy`, `template`, `sparseinit`
        or `rename`; of one of its snapshots when `snap` is given."""
        raise NotImplementedError

    def live_snapshot_by_qemu(self, volid: str) -> bool:
        """Whether a running guest's QEMU must take the snapshot itself (qcow2), rather than the storage (LVM, ZFS)."""
        raise NotImplementedError

    # volumes: reading -------------------------------------------------------------------------------------------

    async def exists(self, volid: str) -> bool:
        """Whether the volume is there."""
        raise NotImplementedError

    async def info(self, volid: str) -> VolumeInfo:
        """Format, virtual size, bytes used, parent; ApiError "volume 'x' does not exist" when it is not there."""
        raise NotImplementedError

    async def list(self, storeid: str, content: str | None = None, vmid: int | None = None) -> list[dict[str, Any]]:
        """Volumes as `GET .../content` shows them: volid, content, format, size, and vmid, used, parent, ctime where known."""
        raise NotImplementedError

    async def snapshots(self, volid: str) -> list[str]:
        """Names of the volume's own snapshots, oldest first."""
        raise NotImplementedError

    # volumes: writing -------------------------------------------------------------------------------------------

    async def alloc(
        self, storeid: str, vmid: int, fmt: str | None, size: int, *, name: str | None = None, log: Log = silent
    ) -> str:
        """Make a disk of `size` bytes for guest `vmid` and return its volid. Without `name` the first free
        `vm-ID-disk-N` is taken. ApiError when the storage is full, the name taken or the format unknown there."""
        raise NotImplementedError

    async def free(self, volid: str, *, log: Log = silent) -> None:
        """Remove the volume. One that is already gone is no error; a base that has linked clones is ApiError."""
        raise NotImplementedError

    async def resize(self, volid: str, size: int) -> None:
        """Grow a volume no guest is running on (a running guest's goes through MachineService.resize)."""
        raise NotImplementedError

    async def snapshot(self, volid: str, snap: str) -> None:
        """Take a snapshot of a volume (of a running guest only where `live_snapshot_by_qemu` is False)."""
        raise NotImplementedError

    async def snapshot_delete(self, volid: str, snap: str) -> None:
        """Remove a snapshot; one that is not there is no error."""
        raise NotImplementedError

    async def snapshot_rollback(self, volid: str, snap: str) -> None:
        """Put the volume back to the snapshot; ApiError "snapshot 'x' does not exist" or "... is not most recent snapshot ...";
        call it only while the guest is stopped."""
        raise NotImplementedError

    def rollback_is_possible(self, volid: str, snap: str) -> None:
        """ApiError where the storage can only go back to its newest snapshot and `snap` is not that."""

    async def clone_linked(self, base: str, vmid: int, *, snap: str | None = None) -> str:
        """A new volume for `vmid` backed by the base volume (or, on ZFS and LVM-thin, by its snapshot); its volid."""
        raise NotImplementedError

    async def clone_full(
        self, volid: str, storeid: str, vmid: int, fmt: str | None = None, *, snap: str | None = None, log: Log = silent
    ) -> str:
        """A full, independent copy on `storeid` (progress goes to `log`); its volid. Also the move of a disk, and the import
        of an image when `volid` is of content import, iso or images, or an absolute path. Interrupted, it leaves no volume."""
        raise NotImplementedError

    async def make_base(self, volid: str) -> str:
        """Turn a disk into a base image (`base-ID-disk-N`, read only); its new volid."""
        raise NotImplementedError

    async def rename(self, volid: str, vmid: int, name: str | None = None) -> str:
        """Give the volume to another guest (or another name); its new volid."""
        raise NotImplementedError

    async def owned_by(self, vmid: int) -> list[str]:
        """Volids of all images of guest `vmid` on all enabled storages (for destroy-unreferenced-disks and rescan)."""
        raise NotImplementedError
