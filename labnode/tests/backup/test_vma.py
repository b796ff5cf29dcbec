# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive format, on generated content and on damaged streams."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labnode.backup import vma

CLUSTERS = st.lists(
    st.one_of(st.none(), st.binary(min_size=1, max_size=64).map(lambda b: b.ljust(vma.CLUSTER, b"\0"))), max_size=130
)


def archive(disks: list[list[bytes | None]], config: bytes = b"name: x\n") -> bytes:
    out = io.BytesIO()
    manifest = vma.Manifest({"qemu-server.conf": config}, ctime=1_700_000_000)
    for number, clusters in enumerate(disks, 1):
        manifest.devices[number] = (f"drive-scsi{number}", max(1, len(clusters)) * vma.CLUSTER)
    extents = vma.ExtentWriter(out, vma.write_header(out, manifest))
    for number, clusters in enumerate(disks, 1):
        for n, data in enumerate(clusters or [None]):
            extents.add(number, n, data)
    extents.flush()
    return out.getvalue()


def unpack(raw: bytes) -> tuple[vma.Manifest, dict[int, dict[int, bytes | None]]]:
    stream = io.BytesIO(raw)
    manifest, identity = vma.read_header(stream)
    seen: dict[int, dict[int, bytes | None]] = {}
    for device, cluster, data in vma.read_clusters(stream, identity):
        seen.setdefault(device, {})[cluster] = data
    vma.check_whole(manifest, {n: len(c) for n, c in seen.items()})
    return manifest, seen


@settings(max_examples=25, deadline=None)
@given(st.lists(CLUSTERS, min_size=1, max_size=3), st.binary(max_size=200))
def test_what_is_written_is_read_back(disks: list[list[bytes | None]], config: bytes) -> None:
    manifest, seen = unpack(archive(disks, config))
    assert manifest.configs == {"qemu-server.conf": config} and manifest.ctime == 1_700_000_000
    for number, clusters in enumerate(disks, 1):
        zeroed = [None if data is None or not any(data) else data for data in clusters or [None]]
        assert [seen[number][n] for n in range(len(zeroed))] == zeroed


def test_zeros_take_no_room() -> None:
    assert len(archive([[bytes(vma.CLUSTER)] * 59])) == len(archive([[None] * 59]))


@pytest.mark.parametrize("at", [0, 5, 2100, 12300, 12288 + 512 + 41])
def test_a_changed_byte_is_noticed(at: int) -> None:
    raw = bytearray(archive([[b"data".ljust(vma.CLUSTER, b"\0")]]))
    raw[at] ^= 0xFF
    with pytest.raises(vma.VmaError):
        unpack(bytes(raw))


@pytest.mark.parametrize("cut", [100, 12290, -1, -vma.BLOCK, -vma.BLOCK - 512])
def test_a_stream_that_ends_too_soon_is_noticed(cut: int) -> None:
    with pytest.raises(vma.VmaError, match=r"cut off|incomplete"):
        unpack(archive([[b"data".ljust(vma.CLUSTER, b"\0")]])[:cut])
