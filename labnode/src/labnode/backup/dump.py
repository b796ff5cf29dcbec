# SPDX-License-Identifier: GPL-3.0-or-later
"""Back one guest up: its disks as they are at one moment, and its configuration, into one archive.

A stopped guest's disks are copied as they lie; a running one's are copied by QEMU, all from the same moment, while the
guest goes on (mode snapshot), waits (suspend) or has been shut down for it (stop). The archive gets its name when it is
whole.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from labnode.backup import vma
from labnode.backup.streams import ENDINGS, packed
from labnode.errors import ApiError
from labnode.guests import configfile, power
from labnode.guests.configfile import GuestConfig
from labnode.guests.drive import Drive, drives
from labnode.guests.out import Out
from labnode.guests.propstring import format_size
from labnode.guests.service import GuestService
from labnode.storage import images
from labnode.storage.directory import UNFINISHED, DirectoryBackend

CONFIG = "qemu-server.conf"


@dataclass(frozen=True)
class Job:
    """How guests are backed up. ``stop_wait_s`` bounds the shutdown of mode stop (seconds)."""

    storeid: str
    mode: str = "snapshot"
    compress: str = "0"
    notes: str = ""
    protected: bool = False
    stop_wait_s: int = 600


class _Told:
    """Puts INFO in front of every line, as vzdump does."""

    def __init__(self, out: Out) -> None:
        self.out = out

    def log(self, line: str) -> None:
        self.out.log(f"INFO: {line}")

    def warn(self, line: str) -> None:
        self.out.warn(line)


async def dump(g: GuestService, vmid: int, job: Job, out: Out) -> str:
    """Back the guest up and return the archive's volume id. Raises ApiError; nothing is left behind then."""
    told = _Told(out)
    started = time.time()
    told.log(f"Starting Backup of VM {vmid} (qemu)")
    told.log(f"Backup started at {_clock(started)}")
    conf = await g.set_lock(vmid, "backup")
    try:
        told.log(f"status = {'running' if g.running(vmid) else 'stopped'}")
        mode = job.mode if g.running(vmid) else "stop"
        told.log(f"backup mode: {mode}")
        told.log(f"VM Name: {conf.main.get('name', f'VM {vmid}')}")
        volid = await _archive(g, vmid, conf, replace(job, mode=mode), told)
    finally:
        await g.remove_lock(vmid, "backup")
    seconds = int(time.time() - started)
    told.log(f"Finished Backup of VM {vmid} ({seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02})")
    told.log(f"Backup finished at {_clock(time.time())}")
    return volid


async def _archive(g: GuestService, vmid: int, conf: GuestConfig, job: Job, told: _Told) -> str:
    await g.storage.activate(job.storeid)
    backend = g.storage.backend(job.storeid)
    if not isinstance(backend, DirectoryBackend) or "backup" not in g.storage.content(job.storeid):
        raise ApiError(f"storage '{job.storeid}' does not support backups")
    stamp = time.strftime("%Y_%m_%d-%H_%M_%S")
    name = f"vzdump-qemu-{vmid}-{stamp}.vma{ENDINGS[job.compress]}"
    target = backend.directory("backup") / name
    work = target.with_name(f".{name}{UNFINISHED}")
    taken = list(_included(g, conf, told))
    told.log(f"creating vzdump archive '{target}'")
    try:
        async with _copies(g, vmid, taken, job, told) as copies:
            config = _config_text(conf, taken, g)
            manifest = vma.Manifest({CONFIG: config.encode()}, ctime=int(time.time()))
            for number, (drive, _path) in enumerate(copies, 1):
                manifest.devices[number] = (f"drive-{drive.key}", _path.stat().st_size)
            paths = [path for _drive, path in copies]
            await asyncio.to_thread(_write, work, ENDINGS[job.compress], manifest, paths, told)
        work.chmod(0o640)
        os.rename(work, target)
    finally:
        work.unlink(missing_ok=True)
    _annotate(target, conf, vmid, job)
    told.log(f"archive file size: {target.stat().st_size // 1024}KB")
    return f"{job.storeid}:backup/{name}"


def _annotate(target: Path, conf: GuestConfig, vmid: int, job: Job) -> None:
    if job.notes:
        words = {"{{guestname}}": conf.main.get("name", f"VM {vmid}"), "{{vmid}}": str(vmid)}
        text = job.notes
        for word, value in words.items():
            text = text.replace(word, value)
        target.with_name(target.name + ".notes").write_text(text, encoding="utf-8")
    if job.protected:
        target.with_name(target.name + ".protected").touch()


def _included(g: GuestService, conf: GuestConfig, told: _Told) -> Iterator[Drive]:
    for drive in drives(conf.main):
        if drive.is_cdrom or drive.storeid is None:
            continue
        if drive.options.get("backup") == "0":
            told.log(f"exclude disk '{drive.key}' '{drive.file}' (backup=no)")
            continue
        told.log(f"include disk '{drive.key}' '{drive.file}' {format_size(drive.size or 0)}")
        yield drive


def _config_text(conf: GuestConfig, taken: list[Drive], g: GuestService) -> str:
    """The main section, with a line that says for every disk where it was, as Proxmox VE writes it."""
    main = {k: v for k, v in conf.main.items() if k not in ("lock", "parent")}
    text = configfile.render(GuestConfig(main))
    maps = [f"#qmdump#map:{d.key}:drive-{d.key}:{d.storeid}:{g.storage.parse(d.file).fmt}:\n" for d in taken]
    return text + "".join(maps)


@asynccontextmanager
async def _copies(
    g: GuestService, vmid: int, taken: list[Drive], job: Job, told: _Told
) -> AsyncIterator[list[tuple[Drive, Path]]]:
    """Raw copies of the disks, all from one moment; gone when the block ends."""
    place = g.store.path("tmp")
    place.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f"vzdump-{vmid}-", dir=place))
    try:
        copies = [(drive, room / f"{drive.key}.raw") for drive in taken]
        for drive, path in copies:
            with path.open("wb") as file:
                file.truncate((await g.storage.info(drive.file)).size)
        async with _quiet(g, vmid, job, told):
            if g.running(vmid):
                told.log("starting backup via QMP command")
                await g.machines.backup(vmid, {d.key: p for d, p in copies}, log=told.log)
            else:
                await _copy_stopped(g, copies, told)
        yield copies
    finally:
        await asyncio.to_thread(shutil.rmtree, room, ignore_errors=True)


async def _copy_stopped(g: GuestService, copies: list[tuple[Drive, Path]], told: _Told) -> None:
    for drive, path in copies:
        source = (g.storage.path(drive.file), g.storage.parse(drive.file).fmt)
        await images.convert(source, (path, "raw"), path.stat().st_size, log=told.log)


@asynccontextmanager
async def _quiet(g: GuestService, vmid: int, job: Job, told: _Told) -> AsyncIterator[None]:
    """Bring a running guest into the state that the mode asks for, and back."""
    if job.mode == "stop" and g.running(vmid):
        told.log("stopping virtual guest")
        await power.stop(g, vmid, told, shutdown=True, timeout=job.stop_wait_s, skiplock=True)
        try:
            yield
        finally:
            told.log("restarting vm")
            await power.start(g, vmid, told, skiplock=True)
    elif job.mode == "suspend":
        told.log("suspending guest")
        await g.machines.pause(vmid)
        try:
            yield
        finally:
            await g.machines.cont(vmid)
            told.log("resuming guest")
    else:
        yield


def _write(work: Path, ending: str, manifest: vma.Manifest, paths: list[Path], told: _Told) -> None:
    total = sum(size for _name, size in manifest.devices.values()) or 1
    began, written = time.monotonic(), 0
    with packed(work, ending) as out:
        extents = vma.ExtentWriter(out, vma.write_header(out, manifest))
        for number, path in enumerate(paths, 1):
            written += _add_device(extents, number, path)
        extents.flush()
    seconds = time.monotonic() - began
    sparse = (total - written) * 100 // total
    told.log(f"backup is sparse: {images.human(total - written)} ({sparse}%) total zero data")
    told.log(f"transferred {images.human(total)} in {seconds:.0f} seconds")


def _add_device(extents: vma.ExtentWriter, number: int, path: Path) -> int:
    """Add all clusters of a raw file without reading its holes; bytes that were not zero."""
    size = path.stat().st_size
    written = 0
    with path.open("rb") as file:
        for cluster in range(-(-size // vma.CLUSTER)):
            at = cluster * vma.CLUSTER
            written += extents.add(number, cluster, _cluster(file, at))
    return written


def _cluster(file: IO[bytes], at: int) -> bytes | None:
    """The cluster at an offset; None when it lies in a hole."""
    try:
        begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
    except OSError:
        return None
    return None if begin >= at + vma.CLUSTER else os.pread(file.fileno(), vma.CLUSTER, at)


def _clock(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
