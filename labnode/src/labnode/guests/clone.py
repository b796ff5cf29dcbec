# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a guest, full or linked, and templates they are linked to (``clone_vm``, ``template_create``).

The copy's configuration exists with ``lock: clone`` while its disks are being made.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError, ParamError
from labnode.guests import access, disks, options, related, values
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import Drive, drives, parse_drive
from labnode.guests.out import Out, Who
from labnode.guests.propstring import PropertyError
from labnode.guests.snapshot import find

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

NOT_CLONED = options.SNAPSHOT_ONLY | {"snapstate", "lock", "template", "digest"}


@dataclass
class Clone:
    """A checked request for a copy: the copy's options so far, and the drives still to be copied."""

    vmid: int
    newid: int
    who: Who
    params: Mapping[str, Any]
    full: bool = True
    section: Section = field(default_factory=dict)
    drives: list[Drive] = field(default_factory=list)

    @property
    def snap(self) -> str | None:
        """The snapshot to copy, None for the guest as it is."""
        return self.params.get("snapname")

    @property
    def storage(self) -> str | None:
        """Where full copies go, None for the storage they come from."""
        return self.params.get("storage")

    def copies(self, drive: Drive) -> bool:
        """Whether this drive is copied in full (cloud-init data and TPM state always are)."""
        return self.full or drive.is_cloudinit or drive.key == "tpmstate0"


def plan(g: GuestService, who: Who, params: Mapping[str, Any]) -> Clone:
    """Check a request without changing anything; ApiError, ParamError, Forbidden. Called again when the work begins."""
    req = Clone(params["vmid"], params["newid"], who, params)
    _check_target(g, req)
    conf = g.load(req.vmid)
    g.check_lock(conf)
    source = conf.main
    if req.snap:
        source = find(conf, req.snap)
    req.full = bool(params.get("full", not conf.is_template))
    for name in ("storage", "format"):
        if params.get(name) and not req.full:
            raise ApiError(f"parameter '{name}' not allowed for linked clones")
    _check_access(g, req, source)
    if g.exists(req.newid):
        raise ApiError(f"unable to create VM {req.newid}: config file already exists")
    running = g.running(req.vmid)
    for key, value in sorted(source.items()):
        _take(g, req, key, value, running=running)
    return req


def _check_target(g: GuestService, req: Clone) -> None:
    pool, target = req.params.get("pool"), req.params.get("target")
    if pool:
        related.check_pool(g, pool)
    if target and target not in (g.node.name, "localhost"):
        raise ApiError(f"no such cluster node '{target}'")
    if req.storage:
        definition = g.storage.check(req.storage)
        if "images" not in definition.options.get("content", "images").split(","):
            raise ParamError({"storage": f"storage '{req.storage}' does not support vm images"})


def _check_access(g: GuestService, req: Clone, source: Section) -> None:
    for drive in drives(source):
        if drive.is_cdrom:
            continue
        g.storage.definition(drive.storeid or "")
        req.who.check(f"/storage/{req.storage or drive.storeid}", ["Datastore.AllocateSpace"])
    if storage := source.get("vmstatestorage"):
        req.who.check(f"/storage/{storage}", ["Datastore.AllocateSpace"])
    access.check_bridges(req.who, source)


def _take(g: GuestService, req: Clone, key: str, value: str, *, running: bool) -> None:
    if key in NOT_CLONED or options.is_unused(key):
        return
    if options.kind(key) == "net":
        req.section[key] = values.fresh_mac(value, g.mac_prefix())
        return
    if not options.is_drive(key):
        req.section[key] = value
        return
    try:
        drive = parse_drive(key, value)
    except PropertyError:
        raise ApiError(f"unable to parse drive options for '{key}'") from None
    if drive.is_disc:
        req.section[key] = value
        return
    if key == "tpmstate0" and req.full and running and not req.snap:
        raise ApiError("cannot clone TPM state while VM is running")
    what, feature = ("Full", "copy") if req.copies(drive) else ("Linked", "clone")
    if not g.storage.feature(drive.file, feature, snap=req.snap, running=running):
        of = " a snapshot of" if req.snap else ""
        raise ApiError(f"{what} clone feature is not supported for{of} '{drive.file}' ({key})")
    req.drives.append(drive)


async def work(g: GuestService, asked: Clone, out: Out) -> None:
    """Make the copy; on failure its disks and its configuration are gone again."""
    shared = not g.running(asked.vmid)
    async with g.locked(asked.vmid, 1, shared=shared), g.locked(asked.newid, 1):
        req = plan(g, asked.who, asked.params)
        out.log(f"creating a clone of VM {req.vmid} with ID {req.newid}")
        section = _identity(g, req)
        g.store.write(g.rel(req.newid), "# qmclone temporary file\nlock: clone\n")
        made: list[str] = []
        try:
            live = await _copy_live(g, req, made, out)
            for drive in sorted(req.drives, key=lambda d: d.key):
                volid = live.get(drive.key) or await _copy(g, req, drive, made, out)
                section[drive.key] = str(await _pointed(g, drive, volid))
                g.save(req.newid, GuestConfig({**section, "lock": "clone"}))
            g.save(req.newid, GuestConfig(section))
            if pool := req.params.get("pool"):
                related.add_to_pool(g, req.newid, pool)
        except ApiError as error:
            await _undo(g, req, made, out)
            raise ApiError(f"clone failed: {error.task_text()}") from error
        except BaseException:
            await _undo(g, req, made, out)
            raise


async def _undo(g: GuestService, req: Clone, made: list[str], out: Out) -> None:
    await disks.free_all(g, made, out)
    g.remove(req.newid)


def _identity(g: GuestService, req: Clone) -> Section:
    """The copy's options: another UUID, another generation, its own name."""
    section = dict(req.section)
    section["smbios1"] = values.smbios_with_uuid(section.get("smbios1", ""))
    if section.get("vmgenid"):
        section["vmgenid"] = values.new_uuid()
    section["name"] = req.params.get("name") or f"Copy-of-VM-{section.get('name', req.vmid)}"
    if req.params.get("description"):
        section["description"] = req.params["description"]
    return section


async def _copy_live(g: GuestService, req: Clone, made: list[str], out: Out) -> dict[str, str]:
    """Copies of a running guest's disks, all of one moment, made by its QEMU while it runs on; new volumes by drive."""
    if req.snap or not g.running(req.vmid):
        return {}
    found: dict[str, str] = {}
    for drive in req.drives:
        if req.copies(drive) and not drive.is_cloudinit and options.kind(drive.key) in options.DISK_KINDS:
            out.log(f"create full clone of drive {drive.key} ({drive.file})")
            found[drive.key] = await _allocate(g, req, drive, out)
            made.append(found[drive.key])
    if found:
        await g.machines.copy(req.vmid, found, log=out.log)
    return found


async def _allocate(g: GuestService, req: Clone, drive: Drive, out: Out) -> str:
    storeid = req.storage or drive.storeid or "local"
    size = (await g.storage.info(drive.file)).size
    return await g.storage.alloc(storeid, req.newid, target_format(g, req, drive, out), size, log=out.log)


async def _copy(g: GuestService, req: Clone, drive: Drive, made: list[str], out: Out) -> str:
    full = req.copies(drive)
    out.log(f"create {'full' if full else 'linked'} clone of drive {drive.key} ({drive.file})")
    if not full:
        volid = await g.storage.clone_linked(drive.file, req.newid, snap=req.snap, log=out.log)
    elif drive.is_cloudinit:
        volid = await _cloudinit(g, req, drive, out)
    else:
        volid = await copy_volume(g, req, drive, out)
    made.append(volid)
    return volid


async def _pointed(g: GuestService, drive: Drive, volid: str) -> Drive:
    """The drive with another volume in it."""
    drive.options.pop("format", None)
    drive.file = volid
    if not drive.is_cloudinit:
        drive.size = (await g.storage.info(volid)).size
    return drive


async def _cloudinit(g: GuestService, req: Clone, drive: Drive, out: Out) -> str:
    storeid = req.storage or drive.storeid or "local"
    return await disks.cloudinit_copy(g, req.newid, storeid, drive.file, out)


async def copy_volume(g: GuestService, req: Clone, drive: Drive, out: Out) -> str:
    """A full copy of a volume by the storage; the new volume's id. A running guest is held still meanwhile."""
    storeid = req.storage or drive.storeid or "local"
    fmt = target_format(g, req, drive, out)
    if g.running(req.vmid) and not req.snap:
        async with held_still(g, req.vmid):
            return await g.storage.clone_full(drive.file, storeid, req.newid, fmt, log=out.log)
    return await g.storage.clone_full(drive.file, storeid, req.newid, fmt, snap=req.snap, log=out.log)


def target_format(g: GuestService, req: Clone, drive: Drive, out: Out) -> str:
    """The format of a copy: the one asked for, else the source's, where the storage takes it."""
    storeid = req.storage or drive.storeid or "local"
    fmt = req.params.get("format") or g.storage.parse(drive.file).fmt
    if fmt not in g.storage.formats(storeid):
        better = g.storage.default_format(storeid)
        if req.params.get("format"):
            out.log(f"format '{fmt}' is not supported by the target storage '{storeid}' - using '{better}' instead")
        fmt = better
    return str(fmt)


@contextlib.asynccontextmanager
async def held_still(g: GuestService, vmid: int) -> AsyncIterator[None]:
    """Stop the guest's CPUs, which also writes out what its QEMU holds back, and let them run again afterwards."""
    went = await g.machines.status(vmid) == "running"
    if went:
        await g.machines.pause(vmid)
    try:
        yield
    finally:
        if went and g.running(vmid):
            await g.machines.cont(vmid)


def has_feature(g: GuestService, section: Section, feature: str, *, snap: str | None, running: bool) -> bool:
    """Whether every disk of the section can be snapshotted, cloned or copied."""
    found = (drive for drive in drives(section) if not drive.is_cdrom)
    return all(g.storage.feature(drive.file, feature, snap=snap, running=running) for drive in found)


# template ---------------------------------------------------------------------------------------------------------


def check_template(g: GuestService, vmid: int, disk: str | None) -> GuestConfig:
    """The configuration of a guest that can become a template; ApiError says why it cannot."""
    conf = g.load(vmid)
    g.check_lock(conf)
    if conf.snapshots:
        raise ApiError("unable to create template, because VM contains snapshots")
    if conf.is_template and not disk:
        raise ApiError("you can't convert a template to a template")
    if g.running(vmid):
        raise ApiError("you can't convert a VM to template if VM is running")
    return conf


async def template(g: GuestService, vmid: int, disk: str | None) -> None:
    """Turn the guest's disks (or one of them) into base images; the guest is a template from then on."""
    async with g.locked(vmid):
        conf = check_template(g, vmid, disk)
        conf.main["template"] = "1"
        g.save(vmid, conf)
        await make_bases(g, vmid, conf, disk)


async def make_bases(g: GuestService, vmid: int, conf: GuestConfig, only: str | None = None) -> None:
    """Make base images of disks that are not yet, writing the configuration after each."""
    for drive in drives(conf.main):
        if drive.is_cdrom or (only and drive.key != only) or not g.storage.feature(drive.file, "template"):
            continue
        drive.file = await g.storage.make_base(drive.file)
        conf.main[drive.key] = str(drive)
        g.save(vmid, conf)
