# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk image files: their headers, and qemu-img."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.storage.model import VolumeInfo
from labnode.storage.run import run

Log = Callable[[str], None]
PACKAGE = "qemu-utils"


def read_header(path: Path, fmt: str) -> VolumeInfo | None:
    """Size and backing file straight from a raw or qcow2 file, in microseconds; None for other formats.

    qcow2: big-endian magic, version, backing file offset (8) and length (16), virtual size (24); see QEMU
    docs/interop/qcow2.
    """
    stat = path.stat()
    used = stat.st_blocks * 512
    if fmt in ("raw", "iso", "subvol"):
        return VolumeInfo(fmt, stat.st_size, used)
    if fmt != "qcow2":
        return None
    with path.open("rb") as file:
        head = file.read(32)
        if len(head) < 32 or head[:4] != b"QFI\xfb":
            raise ApiError(f"image '{path}' is not a qcow2 image - replace it with a whole one")
        offset, length, _bits, size = struct.unpack(">QIIQ", head[8:32])
        backing = ""
        if offset and length <= 1023:
            file.seek(offset)
            backing = file.read(length).decode("utf-8", "replace")
    return VolumeInfo(fmt, size, used, backing or None)


async def details(path: Path | str, fmt: str | None = None) -> dict[str, Any]:
    """`qemu-img info` as a dict; also of an image a guest is using (-U)."""
    form = ["-f", fmt] if fmt else []
    text = await run(["qemu-img", "info", "-U", "--output=json", *form, str(path)], package=PACKAGE, timeout=30)
    found: dict[str, Any] = json.loads(text)
    return found


async def inspect(path: Path, fmt: str) -> VolumeInfo:
    """Format, size, use and backing file of any image."""
    quick = read_header(path, fmt)
    if quick is not None:
        return quick
    found = await details(path, fmt)
    return VolumeInfo(fmt, int(found["virtual-size"]), int(found.get("actual-size", 0)), found.get("backing-filename"))


async def create(path: Path, fmt: str, size: int, *, prealloc: str, shown: Path, log: Log) -> None:
    """Make an image file at `path`; log and errors speak of `shown`, the name it is going to have."""
    options = ["-o", f"preallocation={prealloc}"] if fmt in ("raw", "qcow2") else []
    argv = ["qemu-img", "create", *options, "-f", fmt, str(path), f"{(size + 1023) // 1024}K"]
    await _create(argv, path, shown, log)


async def create_linked(path: Path, backing: str, backing_fmt: str, size: int, *, shown: Path, log: Log) -> None:
    """Make a qcow2 file backed by `backing` (a path relative to the image's own directory)."""
    options = f"cluster_size=128k,extended_l2=on,preallocation=metadata,backing_fmt={backing_fmt}"
    await _create(
        ["qemu-img", "create", "-f", "qcow2", "-o", options, "-b", backing, str(path), str(size)], path, shown, log
    )


async def _create(argv: list[str], path: Path, shown: Path, log: Log) -> None:
    def told(text: str) -> None:
        for line in text.splitlines():
            log(line.replace(str(path), str(shown)))

    try:
        await run(argv, package=PACKAGE, on_text=told)
    except ApiError as err:
        path.unlink(missing_ok=True)
        raise ApiError(f"unable to create image: {err.message.replace(str(path), str(shown))}") from None


async def convert(
    source: tuple[Path, str],
    target: tuple[Path, str],
    size: int,
    *,
    snap: str | None = None,
    fresh: bool = True,
    log: Log,
) -> None:
    """Copy an image (path, format) into an existing one of at least its size, with a line of progress every tenth.

    `fresh` says that the target reads as zeros everywhere, so that zeros need not be written."""
    argv = ["qemu-img", "convert", "-p", "-n", "-U", "-f", source[1], "-O", target[1]]
    argv += ["--target-is-zero"] if fresh else []
    argv += ["-l", f"snapshot.name={snap}"] if snap else []
    shown = [-1]

    def progress(text: str) -> None:
        for found in re.findall(r"\(\s*([\d.]+)/100%\)", text):
            percent = float(found)
            if int(percent // 10) > shown[0] or (percent >= 100 and shown[0] < 10):
                shown[0] = int(percent // 10)
                log(f"transferred {human(size * percent / 100)} of {human(size)} ({percent:.2f}%)")

    await run([*argv, str(source[0]), str(target[0])], error="copy failed", package=PACKAGE, on_text=progress)


async def snapshot(path: Path, action: str, name: str) -> None:
    """Internal snapshot of a qcow2 image nobody uses: action -c create, -d delete, -a apply."""
    await run(["qemu-img", "snapshot", action, name, str(path)], error="snapshot failed", package=PACKAGE)


async def snapshots(path: Path) -> list[str]:
    """Names of the internal snapshots, oldest first."""
    found = (await details(path, "qcow2")).get("snapshots", [])
    return [str(item["name"]) for item in sorted(found, key=lambda s: (s["date-sec"], s["date-nsec"]))]


async def check_import(path: Path, fmt: str | None = None) -> str:
    """The format of an image from outside, after making sure that it refers to no other file of this node."""
    found = await details(path, fmt)
    extra = found.get("backing-filename") or (found.get("format-specific") or {}).get("data", {}).get("data-file")
    if extra:
        raise ApiError(
            f"image '{path.name}' refers to another file ('{extra}') - flatten it with qemu-img convert first"
        )
    return str(found["format"])


def human(size: float) -> str:
    """Bytes as qemu-server writes them: `2.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def sync_file(path: Path) -> None:
    """Put a finished file on the disk before it gets its final name."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
