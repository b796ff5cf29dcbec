# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of images: from a volume, from a snapshot of it, from a file out of an OVA."""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labnode.errors import ApiError
from labnode.storage import images

Log = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What is copied: a path and its format, or a member of an OVA (`ova` is then the archive, `path` the member's
    name)."""

    path: Path
    fmt: str
    size: int
    snap: str | None = None
    ova: Path | None = None

    @staticmethod
    async def from_outside(path: Path, fmt: str | None) -> Source:
        """An image somebody brought in; refused when it refers to other files. `fmt` as in the volume id, `ova+vmdk`
        for a member."""
        if fmt is not None and fmt.startswith("ova+"):
            size = await asyncio.to_thread(_member_size, path.parent, path.name)
            return Source(Path(path.name), fmt[4:], size, ova=path.parent)
        if not path.is_file() and not path.is_block_device():
            raise ApiError(f"file '{path}' does not exist")
        known = await images.check_import(path, fmt if fmt in ("raw", "qcow2", "vmdk") else None)
        return Source(path, known, (await images.inspect(path, known)).size)


async def copy_image(source: Source, target: Path, target_fmt: str, *, fresh: bool, log: Log) -> None:
    """Fill an existing image with the source's content."""
    goal = (target, target_fmt)
    if source.ova is None:
        origin = (source.path, source.fmt)
        await images.convert(origin, goal, source.size, snap=source.snap, fresh=fresh, log=log)
        return
    with tempfile.TemporaryDirectory(dir=target.parent if target.is_file() else None, prefix=".ova-") as work:
        log(f"extracting {source.path} from {source.ova.name}")
        image = await asyncio.to_thread(_extract, source.ova, str(source.path), Path(work))
        await images.check_import(image, source.fmt)
        await images.convert((image, source.fmt), goal, source.size, fresh=fresh, log=log)


def _member(archive: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo:
    for member in archive:
        if member.name == name and member.isreg():
            return member
    raise ApiError(f"archive '{path.name}' has no image '{name}'")


def _extract(ova: Path, name: str, work: Path) -> Path:
    target = work / "image"
    with tarfile.open(ova, "r:") as archive:
        stream = archive.extractfile(_member(archive, ova, name))
        assert stream is not None
        with target.open("wb") as out:
            while chunk := stream.read(1 << 20):
                out.write(chunk)
    return target


def _member_size(ova: Path, name: str) -> int:
    """Virtual size of an image in an OVA: of a sparse VMDK its capacity in sectors (bytes 12-19 of the header), else
    the file's size."""
    with tarfile.open(ova, "r:") as archive:
        member = _member(archive, ova, name)
        stream = archive.extractfile(member)
        assert stream is not None
        head = stream.read(32)
    if head[:4] == b"KDMV":
        return int.from_bytes(head[12:20], "little") * 512
    if head[:4] == b"QFI\xfb":
        return int.from_bytes(head[24:32], "big")
    return member.size
