# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot-sector guest: a disk of its own that begins with the program of ../bootsector, and has nothing besides the
canary's area. It needs a compiler and qemu-img, and no package."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from .disk import BLOCK, CANARY_MAGIC, CANARY_SLOTS, MIB, SECTOR, to_qcow2
from .errors import BuildError
from .packages import run

SOURCES = Path(__file__).resolve().parent.parent / "bootsector"
CACHE = SOURCES.parents[2] / ".cache" / "image"
NAME = "boot-sector.qcow2"
AREA_AT = 1 * MIB
TABLE_AT = 446
FLAGS = (
    *("-m16", "-march=i686", "-mgeneral-regs-only", "-Os", "-std=gnu11", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    "-fcf-protection=none",
)


def main(argv: list[str] | None = None) -> int:
    """Print the path of the current image, built when its sources have changed."""
    parser = argparse.ArgumentParser(prog="labnode/image/build-bootsector", description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where images are kept (%(default)s)")
    given = parser.parse_args(argv)
    try:
        print(build(given.cache))
    except BuildError as error:
        print(f"make image: {error}", file=sys.stderr)
        return 1
    return 0


def build(cache: Path) -> Path:
    """The path of the current image. Raises BuildError."""
    if platform.machine() != "x86_64":
        raise BuildError(f"the boot-sector guest is built by an amd64 compiler; this machine is {platform.machine()}")
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / f"boot-sector-{_digest()}.qcow2"
    if not image.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix="boot-") as work:
            made = Path(work) / NAME
            raw = made.with_suffix(".raw")
            write_disk(raw, compiled(Path(work)))
            to_qcow2(raw, made)
            os.replace(made, image)
        for old in cache.glob("boot-sector-*.qcow2"):
            if old != image:
                old.unlink()
    link = cache / NAME
    part = cache / f".{NAME}.{os.getpid()}"
    part.symlink_to(image.name)
    os.replace(part, link)
    return link


def _digest() -> str:
    digest = hashlib.sha256()
    for path in (*sorted(SOURCES.iterdir()), Path(__file__), Path(__file__).with_name("disk.py")):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compiled(work: Path) -> bytes:
    """The program: the first sector, and those that it loads. Raises BuildError."""
    objects = []
    for source in ("start.S", "main.c"):
        target = work / f"{source}.o"
        flags = FLAGS if source.endswith(".c") else ("-m16",)
        run(["cc", *flags, "-c", "-o", str(target), str(SOURCES / source)])
        objects.append(str(target))
    if shutil.which("ld") is None:
        raise BuildError("ld is not installed; on Debian: apt-get install binutils")
    program = work / "program"
    run(["ld", "-m", "elf_i386", "-T", str(SOURCES / "link.ld"), "-o", str(program), *objects])
    return program.read_bytes()


def write_disk(path: Path, program: bytes) -> None:
    """A raw disk: the program with a partition table in its first sector, and an empty ring on the one partition."""
    size = (CANARY_SLOTS + 1) * BLOCK
    if len(program) > AREA_AT or any(program[TABLE_AT : TABLE_AT + 64]) or program[510:512] != b"\x55\xaa":
        raise BuildError("the boot sector does not leave room for its partition table; see bootsector/start.S")
    no_chs = b"\xfe\xff\xff"
    entry = struct.pack("<B3sB3sII", 0x80, no_chs, 0xDA, no_chs, AREA_AT // SECTOR, size // SECTOR)
    with path.open("wb") as disk:
        disk.truncate(-(-(AREA_AT + size) // MIB) * MIB)
        disk.write(program[:TABLE_AT] + entry + program[TABLE_AT + len(entry) :])
        disk.seek(AREA_AT)
        disk.write(struct.pack("<16sII", CANARY_MAGIC, BLOCK, CANARY_SLOTS))
