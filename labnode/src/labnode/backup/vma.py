# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMA archive: configuration files and disk images of one guest in one stream.

Layout (vma_spec.txt of pve-qemu), big-endian unless said otherwise: a header of fixed size with a table of 255 devices
and a buffer of blobs (a little-endian length, then bytes); then extents. An extent is a header that describes up to 59
clusters of 64 KiB, each with a mask of the 4 KiB blocks that are not zero, and then those blocks.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

BLOCK = 4096
CLUSTER = 16 * BLOCK
SLOTS = 59
_HEADER = struct.Struct(">4sI16sq16sIII")
_TABLES_AT = 2044
_DEVICES_AT = 4096
_BLOBS_AT = 12288
_EXTENT = struct.Struct(">4sHH16s16s59Q")
_ZERO = bytes(BLOCK)


class VmaError(ValueError):
    """The stream is not a whole VMA archive of version 1."""


@dataclass
class Manifest:
    """What an archive holds: text files by name, and devices (name, size in bytes) by number from 1 on."""

    configs: dict[str, bytes] = field(default_factory=dict)
    devices: dict[int, tuple[str, int]] = field(default_factory=dict)
    ctime: int = 0


def write_header(out: IO[bytes], manifest: Manifest) -> bytes:
    """Write the header and return the archive's identity, which every extent repeats."""
    blobs = bytearray(b"\0")

    def blob(data: bytes) -> int:
        at = len(blobs)
        blobs.extend(struct.pack("<H", len(data)) + data)
        return at

    names, data = [0] * 256, [0] * 256
    for slot, (name, content) in enumerate(manifest.configs.items()):
        names[slot], data[slot] = blob(name.encode() + b"\0"), blob(content)
    table = bytearray(256 * 32)
    for number, (name, size) in manifest.devices.items():
        struct.pack_into(">IIQ", table, number * 32, blob(name.encode() + b"\0"), 0, size)
    blobs.extend(bytes(-len(blobs) % 512))
    identity = uuid.uuid4().bytes
    header = bytearray(_BLOBS_AT)
    fixed = (b"VMA\0", 1, identity, manifest.ctime, bytes(16), _BLOBS_AT, len(blobs), _BLOBS_AT + len(blobs))
    _HEADER.pack_into(header, 0, *fixed)
    struct.pack_into(">256I256I", header, _TABLES_AT, *names, *data)
    header[_DEVICES_AT:_BLOBS_AT] = table
    _sign(header, 32, bytes(header) + bytes(blobs))
    out.write(header + blobs)
    return identity


def _sign(buffer: bytearray, at: int, covered: bytes) -> None:
    buffer[at : at + 16] = hashlib.md5(covered, usedforsecurity=False).digest()


class ExtentWriter:
    """Collects clusters and writes them as extents; call ``flush`` last."""

    def __init__(self, out: IO[bytes], identity: bytes) -> None:
        self._out = out
        self._identity = identity
        self._infos: list[int] = []
        self._blocks: list[bytes] = []

    def add(self, device: int, cluster: int, data: bytes | None) -> int:
        """One cluster (``None``: all zero); returns how many of its bytes were not zero."""
        mask, kept = 0, []
        if data is not None:
            padded = data.ljust(CLUSTER, b"\0")
            for n in range(16):
                block = padded[n * BLOCK : (n + 1) * BLOCK]
                if block != _ZERO:
                    mask |= 1 << n
                    kept.append(block)
        self._infos.append(mask << 48 | device << 32 | cluster)
        self._blocks += kept
        if len(self._infos) == SLOTS:
            self.flush()
        return len(kept) * BLOCK

    def flush(self) -> None:
        """Write what has been collected."""
        if not self._infos:
            return
        infos = self._infos + [0] * (SLOTS - len(self._infos))
        head = bytearray(_EXTENT.pack(b"VMAE", 0, len(self._blocks), self._identity, bytes(16), *infos))
        _sign(head, 24, bytes(head))
        self._out.write(bytes(head) + b"".join(self._blocks))
        self._infos, self._blocks = [], []


def read_header(stream: IO[bytes]) -> tuple[Manifest, bytes]:
    """The manifest and identity of an archive. Raises VmaError for what is none, is cut off or is damaged."""
    fixed = bytearray(_exactly(stream, _BLOBS_AT))
    magic, version, identity, ctime, checksum, blob_at, blob_size, whole = _HEADER.unpack_from(fixed)
    if magic != b"VMA\0" or version != 1 or blob_at != _BLOBS_AT or whole < blob_at + blob_size:
        raise VmaError("not a VMA archive of version 1")
    blobs = _exactly(stream, whole - _BLOBS_AT)
    fixed[32:48] = bytes(16)
    if hashlib.md5(bytes(fixed) + blobs, usedforsecurity=False).digest() != checksum:
        raise VmaError("the header's checksum is wrong")
    tables = struct.unpack_from(">256I256I", fixed, _TABLES_AT)
    manifest = Manifest(ctime=ctime)
    for name, data in zip(tables[:256], tables[256:], strict=True):
        if name and data:
            manifest.configs[_blob(blobs, name).rstrip(b"\0").decode()] = _blob(blobs, data)
    for number in range(1, 255):
        name, _reserved, size = struct.unpack_from(">IIQ", fixed, _DEVICES_AT + number * 32)
        if name and size:
            manifest.devices[number] = (_blob(blobs, name).rstrip(b"\0").decode(), size)
    return manifest, identity


def _blob(blobs: bytes, at: int) -> bytes:
    if at + 2 > len(blobs):
        raise VmaError("the header points outside itself")
    (length,) = struct.unpack_from("<H", blobs, at)
    return blobs[at + 2 : at + 2 + length]


def read_clusters(stream: IO[bytes], identity: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """(device, cluster number, its 64 KiB or None when all zero) of each cluster. Raises VmaError."""
    while head := stream.read(_EXTENT.size):
        head += _exactly(stream, _EXTENT.size - len(head)) if len(head) < _EXTENT.size else b""
        magic, _reserved, count, owner, checksum, *infos = _EXTENT.unpack(head)
        unsigned = head[:24] + bytes(16) + head[40:]
        if magic != b"VMAE" or owner != identity:
            raise VmaError("an extent does not belong to this archive")
        if hashlib.md5(unsigned, usedforsecurity=False).digest() != checksum:
            raise VmaError("an extent's checksum is wrong")
        yield from _clusters(infos, _exactly(stream, count * BLOCK))


def _clusters(infos: list[int], blocks: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    at = 0
    for info in infos:
        mask, device, cluster = info >> 48, (info >> 32) & 0xFF, info & 0xFFFFFFFF
        if not device:
            continue
        if not mask:
            yield device, cluster, None
            continue
        data = bytearray(CLUSTER)
        for n in range(16):
            if mask >> n & 1:
                data[n * BLOCK : (n + 1) * BLOCK] = blocks[at : at + BLOCK]
                at += BLOCK
        yield device, cluster, bytes(data)


def check_whole(manifest: Manifest, seen: Mapping[int, int]) -> None:
    """Compare the number of clusters seen with the devices' sizes. Raises VmaError when some are missing."""
    for number, (name, size) in manifest.devices.items():
        expected = -(-size // CLUSTER)
        if seen.get(number, 0) != expected:
            raise VmaError(f"device '{name}' is incomplete: {seen.get(number, 0)} of {expected} clusters")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise VmaError("the archive is cut off")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
