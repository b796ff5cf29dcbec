# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of a guest's drives: allocated, imported, attached, kept as ``unusedN``, freed.

Facts from ``create_disks``, ``vmconfig_register_unused_drive`` and ``try_deallocate_drive`` of qemu-server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labnode.errors import ApiError, ParamError
from labnode.guests import access, options
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import Drive, drives, parse_drive
from labnode.guests.out import Out, Who
from labnode.guests.propstring import PropertyError

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

MIB = 1 << 20
GIB = 1 << 30
CLOUDINIT_SIZE = 4 * MIB
TPM_SIZE = 4 * MIB
_FIRMWARE = (Path("/usr/share/OVMF"), Path("/usr/share/pve-edk2-firmware"))
_VARS = {
    ("4m", True): ("OVMF_VARS_4M.ms.fd", "OVMF_VARS_4M.fd"),
    ("4m", False): ("OVMF_VARS_4M.fd",),
    ("2m", True): ("OVMF_VARS.ms.fd", "OVMF_VARS.fd"),
    ("2m", False): ("OVMF_VARS.fd",),
}


@dataclass
class Made:
    """What ``make`` did: the option values to write, and the volumes it brought into being."""

    values: Section = field(default_factory=dict)
    volids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """For which guest drives are made, on whose behalf, and where they go when they name no storage."""

    vmid: int
    who: Who
    conf: GuestConfig
    storage: str | None = None


def prepared(g: GuestService, key: str, text: str) -> Drive:
    """A drive parameter checked by itself; ParamError as Proxmox VE gives it."""
    try:
        drive = parse_drive(key, text)
    except PropertyError:
        raise ParamError({key: "unable to parse drive options"}) from None
    source = drive.options.get("import-from")
    if source and (drive.new_disk is None or drive.new_disk[1] != 0):
        text = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"
        raise ParamError({key: text})
    if drive.file in ("none", "cdrom"):
        drive.options.setdefault("media", "cdrom")
    elif drive.new_disk is None and not drive.file.startswith("/dev/") and drive.storeid is None:
        raise ParamError({key: f"unable to associate path '{drive.file}' to any storage"})
    managed = drive.storeid is not None and drive.new_disk is None and not drive.is_cloudinit
    if managed and not drive.is_cdrom and g.storage.parse(drive.file).kind == "iso":
        raise ParamError({key: "explicit 'media=cdrom' is required for iso images"})
    return drive


async def make(g: GuestService, req: Request, wanted: Mapping[str, str], out: Out) -> Made:
    """Allocate, import or look up the volume of every drive in ``wanted``.

    A bare ``STORAGE:SIZE`` allocates anew every time. On failure the volumes made so far are freed again."""
    made = Made()
    try:
        for key in sorted(k for k in wanted if options.is_drive(k)):
            await _one(g, req, parse_drive(key, wanted[key]), made, out)
    except BaseException:
        await free_all(g, made.volids, out)
        raise
    return made


async def free_all(g: GuestService, volids: list[str], out: Out) -> None:
    """Free volumes of work that failed; what cannot be freed is a warning."""
    for volid in volids:
        try:
            await g.storage.free(volid)
        except ApiError as error:
            out.warn(f"could not remove volume '{volid}': {error.message}")


async def _one(g: GuestService, req: Request, drive: Drive, made: Made, out: Out) -> None:
    if drive.file in ("none", "cdrom"):
        drive.size = None
    elif drive.file == "cloudinit" or drive.file.endswith(":cloudinit"):
        await _cloudinit(g, req, drive, made, out)
    elif drive.new_disk:
        await _new(g, req, drive, made, out)
    else:
        await _existing(g, req, drive, made)
    made.values[drive.key] = str(drive)
    if drive.file in made.volids:
        out.log(f"{drive.key}: successfully created disk '{drive}'")


def _one_cloudinit(req: Request, made: Made, key: str) -> None:
    for section in (req.conf.main, req.conf.pending, made.values):
        other = next((d.key for d in drives(section) if d.is_cloudinit and d.key != key), None)
        if other:
            raise ApiError(f"{key} - cloud-init drive is already attached at '{other}'")


async def _cloudinit(g: GuestService, req: Request, drive: Drive, made: Made, out: Out) -> None:
    storeid = drive.storeid or req.storage
    if not storeid:
        raise ApiError("no storage ID specified (and no default storage)")
    _one_cloudinit(req, made, drive.key)
    drive.file = await cloudinit_volume(g, req.vmid, storeid, drive.options.pop("format", None), out)
    drive.options["media"] = "cdrom"
    made.volids.append(drive.file)


async def cloudinit_volume(g: GuestService, vmid: int, storeid: str, fmt: str | None, out: Out) -> str:
    """A new volume for the guest's cloud-init data, in the format that is asked for or the storage's own."""
    in_files = "qcow2" in g.storage.formats(storeid)
    fmt = fmt or ("qcow2" if in_files else "raw")
    name = f"vm-{vmid}-cloudinit" + (f".{fmt}" if in_files else "")
    return await g.storage.alloc(storeid, vmid, fmt, CLOUDINIT_SIZE, name=name, log=out.log)


async def cloudinit_copy(g: GuestService, vmid: int, storeid: str, source: str, out: Out) -> str:
    """The same for a guest that is made of another: in the format of its ``source`` where the storage takes it."""
    fmt = g.storage.parse(source).fmt if "qcow2" in g.storage.formats(storeid) else None
    return await cloudinit_volume(g, vmid, storeid, fmt, out)


async def _new(g: GuestService, req: Request, drive: Drive, made: Made, out: Out) -> None:
    storeid, gib = drive.new_disk or (None, 0.0)
    storeid = storeid or req.storage
    if not storeid:
        raise ApiError("no storage ID specified (and no default storage)")
    fmt = drive.options.pop("format", None)
    source = drive.options.pop("import-from", None)
    if source is None and drive.key == "efidisk0":
        source = _efi_template(drive)
    if source:
        try:
            volid = await g.storage.clone_full(source, storeid, req.vmid, fmt, log=out.log)
        except ApiError as error:
            raise ApiError(f"cannot import from '{source}' - {error.message}") from error
    else:
        size = TPM_SIZE if drive.key == "tpmstate0" else math.ceil(gib * MIB) * 1024
        volid = await g.storage.alloc(storeid, req.vmid, fmt, size, log=out.log)
    made.volids.append(volid)
    if req.conf.is_template:
        made.volids[-1] = volid = await g.storage.make_base(volid)
    drive.file = volid
    drive.size = (await g.storage.info(volid)).size


def _efi_template(drive: Drive) -> str:
    """The empty variable store of the installed UEFI firmware."""
    kind = drive.options.get("efitype", "2m")
    names = _VARS[kind, drive.options.get("pre-enrolled-keys") == "1"]
    found = next((d / name for name in names for d in _FIRMWARE if (d / name).is_file()), None)
    if found is None:
        raise ApiError(f"EFI vars image '{names[0]}' not found - install the package ovmf to use {drive.key}")
    return str(found)


async def _existing(g: GuestService, req: Request, drive: Drive, made: Made) -> None:
    access.check_volume(g, req.who, req.vmid, drive.file)
    if drive.storeid is None:
        if not Path(drive.file).exists():
            raise ApiError(f"volume '{drive.file}' does not exist")
        return
    volume = g.storage.parse(drive.file)
    if volume.kind not in ("images", "iso"):
        raise ApiError(f"cannot use volume {drive.file} - content type needs to be 'images' or 'iso'")
    fmt = drive.options.get("format")
    if fmt and volume.kind == "images" and fmt != volume.fmt:
        raise ApiError(
            f"drive '{drive.key}' - volume '{drive.file}' - 'format={fmt}' option different from storage format "
            f"'{volume.fmt}'"
        )
    if drive.is_cloudinit:
        _one_cloudinit(req, made, drive.key)
    await g.storage.activate(drive.storeid)
    drive.size = (await g.storage.info(drive.file)).size


def owns(g: GuestService, vmid: int, volid: str) -> bool:
    """Whether a volume belongs to the guest."""
    if volid.startswith("/"):
        return False
    try:
        return g.storage.parse(volid).vmid == vmid
    except ApiError:
        return False


async def add_unused(g: GuestService, section: Section, volid: str, out: Out) -> str | None:
    """Keep a volume as the first free ``unusedN``; its key, None when it is there already. Cloud-init data is freed."""
    if Drive("", volid).is_cloudinit:
        out.log(f"found unused cloudinit disk '{volid}', removing it")
        await g.storage.free(volid)
        return None
    keys = [f"unused{i}" for i in range(options.NUMBERED["unused"])]
    if any(section.get(key) == volid for key in keys):
        return None
    free = next((key for key in keys if key not in section), None)
    if free is None:
        raise ApiError("Too many unused volumes - please delete them first.")
    section[free] = volid
    return free


async def detach(g: GuestService, vmid: int, conf: GuestConfig, drive: Drive, out: Out) -> None:
    """A drive leaves the configuration: its own volume stays as ``unusedN``, generated cloud-init data goes."""
    if drive.is_cloudinit:
        try:
            await g.storage.free(drive.file)
        except ApiError as error:
            out.warn(error.message)
        conf.special.pop("cloudinit", None)
    elif not drive.is_cdrom and drive.storeid and owns(g, vmid, drive.file):
        await add_unused(g, conf.main, drive.file, out)


def in_use(g: GuestService, conf: GuestConfig, volid: str, *, skip: str | None = None) -> bool:
    """Whether a drive (other than ``skip``) or a snapshot still refers to the volume."""
    here = (d for d in drives(conf.main) if d.key != skip)
    there = (d for snap in conf.snapshots.values() for d in drives(snap))
    return any(d.file == volid and not d.is_cdrom for found in (here, there) for d in found)


async def deallocate(g: GuestService, req: Request, drive: Drive, out: Out) -> None:
    """Free the volume of a drive if it belongs to the guest; ApiError while a snapshot or another drive needs it."""
    if drive.is_disc or not owns(g, req.vmid, drive.file):
        return
    req.who.check(f"/storage/{drive.storeid}", ["Datastore.AllocateSpace"])
    if in_use(g, req.conf, drive.file, skip=drive.key):
        raise ApiError(f"unable to delete '{drive.file}' - volume is still in use (snapshot?)")
    await g.storage.free(drive.file, log=out.log)
