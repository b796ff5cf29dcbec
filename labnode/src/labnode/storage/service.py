# SPDX-License-Identifier: GPL-3.0-or-later
"""StorageService: everything the node does with storages and the volumes on them.

A volume is named by its volume id, `STORE:NAME`, spelled as Proxmox VE spells it:
`local:100/vm-100-disk-0.qcow2` on a directory, `thin:vm-100-disk-0` on LVM and ZFS,
`local:110/base-110-disk-0.qcow2/112/vm-112-disk-0.qcow2` for a linked clone, `local:iso/debian.iso`.
Sizes are bytes. All errors are `ApiError` with the text Proxmox VE gives, where one is recorded.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.storage import names
from labnode.storage.backend import AbsentBackend, Backend
from labnode.storage.copying import Source, copy_image
from labnode.storage.definitions import Definitions, split_list
from labnode.storage.directory import DirectoryBackend
from labnode.storage.journal import Journal
from labnode.storage.kinds import DIRECTORY_TYPES, KINDS
from labnode.storage.lvm import LvmBackend, LvmThinBackend
from labnode.storage.model import Definition, StorageStatus, Volume, VolumeInfo
from labnode.storage.reach import check_online
from labnode.storage.zfs import ZfsBackend
from labnode.store import Store

Log = Callable[[str], None]
logger = logging.getLogger(__name__)
BACKENDS: dict[str, type[Backend]] = {
    **dict.fromkeys(DIRECTORY_TYPES, DirectoryBackend),
    "lvm": LvmBackend,
    "lvmthin": LvmThinBackend,
    "zfspool": ZfsBackend,
}


def silent(_line: str) -> None:
    """A log for callers that have none."""


class StorageService:
    """The storages of one node: their definitions (storage.cfg), their state and their volumes."""

    def __init__(self, store: Store, node: str) -> None:
        """`store` holds storage.cfg; `node` is this node's name (a definition may be limited to some nodes)."""
        self.store = store
        self.node = node
        self.config = Definitions(store)
        self.journal = Journal(store)

    async def start(self) -> None:
        """Clear up after a kill: unfinished files, and volumes of interrupted work that no configuration names."""
        configs = "".join(
            path.read_text(encoding="utf-8") for path in self.store.path("etc/nodes").glob("*/qemu-server/*.conf")
        )
        for volid in self.journal.entries():
            try:
                if volid not in configs:
                    await self.free(volid)
            except ApiError as err:
                logger.warning("volume '%s' of interrupted work stays: %s", volid, err.message)
            self.journal.forget(volid)
        for definition in self.definitions().values():
            backend = self.backend(definition)
            if isinstance(backend, DirectoryBackend) and definition.enabled and "path" in definition.options:
                backend.sweep()

    # definitions ------------------------------------------------------------------------------------------------

    def definitions(self) -> dict[str, Definition]:
        """All definitions of storage.cfg by storage id, the built-in `local` always among them."""
        return self.config.all()

    def definition(self, storeid: str) -> Definition:
        """One definition; ApiError "storage 'x' does not exist"."""
        return self.config.one(storeid)

    def content(self, storeid: str) -> builtins.list[str]:
        """Content types of the storage."""
        return contents(self.definition(storeid))

    def check(self, storeid: str, content: str | None = None) -> Definition:
        """The definition, if it is enabled, is for this node and (if asked) carries `content`; else ApiError."""
        definition = self.definition(storeid)
        if not definition.enabled:
            raise ApiError(f"storage '{storeid}' is disabled")
        if not self.here(definition):
            raise ApiError(f"storage '{storeid}' is not available on node '{self.node}'")
        if content is not None and content not in contents(definition):
            raise ApiError(f"storage '{storeid}' does not support content-type '{content}'")
        return definition

    def here(self, definition: Definition) -> bool:
        """Whether the definition is for this node."""
        nodes = split_list(definition.options.get("nodes", ""))
        return not nodes or self.node in nodes

    def backend(self, definition: Definition | str) -> Backend:
        """What serves the storage."""
        if isinstance(definition, str):
            definition = self.definition(definition)
        return BACKENDS.get(definition.type, AbsentBackend)(definition)

    async def activate(self, storeid: str) -> Definition:
        """Check, then make the storage ready for use (create directories, `vgchange`, `zpool import`); ApiError."""
        definition = self.check(storeid)
        await self.activate_definition(definition)
        return definition

    async def activate_definition(self, definition: Definition) -> None:
        """Activate a storage that may not be in storage.cfg yet."""
        await check_online(definition)
        await self.backend(definition).activate()

    async def status(self, storeid: str) -> StorageStatus:
        """Type, content, enabled, active and bytes total/used/avail. A broken storage is active=False, never an
        error."""
        definition = self.definition(storeid)
        shown = ",".join(contents(definition))
        shared = definition.shared or KINDS[definition.type].shared
        enabled = definition.enabled
        if enabled and self.here(definition):
            try:
                await self.activate_definition(definition)
                usage = await self.backend(definition).usage()
                return StorageStatus(
                    storeid, definition.type, shown, True, usage.active, shared, usage.total, usage.used, usage.avail
                )
            except (ApiError, OSError) as err:
                logger.info("storage '%s' is not usable: %s", storeid, err)
        return StorageStatus(storeid, definition.type, shown, enabled, False, shared)

    # volumes: names -----------------------------------------------------------------------------------------------

    def _split(self, volid: str) -> tuple[Backend, str]:
        storeid, name = names.split_volid(volid)
        return self.backend(storeid), name

    def parse(self, volid: str) -> Volume:
        """The parts of a volume id (storage, kind of content, owner, format, base); ApiError if it cannot be one."""
        backend, name = self._split(volid)
        return backend.parse(name)

    def path(self, volid: str, *, snap: str | None = None) -> Path:
        """Where QEMU finds the volume (file or block device). Does no I/O, so the volume need not exist."""
        backend, name = self._split(volid)
        return backend.path(name, snap)

    def default_format(self, storeid: str) -> str:
        """The format a new disk gets on this storage when the caller names none: raw or qcow2."""
        return self.backend(storeid).default_format()

    def formats(self, storeid: str) -> builtins.list[str]:
        """The formats a disk image may have on this storage."""
        return self.backend(storeid).formats()

    def feature(self, volid: str, feature: str, *, snap: str | None = None, running: bool = False) -> bool:
        """Whether the volume can `snapshot`, `clone` (be the base of a linked clone), `copy`, `template`, `sparseinit`
        or `rename`; of one of its snapshots when `snap` is given."""
        backend, name = self._split(volid)
        return backend.has_feature(backend.parse(name), feature, snap)

    def live_snapshot_by_qemu(self, volid: str) -> bool:
        """Whether a running guest's QEMU must take the snapshot itself (qcow2), rather than the storage (LVM, ZFS)."""
        return self.parse(volid).fmt == "qcow2"

    # volumes: reading ---------------------------------------------------------------------------------------------

    async def exists(self, volid: str) -> bool:
        """Whether the volume is there."""
        backend, name = self._split(volid)
        return await backend.info(name) is not None

    async def info(self, volid: str) -> VolumeInfo:
        """Format, virtual size, bytes used, parent; ApiError "volume 'x' does not exist" when it is not there."""
        backend, name = self._split(volid)
        found = await backend.info(name)
        if found is None:
            raise ApiError(f"volume '{volid}' does not exist")
        return found

    async def list(
        self, storeid: str, content: str | None = None, vmid: int | None = None
    ) -> builtins.list[dict[str, Any]]:
        """Volumes as `GET .../content` shows them: volid, content, format, size, and vmid, used, parent, ctime where
        known."""
        definition = self.check(storeid)
        await self.activate_definition(definition)
        backend = self.backend(definition)
        found: builtins.list[dict[str, Any]] = []
        wanted = split_list(content) if content else contents(definition)
        if {"images", "rootdir"} & set(wanted):
            found += await backend.images(vmid)
        for kind in wanted:
            if kind not in ("images", "rootdir", "none") and kind in contents(definition):
                found += [item for item in await backend.files(kind) if vmid is None or item.get("vmid") == vmid]
        return sorted(found, key=lambda item: str(item["volid"]))

    async def snapshots(self, volid: str) -> builtins.list[str]:
        """Names of the volume's own snapshots, oldest first."""
        backend, name = self._split(volid)
        return await backend.snapshots(name)

    # volumes: writing ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _locked(self, storeid: str) -> AsyncIterator[Backend]:
        async with self.store.lock(f"storage/{storeid}"):
            yield self.backend(storeid)

    async def activate_volume(self, volid: str) -> None:
        """Make sure QEMU can open the volume (its logical volume active, its device node there)."""
        backend, name = self._split(volid)
        await backend.activate_volume(name)

    async def alloc(
        self, storeid: str, vmid: int, fmt: str | None, size: int, *, name: str | None = None, log: Log = silent
    ) -> str:
        """Make a disk of `size` bytes for guest `vmid` and return its volid. Without `name` the first free
        `vm-ID-disk-N` is taken. ApiError when the storage is full, the name taken or the format unknown there."""
        await self.activate(storeid)
        async with self._locked(storeid) as backend:
            fmt = fmt or backend.default_format()
            if fmt not in backend.formats():
                raise ApiError(
                    f"unsupported format '{fmt}' at storage '{storeid}' - it takes {', '.join(backend.formats())}"
                )
            volid = f"{storeid}:{await backend.alloc(vmid, fmt, size, name, log)}"
            self.journal.enter(volid)
            return volid

    def keep(self, volid: str) -> None:
        """The volume is wanted although no guest's configuration names it."""
        self.journal.forget(volid)

    async def free(self, volid: str, *, log: Log = silent) -> None:
        """Remove the volume. One that is already gone is no error; a base that has linked clones is ApiError."""
        storeid, name = names.split_volid(volid)
        volume = self.parse(volid)
        async with self._locked(storeid) as backend:
            if volume.is_base:
                await self._refuse_used_base(backend, volume)
            await backend.free(name)
        self.journal.forget(volid)

    async def _refuse_used_base(self, backend: Backend, volume: Volume) -> None:
        own = volume.name.rpartition("/")[2]
        for item in await backend.images():
            base = backend.parse(str(item["volid"]).partition(":")[2]).base
            if base is not None and base.rpartition("/")[2] == own:
                raise ApiError(f"base volume '{volume.volid}' is still in use by linked cloned")

    async def resize(self, volid: str, size: int, *, log: Log = silent) -> None:
        """Grow a volume no guest is running on (a running guest's goes through MachineService.resize)."""
        backend, name = self._split(volid)
        for line in (await backend.resize(name, size)).splitlines():
            log(line)

    async def snapshot(self, volid: str, snap: str) -> None:
        """Take a snapshot of a volume (of a running guest only where `live_snapshot_by_qemu` is False)."""
        backend, name = self._split(volid)
        await backend.snapshot(name, snap)

    async def snapshot_delete(self, volid: str, snap: str) -> None:
        """Remove a snapshot; one that is not there is no error."""
        backend, name = self._split(volid)
        await backend.snapshot_delete(name, snap)

    async def snapshot_rollback(self, volid: str, snap: str) -> None:
        """Put the volume back to the snapshot; ApiError "snapshot 'x' does not exist" or "... is not most recent
        snapshot ...";
        call it only while the guest is stopped."""
        backend, name = self._split(volid)
        await backend.snapshot_rollback(name, snap)

    async def rollback_is_possible(self, volid: str, snap: str) -> None:
        """ApiError where the storage can only go back to its newest snapshot and `snap` is not that."""
        backend, name = self._split(volid)
        if blocker := await backend.rollback_blocker(name, snap):
            raise ApiError(blocker)

    async def clone_linked(self, base: str, vmid: int, *, snap: str | None = None, log: Log = silent) -> str:
        """A new volume for `vmid` backed by the base volume (or, on ZFS and LVM-thin, by its snapshot); its volid."""
        storeid, name = names.split_volid(base)
        await self.activate(storeid)
        async with self._locked(storeid) as backend:
            volid = f"{storeid}:{await backend.clone_linked(name, vmid, snap, log)}"
            self.journal.enter(volid)
            return volid

    async def clone_full(
        self,
        volid: str,
        storeid: str,
        vmid: int,
        fmt: str | None = None,
        *,
        snap: str | None = None,
        size: int | None = None,
        log: Log = silent,
    ) -> str:
        """A full, independent copy on `storeid` (progress goes to `log`); its volid. Also the move of a disk, and the
        import
        of an image when `volid` is of content import, iso or images, or an absolute path. Interrupted, it leaves no
        volume.
        A `size` above the source's makes the copy larger."""
        source = await self._source(volid, snap)
        volume_size = max(source.size, size or 0)
        target = await self.alloc(storeid, vmid, fmt, volume_size, log=log)
        try:
            await copy_image(
                source, self.path(target), self.parse(target).fmt, fresh=self.feature(target, "sparseinit"), log=log
            )
        except BaseException:
            await self.free(target)
            raise
        return target

    async def _source(self, volid: str, snap: str | None) -> Source:
        if volid.startswith("/"):
            return await Source.from_outside(Path(volid), None)
        volume = self.parse(volid)
        path = self.path(volid)
        info = await self.info(volid)
        if volume.kind == "import":
            return await Source.from_outside(path, volume.fmt)
        if snap and volume.fmt != "qcow2":
            return Source(self.path(volid, snap=snap), volume.fmt, info.size)
        return Source(path, volume.fmt, info.size, snap)

    async def make_base(self, volid: str) -> str:
        """Turn a disk into a base image (`base-ID-disk-N`, read only); its new volid."""
        storeid, name = names.split_volid(volid)
        async with self._locked(storeid) as backend:
            base = f"{storeid}:{await backend.make_base(name)}"
        self.journal.rename(volid, base)
        return base

    async def rename(self, volid: str, vmid: int, name: str | None = None) -> str:
        """Give the volume to another guest (or another name); its new volid."""
        storeid, old = names.split_volid(volid)
        async with self._locked(storeid) as backend:
            renamed = f"{storeid}:{await backend.rename(old, vmid, name)}"
        self.journal.rename(volid, renamed)
        return renamed

    async def owned_by(self, vmid: int) -> builtins.list[str]:
        """Volids of all images of guest `vmid` on all enabled storages (for destroy-unreferenced-disks and rescan)."""
        found: builtins.list[str] = []
        for definition in self.definitions().values():
            if definition.enabled and self.here(definition) and {"images", "rootdir"} & set(contents(definition)):
                with contextlib.suppress(ApiError):
                    found += [str(item["volid"]) for item in await self.backend(definition).images(vmid)]
        return found


def contents(definition: Definition) -> builtins.list[str]:
    """Content types of a definition, its type's default when it names none."""
    return split_list(definition.options.get("content", "")) or [*KINDS[definition.type].default]
