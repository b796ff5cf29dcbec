# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk: master boot record, a FAT partition made bootable by SYSLINUX, and the canary's area."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError
from .packages import run

MIB = 1024 * 1024
SECTOR = 512
BLOCK = 4096
BOOT_AT = 1 * MIB
CANARY_SLOTS = 64 * MIB // BLOCK
CANARY_MAGIC = b"pvelab-canary-1\n"


@dataclass(frozen=True)
class Bootloader:
    """Where the unpacked syslinux, syslinux-common and mtools packages are."""

    syslinux: Path
    common: Path
    mtools: Path

    def tool(self, name: str) -> str:
        found = next((path for base in (self.syslinux, self.mtools) for path in base.rglob(f"bin/{name}")), None)
        if found is None:
            raise BuildError(f"the bootloader packages have no program {name}")
        return str(found)

    def part(self, name: str) -> Path:
        everywhere = (path for base in (self.syslinux, self.common) for path in base.rglob(name))
        found = next((path for path in everywhere if "/efi" not in str(path)), None)
        if found is None:
            raise BuildError(f"the bootloader packages have no {name}")
        return found


def write_disk(path: Path, boot_files: dict[str, bytes], loader: Bootloader) -> None:
    """A raw disk image at `path`. `boot_files`: names on the FAT partition -> contents."""
    boot_size = (sum(len(data) for data in boot_files.values()) // MIB + 3) * MIB
    canary_at = BOOT_AT + boot_size
    canary_size = (CANARY_SLOTS + 1) * BLOCK
    total = -(-(canary_at + canary_size) // (16 * MIB)) * 16 * MIB
    with path.open("wb") as disk:
        disk.truncate(total)
        disk.write(_boot_record(loader.part("mbr.bin").read_bytes(), boot_size, canary_at, canary_size))
        disk.seek(canary_at)
        disk.write(struct.pack("<16sII", CANARY_MAGIC, BLOCK, CANARY_SLOTS))
    _fill_boot_partition(path, boot_size, boot_files, loader)


def _boot_record(code: bytes, boot_size: int, canary_at: int, canary_size: int) -> bytes:
    def entry(active: int, kind: int, start: int, size: int) -> bytes:
        no_chs = b"\xfe\xff\xff"  # "beyond what cylinders can say": LBA is used
        return struct.pack("<B3sB3sII", active, no_chs, kind, no_chs, start // SECTOR, -(-size // SECTOR))

    table = entry(0x80, 0x0E, BOOT_AT, boot_size) + entry(0, 0xDA, canary_at, canary_size) + bytes(32)
    return code.ljust(440, b"\0")[:440] + struct.pack("<IH", 0x62616C76, 0) + table + b"\x55\xaa"


def _fill_boot_partition(path: Path, size: int, files: dict[str, bytes], loader: Bootloader) -> None:
    target = f"{path}@@{BOOT_AT}"
    sectors = size // SECTOR
    geometry = ["-T", str(sectors), "-h", "255", "-s", "63", "-H", str(BOOT_AT // SECTOR)]
    run([loader.tool("mformat"), "-i", target, *geometry, "::"])
    tools = os.path.dirname(loader.tool("mcopy"))
    previous = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{tools}:{previous}"  # syslinux calls mtools by name
    try:
        run([loader.tool("syslinux"), "-t", str(BOOT_AT), "-i", str(path)])
    finally:
        os.environ["PATH"] = previous
    for name, data in files.items():
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(data)
        run([loader.tool("mcopy"), "-i", target, str(part), f"::{name}"])
        part.unlink()


def to_qcow2(raw: Path, target: Path) -> None:
    """The raw disk as qcow2. Not compressed: a BIOS reads in small pieces, and each would unpack 64 KiB."""
    run(["qemu-img", "convert", "-O", "qcow2", "-o", "compat=1.1", str(raw), str(target)])
