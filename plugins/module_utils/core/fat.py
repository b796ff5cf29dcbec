# SPDX-License-Identifier: GPL-3.0-or-later
"""A FAT file system of 1.44 MB with one file in it, as bytes: the same bytes for the same content.

Whatever boots a PC reads this one, from a USB stick, a virtual disk or a virtual floppy. After "Microsoft Extensible
Firmware Initiative FAT32 File System Specification", which covers FAT12 too.
"""

from __future__ import annotations

import re
import struct
from hashlib import sha256

from .steps import Failure

SECTOR = 512
SECTORS = 2880
FAT_SECTORS = 9
ROOT_ENTRIES = 224
FIRST_DATA = 1 + 2 * FAT_SECTORS + ROOT_ENTRIES * 32 // SECTOR
CAPACITY = (SECTORS - FIRST_DATA) * SECTOR
_END, _ARCHIVE, _VOLUME, _LONG_NAME = 0xFFF, 0x20, 0x08, 0x0F
# 1 January 1980, the first day that FAT knows: the bytes must not change with the clock.
_DATE = 0x21


def image(label: str, name: str, content: bytes) -> bytes:
    """The file system. ``label`` has at most 11 characters and is kept in capitals; ``name`` is a long one.

    Raises Failure where the label or the content does not fit.
    """
    tag = _label(label)
    if len(content) > CAPACITY:
        raise Failure(f"{len(content)} bytes do not fit on a partition of {CAPACITY}. Make the file smaller.")
    root = _entry(tag, _VOLUME) + _long_entry(name) + _entry(_short(name), _ARCHIVE, 2 if content else 0, len(content))
    fat = _fat(-(-len(content) // SECTOR)).ljust(FAT_SECTORS * SECTOR, b"\0")
    serial = sha256(tag + content).digest()[:4]
    whole = _boot(tag, serial) + fat * 2 + root.ljust(ROOT_ENTRIES * 32, b"\0") + content
    return whole.ljust(SECTORS * SECTOR, b"\0")


def _label(label: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,11}", label):
        raise Failure(f"label is {label!r} and should be 1 to 11 letters, digits, dashes and underscores.")
    return label.upper().encode().ljust(11)


def _boot(tag: bytes, serial: bytes) -> bytes:
    fields = struct.pack(
        "<3s8sHBHBHHBHHHIIBBB",
        b"\xeb\x3c\x90", b"PVELAB  ", SECTOR, 1, 1, 2, ROOT_ENTRIES, SECTORS, 0xF0, FAT_SECTORS, 18, 2,
        0, 0, 0, 0, 0x29,
    )  # fmt: skip
    return (fields + serial + tag + b"FAT12   ").ljust(510, b"\0") + b"\x55\xaa"


def _fat(clusters: int) -> bytes:
    """One chain from the third entry on; two entries of 12 bits are three bytes."""
    entries = [0xFF0, _END, *range(3, clusters + 2), *([_END] if clusters else [])]
    entries += [0] * (len(entries) % 2)
    pairs = (entries[i] | entries[i + 1] << 12 for i in range(0, len(entries), 2))
    return b"".join(pair.to_bytes(3, "little") for pair in pairs)


def _entry(name: bytes, attributes: int, cluster: int = 0, size: int = 0) -> bytes:
    return struct.pack("<11sB8xHHHHI", name, attributes, 0, 0, _DATE, cluster, size)


def _short(name: str) -> bytes:
    """The alias of a long name: "answer.toml" → "ANSWER~1TOM"."""
    stem, _dot, suffix = name.upper().rpartition(".")
    return f"{stem[:6]}~1".ljust(8).encode() + suffix[:3].ljust(3).encode()


def _long_entry(name: str) -> bytes:
    """The one entry of a long name of up to 13 characters, which stands before that of its alias."""
    if not 1 <= len(name) <= 13:
        raise Failure(f"{name!r} should have 1 to 13 characters.")
    units = (name + "\0" * (len(name) < 13)).encode("utf-16-le").ljust(26, b"\xff")
    check = 0
    for byte in _short(name):
        check = ((check & 1) << 7 | check >> 1) + byte & 0xFF
    return struct.pack("<B10sBBB12sH4s", 0x41, units[:10], _LONG_NAME, 0, check, units[10:22], 0, units[22:])
