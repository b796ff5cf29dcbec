# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack an archive: its configuration, and a new volume for every disk in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labnode.backup import vma
from labnode.backup.dump import CONFIG
from labnode.backup.streams import unpacked
from labnode.errors import ApiError
from labnode.guests.restore import register
from labnode.guests.service import GuestService
from labnode.storage import images

Log = Callable[[str], None]
MAP = "#qmdump#map:"


@register
async def unpack(g: GuestService, volid: str, vmid: int, storeid: str | None, log: Log) -> tuple[str, dict[str, str]]:
    """The configuration in a backup and the new volume of every drive. Raises ApiError; new volumes are gone then.

    Volumes go to ``storeid``, or to where they were when the backup was made.
    """
    path = g.storage.path(volid)
    await g.storage.info(volid)
    log(f"restore vma archive: {path}")
    place = g.store.path("tmp")
    place.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f"restore-{vmid}-", dir=place))
    volumes: dict[str, str] = {}
    try:
        text = await asyncio.to_thread(_extract, path, room, log)
        for key, (home, fmt) in _homes(text).items():
            volumes[key] = await _to_volume(g, room / f"drive-{key}", storeid or home, vmid, (fmt, log))
    except BaseException as error:
        for made in volumes.values():
            await g.storage.free(made)
        if isinstance(error, vma.VmaError | OSError):
            raise ApiError(f"unable to restore '{volid}': {error}") from error
        raise
    finally:
        await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)
    return config_of(text), volumes


def config_of(text: str) -> str:
    """The configuration without the lines that tell where disks were."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(MAP))


def read_config(path: Path) -> str:
    """The configuration in an archive. Raises ApiError when it has none."""
    try:
        with unpacked(path) as stream:
            manifest, _identity = vma.read_header(stream)
    except (vma.VmaError, OSError) as error:
        raise ApiError(f"unable to read '{path.name}': {error}") from error
    return _config(manifest)


async def _to_volume(g: GuestService, image: Path, storeid: str, vmid: int, out: tuple[str, Log]) -> str:
    """Fill a new volume. The image is read as raw whatever is in it: a guest may have written a header of its own."""
    fmt, log = out
    size = image.stat().st_size
    volid = await g.storage.alloc(storeid, vmid, fmt if fmt in g.storage.formats(storeid) else None, size, log=log)
    try:
        target = (g.storage.path(volid), g.storage.parse(volid).fmt)
        await images.convert((image, "raw"), target, size, fresh=g.storage.feature(volid, "sparseinit"), log=log)
    except BaseException:
        await g.storage.free(volid)
        raise
    log(f"new volume ID is '{volid}'")
    return volid


def _homes(text: str) -> dict[str, tuple[str, str]]:
    """Storage and format of every disk in the archive, by drive."""
    found = {}
    for line in text.splitlines():
        if line.startswith(MAP):
            key, _device, storeid, fmt, *_rest = line.removeprefix(MAP).split(":")
            found[key] = (storeid, fmt)
    return found


def _extract(path: Path, room: Path, log: Log) -> str:
    with unpacked(path) as stream:
        manifest, identity = vma.read_header(stream)
        log(f"CTIME: {time.ctime(manifest.ctime)}")
        files: dict[int, int] = {}
        try:
            for number, (name, size) in manifest.devices.items():
                log(f"DEV: dev_id={number} size: {size} devname: {name}")
                files[number] = os.open(room / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.ftruncate(files[number], size)
            seen: dict[int, int] = {}
            for device, cluster, data in vma.read_clusters(stream, identity):
                if device not in files:
                    raise vma.VmaError(f"a cluster belongs to the unknown device {device}")
                seen[device] = seen.get(device, 0) + 1
                _put(files[device], cluster, data, manifest.devices[device][1])
            vma.check_whole(manifest, seen)
        finally:
            for descriptor in files.values():
                os.close(descriptor)
    return _config(manifest)


def _put(descriptor: int, cluster: int, data: bytes | None, size: int) -> None:
    at = cluster * vma.CLUSTER
    if at >= size:
        raise vma.VmaError("a cluster lies outside its device")
    if data is not None:
        os.pwrite(descriptor, data[: size - at], at)


def _config(manifest: vma.Manifest) -> str:
    if CONFIG not in manifest.configs:
        raise ApiError("the archive holds no configuration of a virtual machine")
    return manifest.configs[CONFIG].decode("utf-8", "replace")
