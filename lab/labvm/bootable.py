# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that boots with GRUB, made from a directory without mounting or attaching anything.

GPT with a BIOS boot partition for GRUB's core image and one ext4 partition. What `grub-bios-setup` would write is
written here: the first sector learns where the core image begins, and the core image where its second sector is.
Once the machine runs, its own `grub-install` does the same again.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from labvm.errors import LabError

SECTOR = 512
MIB = 1 << 20
BIOS_START, BIOS_END = 2048, 4095
ROOT_START = 4096
TYPE_BIOS = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
TYPE_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ENTRIES, ENTRY_SIZE = 128, 128
# boot.img: address of the core image, and the jump that is replaced so that the BIOS's drive number is trusted
KERNEL_SECTOR, DRIVE_CHECK = 0x5C, 0x66
BOOT_CODE_END = 0x1B8
# core.img: the last entry of its first sector's block list
BLOCK_LIST = SECTOR - 12
MODULES = ("part_gpt", "ext2", "biosdisk", "search_fs_uuid")


def _entry(kind: uuid.UUID, own: uuid.UUID, first: int, last: int, name: str) -> bytes:
    place = struct.pack("<QQQ", first, last, 0)
    return kind.bytes_le + own.bytes_le + place + name.encode("utf-16-le").ljust(72, b"\0")


def _header(disk: uuid.UUID, table: bytes, here: int, other: int, sectors: int) -> bytes:
    start = 2 if here == 1 else here - 32
    numbers = struct.pack("<QQQQ", here, other, 34, sectors - 34)
    tail = struct.pack("<QIII", start, ENTRIES, ENTRY_SIZE, zlib.crc32(table))
    fields = b"EFI PART" + struct.pack("<III", 0x10000, 92, 0) + b"\0" * 4 + numbers + disk.bytes_le + tail
    crc = struct.pack("<I", zlib.crc32(fields))
    return (fields[:16] + crc + fields[20:]).ljust(SECTOR, b"\0")


def partition_table(sectors: int, disk: uuid.UUID) -> dict[int, bytes]:
    """Sector number to bytes: protective MBR, both headers and both tables of a disk of `sectors` sectors."""
    parts = _entry(TYPE_BIOS, uuid.uuid5(disk, "bios"), BIOS_START, BIOS_END, "bios")
    parts += _entry(TYPE_LINUX, uuid.uuid5(disk, "root"), ROOT_START, sectors - 2048 - 1, "root")
    table = parts.ljust(ENTRIES * ENTRY_SIZE, b"\0")
    mbr = bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, min(sectors - 1, 0xFFFFFFFF))
    last = sectors - 1
    return {
        0: mbr.ljust(510, b"\0") + b"\x55\xaa",
        1: _header(disk, table, 1, last, sectors),
        2: table,
        last - 32: table,
        last: _header(disk, table, last, 1, sectors),
    }


def boot_sectors(boot: bytes, core: bytes) -> tuple[bytes, bytes]:
    """Code for the first sector (440 bytes) and the core image, both knowing their places. Raises LabError when the
    core image is too large for its partition."""
    if len(core) > (BIOS_END - BIOS_START + 1) * SECTOR:
        raise LabError(f"GRUB's core image has {len(core)} bytes, more than its partition holds")
    first = bytearray(boot[:BOOT_CODE_END])
    struct.pack_into("<Q", first, KERNEL_SECTOR, BIOS_START)
    first[DRIVE_CHECK : DRIVE_CHECK + 2] = b"\x90\x90"
    second = bytearray(core)
    struct.pack_into("<Q", second, BLOCK_LIST, BIOS_START + 1)
    return bytes(first), bytes(second)


def make_disk(tree: Path, disk: Path, gib: int, root_uuid: str, run: Callable[[Sequence[str]], None]) -> None:
    """Write the raw image `disk` from the root file system in `tree`, which has GRUB's files below /usr/lib/grub."""
    sectors = gib * (1 << 30) // SECTOR
    grub = tree / "usr/lib/grub/i386-pc"
    core = disk.with_suffix(".core")
    prefix = "(hd0,gpt2)/boot/grub"
    run(
        ["chroot", str(tree), "grub-mkimage", "-O", "i386-pc", "-p", prefix, "-o", "/tmp/core.img", *MODULES],
    )
    (tree / "tmp/core.img").replace(core)
    first, second = boot_sectors((grub / "boot.img").read_bytes(), core.read_bytes())
    core.unlink()
    with disk.open("wb") as handle:
        handle.truncate(sectors * SECTOR)
        for number, data in partition_table(sectors, uuid.UUID(root_uuid)).items():
            handle.seek(number * SECTOR)
            handle.write(data)
        handle.seek(0)
        handle.write(first)
        handle.seek(BIOS_START * SECTOR)
        handle.write(second)
    size = f"{(sectors - ROOT_START - 2048) // 2}k"
    options = f"offset={ROOT_START * SECTOR},lazy_itable_init=1,lazy_journal_init=1"
    run(["mke2fs", "-q", "-t", "ext4", "-F", "-U", root_uuid, "-L", "root", "-m", "1", "-E", options,
         "-d", str(tree), str(disk), size])  # fmt: skip
