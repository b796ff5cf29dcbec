# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that go elsewhere: to another storage, to another guest; and disks that grow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError, ParamError
from labnode.guests import access, clone, disks, options, pending, update
from labnode.guests.configfile import GuestConfig
from labnode.guests.drive import Drive, boot_order, parse_drive, render_boot_order
from labnode.guests.out import Out, Who
from labnode.guests.propstring import UNITS

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

_SIZE_RE = re.compile(r"(\+?)(\d+(?:\.\d+)?)([KMGT]?)")


# grow -------------------------------------------------------------------------------------------------------------


def new_size(text: str, now: int) -> int:
    """Bytes asked for by ``32G`` or, relative to ``now``, ``+512M``; ApiError for less than there is."""
    match = _SIZE_RE.fullmatch(text)
    if not match:
        raise ParamError({"size": f"value '{text}' does not match the regex pattern"})
    size = int(float(match[2]) * UNITS[match[3]]) + (now if match[1] else 0)
    if size < now:
        raise ApiError("shrinking disks is not supported")
    return size


async def resize(g: GuestService, who: Who, params: Mapping[str, Any], out: Out) -> None:
    """Grow a disk, of a running guest too; the size it has is no error and changes nothing."""
    vmid, key = params["vmid"], params["disk"]
    async with g.locked(vmid):
        conf = g.load(vmid)
        if params.get("digest") and params["digest"] != conf.digest:
            raise ApiError("checksum mismatch (file change by other user?)")
        if not params.get("skiplock"):
            g.check_lock(conf)
        if key not in conf.main:
            raise ApiError(f"disk '{key}' does not exist")
        drive = parse_drive(key, conf.main[key])
        if drive.is_cdrom:
            raise ApiError("you can't resize a cdrom")
        who.check(f"/storage/{drive.storeid}", ["Datastore.AllocateSpace"])
        now = (await g.storage.info(drive.file)).size
        size = new_size(params["size"], now)
        if size == now:
            return
        if g.running(vmid):
            await g.machines.resize(vmid, key, size)
        else:
            await g.storage.resize(drive.file, size, log=out.log)
        drive.size = size
        conf.main[key] = str(drive)
        g.save(vmid, conf)


# to another storage -----------------------------------------------------------------------------------------------


@dataclass
class Move:
    """A checked request to move a disk to another storage."""

    vmid: int
    key: str
    who: Who
    storage: str
    fmt: str | None
    delete: bool
    digest: str = ""


def check_move(g: GuestService, req: Move) -> tuple[GuestConfig, Drive, bool]:
    """Configuration, drive, and whether snapshots hold on to the source; ApiError says why it cannot move."""
    conf = g.load(req.vmid)
    g.check_lock(conf)
    if req.digest and req.digest != conf.digest:
        raise ApiError("detected modified configuration - file changed by other user? Try again.")
    if req.key not in conf.main:
        raise ApiError(f"disk '{req.key}' does not exist")
    drive = parse_drive(req.key, conf.main[req.key])
    if drive.is_disc:
        raise ApiError("you can't move a cdrom")
    volume = g.storage.parse(drive.file)
    if volume.storeid == req.storage and req.fmt in (None, volume.fmt):
        raise ApiError("you can't move to the same storage with same format")
    definition = g.storage.check(req.storage)
    if "images" not in definition.options.get("content", "images").split(","):
        raise ParamError({"storage": f"storage '{req.storage}' does not support vm images"})
    snapshotted = disks.in_use(g, conf, drive.file, skip=req.key)
    if snapshotted and req.delete:
        raise ApiError("you can't move a disk with snapshots and delete the source")
    return conf, drive, snapshotted


async def move(g: GuestService, req: Move, out: Out) -> None:
    """Copy the disk and use the copy; the source stays as ``unusedN`` unless it is to be deleted."""
    async with g.locked(req.vmid):
        conf, drive, snapshotted = check_move(g, req)
        source = drive.file
        where = f"from current storage '{drive.storeid}' to target storage '{req.storage}'"
        out.log(f"copying volume '{source}' {where}")
        if snapshotted:
            out.warn("moving disk with snapshots, snapshots will not be moved!")
        drive.file = await _copy(g, req, drive, out)
        drive.options.pop("format", None)
        drive.size = (await g.storage.info(drive.file)).size
        conf.main[req.key] = str(drive)
        if not req.delete:
            unused = await disks.add_unused(g, conf.main, source, out)
            out.log(f"adding source volume '{source}' as '{unused}' to config")
        g.save(req.vmid, conf)
        if conf.is_template:
            await clone.make_bases(g, req.vmid, conf, req.key)
    if req.delete:
        out.log(f"removing source volume '{source}' after successful copy")
        try:
            await g.storage.free(source)
        except ApiError as error:
            out.warn(error.message)


async def _copy(g: GuestService, req: Move, drive: Drive, out: Out) -> str:
    params = {"storage": req.storage, "format": req.fmt}
    job = clone.Clone(req.vmid, req.vmid, req.who, params)
    if not g.running(req.vmid):
        return await clone.copy_volume(g, job, drive, out)
    size = (await g.storage.info(drive.file)).size
    fmt = req.fmt if req.fmt in g.storage.formats(req.storage) else g.storage.default_format(req.storage)
    volid = await g.storage.alloc(req.storage, req.vmid, fmt, size, log=out.log)
    try:
        await g.machines.mirror(req.vmid, req.key, volid, log=out.log)
    except BaseException as error:
        await g.storage.free(volid)
        if isinstance(error, ApiError):
            raise ApiError(f"storage migration failed: {error.message}") from error
        raise
    return volid


# to another guest -------------------------------------------------------------------------------------------------


@dataclass
class Reassign:
    """A checked request to give a disk to another guest."""

    vmid: int
    key: str
    who: Who
    target: int
    target_key: str
    digest: str = ""
    target_digest: str = ""


def check_reassign(g: GuestService, req: Reassign) -> tuple[GuestConfig, GuestConfig, Drive]:
    """Both configurations and the drive; ApiError says why it cannot be given away."""
    for vmid, what in ((req.vmid, "VM"), (req.target, "target VM")):
        if not g.exists(vmid):
            raise ApiError(f"could not find {what} {vmid}")
    source, target = g.load(req.vmid), g.load(req.target)
    g.check_lock(source)
    g.check_lock(target)
    if source.is_template or target.is_template:
        raise ApiError("Can't move disks from or to template VMs")
    for vmid, conf, digest in ((req.vmid, source, req.digest), (req.target, target, req.target_digest)):
        if digest and digest != conf.digest:
            raise ApiError(f"VM {vmid}: detected modified configuration - file changed by other user? Try again.")
    return source, target, _check_given(g, req, source, target)


def _check_given(g: GuestService, req: Reassign, source: GuestConfig, target: GuestConfig) -> Drive:
    if req.key not in source.main:
        raise ApiError(f"Disk '{req.key}' for VM '{req.vmid}' does not exist")
    if req.target_key in target.main:
        raise ApiError(f"Target disk key '{req.target_key}' is already in use for VM '{req.target}'")
    drive = parse_drive(req.key, source.main[req.key])
    if drive.is_disc:
        raise ApiError("CD drive contents can't be moved to another VM")
    if drive.storeid is None:
        raise ApiError(f"Volume '{drive.file}' not managed by PVE")
    if disks.in_use(g, source, drive.file, skip=req.key):
        raise ApiError("Can't move disk used by a snapshot to another VM")
    if not g.storage.feature(drive.file, "rename"):
        raise ApiError("Storage does not support moving of this disk to another VM")
    if g.running(req.vmid) and not options.is_unused(req.key):
        raise ApiError("Cannot move disk to another VM while the source VM is running - detach first")
    return drive


async def reassign(g: GuestService, req: Reassign, out: Out) -> None:
    """Rename the volume and move its option from one configuration to the other."""
    first, second = sorted((req.vmid, req.target))  # one order for all, so that two of these cannot wait for each other
    async with g.locked(first), g.locked(second):
        source, target, drive = check_reassign(g, req)
        access.vm_check(req.who, req.target, ["VM.Config.Disk"])
        what = f"'{req.key}' from VM '{req.vmid}' as '{req.target_key}' to VM '{req.target}'"
        out.log(f"reassign disk {what}")
        volid = await g.storage.rename(drive.file, req.target)
        order = boot_order(source.main)
        if req.key in order:
            out.log(f"removing disk '{req.key}' from boot order config")
            source.main["boot"] = render_boot_order([dev for dev in order if dev != req.key])
        del source.main[req.key]
        out.log(f"removing disk '{req.key}' from VM '{req.vmid}' config")
        drive.file = volid
        if options.is_unused(req.target_key):
            target.main[req.target_key] = volid
        else:
            target.pending[req.target_key] = str(Drive(req.target_key, volid, drive.options, drive.size))
            pending.remove_delete(target, req.target_key)
        g.save(req.target, target)
        g.save(req.vmid, source)
        if not options.is_unused(req.target_key):
            await update.take_effect(g, req.target, target, req.who, out, only={req.target_key})
