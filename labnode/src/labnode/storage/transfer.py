# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a file onto a storage: checked, whole, and only then under its name."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from labnode.errors import ApiError, ParamError
from labnode.storage import images, names
from labnode.storage.directory import UNFINISHED, DirectoryBackend
from labnode.storage.run import run
from labnode.storage.service import StorageService

Log = Callable[[str], None]
CHUNK = 1 << 20
UNPACKERS = {"gz": "gzip", "zst": "zstd", "lzo": "lzop", "bz2": "bzip2"}
NAMES = {"iso": names.ISO, "vztmpl": names.VZTMPL, "import": names.UPLOAD_IMPORT}


@dataclass(frozen=True)
class Arrival:
    """A file that is to become ``content`` of a storage under ``filename``.

    ``checksum`` is (algorithm, hexadecimal digest) or None; ``compression`` (gz, zst, lzo, bz2) is what it has to be
    unpacked from after the check.
    """

    storeid: str
    content: str
    filename: str
    checksum: tuple[str, str] | None = None
    compression: str | None = None

    @property
    def volid(self) -> str:
        """The volume that it becomes."""
        return f"{self.storeid}:{self.content}/{self.filename}"


def check_arrival(service: StorageService, arrival: Arrival) -> Path:
    """Where the file is going to be. ParamError for a wrong name or content, ApiError for an unusable storage."""
    definition = service.check(arrival.storeid)
    if not isinstance(service.backend(definition), DirectoryBackend):
        raise ApiError(f"can't upload to storage type '{definition.type}'")
    if arrival.content not in service.content(arrival.storeid):
        raise ParamError(
            {"content": f"storage '{arrival.storeid}' is not configured for content-type '{arrival.content}'"}
        )
    if not NAMES[arrival.content].fullmatch(arrival.filename):
        raise ParamError({"filename": "wrong file extension"})
    return service.path(arrival.volid)


async def place(service: StorageService, arrival: Arrival, source: Path, log: Log) -> None:
    """Move an uploaded file to its place. The source is gone afterwards, whatever happens."""
    try:
        target = check_arrival(service, arrival)
        await service.activate(arrival.storeid)
        await _verify(source, arrival, log)
        work = target.with_name(f".{target.name}{UNFINISHED}")
        try:
            await asyncio.to_thread(shutil.move, source, work)
            await _finish(work, target, arrival)
        finally:
            work.unlink(missing_ok=True)
    finally:
        source.unlink(missing_ok=True)


async def download(service: StorageService, arrival: Arrival, url: str, *, verify: bool, log: Log) -> None:
    """Fetch a URL to its place. Never replaces a file that is there."""
    target = check_arrival(service, arrival)
    await service.activate(arrival.storeid)
    if target.exists():
        raise ApiError(f"refusing to override existing file '{target}'")
    work = target.with_name(f".{target.name}{UNFINISHED}")
    try:
        await _fetch(url, work, verify=verify, log=log)
        await _verify(work, arrival, log)
        if arrival.compression:
            await _unpack(work, arrival.compression, log)
        await _finish(work, target, arrival)
    finally:
        work.unlink(missing_ok=True)


async def _finish(work: Path, target: Path, arrival: Arrival) -> None:
    """Refuse an image that refers to other files of this node, then give the file its name."""
    suffix = target.suffix.removeprefix(".").lower()
    if arrival.content == "import" and suffix in ("qcow2", "raw", "vmdk"):
        await images.check_import(work, suffix)
    await asyncio.to_thread(images.sync_file, work)
    work.chmod(0o644)
    os.rename(work, target)


async def _verify(path: Path, arrival: Arrival, log: Log) -> None:
    if arrival.checksum is None:
        return
    algorithm, wanted = arrival.checksum
    log("calculating checksum...")
    seen = await asyncio.to_thread(_digest, path, algorithm)
    if seen != wanted.strip().lower():
        raise ApiError(f"checksum mismatch: got '{seen}' != expect '{wanted}'")
    log("OK, checksum verified")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


async def _fetch(url: str, path: Path, *, verify: bool, log: Log) -> None:
    log(f"downloading {url} to {path.name.removeprefix('.').removesuffix(UNFINISHED)}")
    limits = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    try:
        async with aiohttp.ClientSession(timeout=limits) as session, session.get(url, ssl=verify) as answer:
            if answer.status != 200:
                raise ApiError(f"download failed: {answer.status} {answer.reason}")
            with path.open("wb") as out:
                await _drain(answer, out.write, log)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ApiError(f"download failed: {error or 'no answer in time'}") from error
    except OSError as error:
        raise ApiError(f"download failed: {error.strerror}") from error


async def _drain(answer: aiohttp.ClientResponse, write: Callable[[bytes], int], log: Log) -> None:
    """Write the body away, with a line for every tenth of it. ApiError when less came than was announced."""
    announced, got, told = answer.content_length, 0, 0
    async for chunk in answer.content.iter_chunked(CHUNK):
        await asyncio.to_thread(write, chunk)
        got += len(chunk)
        tenth = got * 10 // announced if announced else 0
        if tenth > told:
            told = tenth
            log(f"{tenth * 10}% ({images.human(got)} of {images.human(announced or got)})")
    if announced and got != announced:
        raise ApiError(f"download failed: {got} of {announced} bytes arrived")


async def _unpack(path: Path, compression: str, log: Log) -> None:
    program = UNPACKERS[compression]
    packed = path.with_name(f"{path.name.removesuffix(UNFINISHED)}.{compression}{UNFINISHED}")
    log(f"decompressing with {program}")
    path.rename(packed)
    try:
        await run(
            ["sh", "-c", '"$1" -d -c <"$2" >"$3"', "sh", program, str(packed), str(path)], error="decompression failed"
        )
    finally:
        packed.unlink(missing_ok=True)


async def metadata(url: str, *, verify: bool) -> dict[str, str | int]:
    """What a server says of a URL: ``filename``, ``size`` in bytes, ``mimetype``. ApiError when it does not answer."""
    limits = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            aiohttp.ClientSession(timeout=limits) as session,
            session.head(url, ssl=verify, allow_redirects=True) as answer,
        ):
            if answer.status != 200:
                raise ApiError(f"invalid server response: '{answer.status} {answer.reason}'")
            given = answer.content_disposition.filename if answer.content_disposition else None
            shown: dict[str, str | int] = {"filename": given or answer.url.name, "mimetype": answer.content_type}
            return shown if answer.content_length is None else {**shown, "size": answer.content_length}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ApiError(f"unable to ask '{url}': {error or 'no answer in time'}") from error
