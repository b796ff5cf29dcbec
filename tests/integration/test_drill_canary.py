# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill makes of a canary's lines, and of its disk: which acknowledged writes are lost."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    BLOCK,
    Package,
    ack_line,
    crc,
    header,
    package,
    record,
)
from labnode import canary as labnodes

SLOTS = 8


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


def acks(drill: Package, *times: float) -> list[Any]:
    return [drill.canary.Ack(at, seq, "0a1b2c3d", 1.0, crc(seq), seq) for seq, at in enumerate(times, start=1)]


def said(drill: Package, *seqs: int) -> list[Any]:
    return [drill.canary.Ack(float(at), seq, "0a1b2c3d", 1.0, crc(seq), seq) for at, seq in enumerate(seqs)]


def ring(*blocks: bytes, slots: int = SLOTS) -> bytes:
    return (header(slots) + b"".join(blocks)).ljust((1 + slots) * BLOCK, b"\0")


# lines ------------------------------------------------------------------------------------------------------------


def test_a_whole_line_is_an_acknowledgement(drill: Package) -> None:
    heard = drill.canary.Heard()
    heard.line(ack_line(7, latency_us=1500), 12.5)
    (ack,) = heard.acks
    assert (ack.at, ack.seq, ack.boot, ack.latency_ms, ack.crc, ack.real_us) == (12.5, 7, "0a1b2c3d", 1.5, crc(7), 14)


@pytest.mark.parametrize(
    "text",
    [
        ack_line(7).strip()[:-1],
        ack_line(7).strip()[3:],
        ack_line(7).strip() + "0",
        ack_line(7).strip()[:30] + ack_line(8).strip(),
        ack_line(7).replace("crc=", "crc=x"),
        "canary start seq=1 boot=0a1b2c3d device=/dev/vda slots=8 pace_ms=100",
        "login: ",
        "",
    ],
)
def test_a_torn_line_and_anything_else_acknowledges_nothing(drill: Package, text: str) -> None:
    heard = drill.canary.Heard()
    heard.line(text, 1.0)
    assert (heard.acks, heard.errors) == ([], {})


def test_errors_are_counted_by_what_they_say(drill: Package) -> None:
    heard = drill.canary.Heard()
    for at in (1.0, 2.0):
        line = "canary error seq=7 boot=0a1b2c3d mono_us=9 errno=28 text=No space left on device\r\n"
        heard.line(line, at)
    heard.line("canary error seq=7 boot=0a1b2c3d mono_us=9 errno=5 text=Input/output error", 3.0)
    assert heard.errors == {"No space left on device": 2, "Input/output error": 1}
    assert (heard.acks, heard.last_error) == ([], 3.0)


def test_between_takes_the_beginning_and_leaves_the_end(drill: Package) -> None:
    heard = drill.canary.Heard(acks=acks(drill, 1.0, 2.0, 3.0))
    assert [ack.at for ack in heard.between(1.0, 3.0)] == [1.0, 2.0]


# outages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ((9.0, 10.0, 11.0, 19.0, 20.0), [(11.0, 19.0)]),
        ((1.0, 8.0, 9.5, 10.5, 20.5), [(10.5, None)]),
        ((1.0, 9.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0), [(9.0, 14.0)]),
        ((9.0, 10.0, 10.5, 12.0, 14.0, 16.0, 18.0, 19.0), []),
        ((9.0, 11.0, 14.0, 14.5, 18.0, 19.9), [(11.0, 14.0), (14.5, 18.0)]),
        ((9.5, 11.0, 12.5, 20.0, 21.0), [(12.5, None)]),
        ((13.0, 15.0, 17.0, 19.0), [(10.0, 13.0)]),
        ((), [(10.0, None)]),
        ((9.0,), [(9.0, None)]),
    ],
    ids=["inside", "before, and open", "across", "none", "two", "ends too late", "none before", "never", "all before"],
)
def test_outages_from_10_to_20(drill: Package, times: tuple[float, ...], found: list[Any]) -> None:
    assert drill.canary.outages(acks(drill, *times), 10.0, 20.0, 2.0) == found


def test_an_outage_is_longer_than_what_is_asked_for(drill: Package) -> None:
    assert drill.canary.outages(acks(drill, 10.0, 12.0), 10.0, 14.0, 2.0) == []
    assert drill.canary.outages(acks(drill, 10.0, 12.0), 10.0, 14.0, 1.9) == [(10.0, 12.0), (12.0, None)]


def test_latency_and_the_longest_gap(drill: Package) -> None:
    assert drill.canary.latency([]) is None
    assert drill.canary.longest_gap(acks(drill, 1.0)) == 0.0
    assert drill.canary.longest_gap(acks(drill, 1.0, 1.5, 4.0, 4.1)) == 2.5
    many = [drill.canary.Ack(0.0, 1, "0a1b2c3d", float(number), 0, 0) for number in reversed(range(1, 201))]
    found = drill.canary.latency(many)
    assert (found["n"], found["max"]) == (200, 200.0)
    assert 100.0 <= found["p50"] <= 101.0
    assert 198.0 <= found["p99"] <= 199.0


# the disk ---------------------------------------------------------------------------------------------------------


def test_a_record_and_what_is_none(drill: Package) -> None:
    good = record(5)
    assert drill.canary.record(good) == (5, crc(5))
    damaged = [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in (0, 9, 50, 54, 2000, BLOCK - 1)]
    for block in [*damaged, bytes(BLOCK), good[:-1], b"", record(0)]:
        assert drill.canary.record(block) is None


def test_it_reads_what_labnode_reads(drill: Package, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(ring(record(9), record(2), b"\1" * BLOCK, record(4), record(4)))
    area, found = labnodes.read_raw(disk), drill.canary.read_disk(disk, tmp_path)
    assert {slot: (row.seq, row.crc) for slot, row in area.records.items()} == found.records
    assert (area.slots, tuple(area.damaged)) == (found.slots, found.damaged)
    assert found.records == {0: (9, crc(9)), 1: (2, crc(2)), 3: (4, crc(4))}
    assert found.damaged == (2, 4), "a record in a slot that is not its own is damage, too"


def test_an_area_on_a_partition_of_an_image_in_another_format(drill: Package, tmp_path: Path) -> None:
    table = bytearray(512)
    table[510:] = b"\x55\xaa"
    struct.pack_into("<I", table, 446 + 16 + 8, 16)
    raw, image, scratch = tmp_path / "raw", tmp_path / "disk.qcow2", tmp_path / "scratch"
    scratch.mkdir()
    raw.write_bytes(bytes(table).ljust(16 * 512, b"\0") + ring(record(1), record(2)))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(image)], check=True, timeout=60)
    assert sorted(drill.canary.read_disk(image, scratch).records) == [0, 1]
    assert list(scratch.iterdir()) == [], "the copy is gone again"


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (bytes(BLOCK * 4), "has no canary area"),
        (header(8, block=512) + bytes(BLOCK), "8 blocks of 512 bytes"),
        (header(0) + bytes(BLOCK), "0 blocks of 4096 bytes"),
    ],
)
def test_a_disk_without_a_ring_is_trouble(drill: Package, tmp_path: Path, disk: bytes, said: str) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(disk)
    with pytest.raises(drill.shell.Trouble, match=said):
        drill.canary.read_disk(path, tmp_path)
    with pytest.raises(drill.shell.Trouble, match=r"none\.raw"):
        drill.canary.read_disk(tmp_path / "none.raw", tmp_path)


# what is lost -----------------------------------------------------------------------------------------------------


def judged(drill: Package, folder: Path, seqs: list[int], *blocks: bytes) -> Any:
    disk = folder / "disk.raw"
    disk.write_bytes(ring(*blocks))
    return drill.canary.judge(said(drill, *seqs), drill.canary.read_disk(disk, folder))


def test_all_that_was_acknowledged_is_there(drill: Package, tmp_path: Path) -> None:
    assert judged(drill, tmp_path, [1, 2, 3], record(1), record(2), record(3), record(4)) == ([], [])
    assert judged(drill, tmp_path, [], *(record(seq) for seq in range(1, 9))) == ([], [])


@pytest.mark.parametrize(
    ("blocks", "lost"),
    [
        ((record(1), record(2), bytes(BLOCK)), [3]),
        ((record(1), bytes(BLOCK), record(3)), [2]),
        ((record(1), record(2), record(3, filling=77)), [3]),
        ((bytes(BLOCK),), [1, 2, 3]),
    ],
    ids=["the last", "in between", "another record of that number", "all"],
)
def test_an_acknowledged_record_that_is_not_there_is_lost(
    drill: Package, tmp_path: Path, blocks: tuple[bytes, ...], lost: list[int]
) -> None:
    assert judged(drill, tmp_path, [1, 2, 3], *blocks) == (lost, [])


def test_what_the_ring_has_written_over_is_not_lost(drill: Package, tmp_path: Path) -> None:
    blocks = [record(seq) for seq in (9, 10, 3, 4, 5, 6, 7, 8)]
    assert judged(drill, tmp_path, list(range(1, 11)), *blocks) == ([], [])
    blocks[1] = record(2)
    assert judged(drill, tmp_path, list(range(1, 11)), *blocks) == ([10], []), "an older record stands in its place"


def test_the_record_that_was_being_written_is_neither_lost_nor_damage(drill: Package, tmp_path: Path) -> None:
    torn = record(3)[:2048].ljust(BLOCK, b"\0")
    assert judged(drill, tmp_path, [1, 2], record(1), record(2), torn) == ([], [])
    assert judged(drill, tmp_path, [1, 2, 3], record(1), record(2), torn) == ([3], [2]), "but not once it was promised"
    assert judged(drill, tmp_path, [3], torn, record(2), record(3)) == ([], [0]), "and only the newest is being written"


def test_what_a_boot_has_cut_off_and_the_next_has_gone_behind(drill: Package, tmp_path: Path) -> None:
    torn = record(2)[:2048].ljust(BLOCK, b"\0")
    disk = tmp_path / "disk.raw"
    disk.write_bytes(ring(record(1), torn, record(3)))
    area = drill.canary.read_disk(disk, tmp_path)

    def heard(*said: tuple[int, str]) -> list[Any]:
        return [drill.canary.Ack(float(seq), seq, boot, 1.0, crc(seq), 0) for seq, boot in said]

    assert drill.canary.judge(heard((1, "a" * 8), (3, "b" * 8)), area) == ([], [])
    assert drill.canary.judge(heard((1, "a" * 8), (3, "a" * 8)), area) == ([], [1]), "no boot has cut it off"
    assert drill.canary.judge(heard((2, "a" * 8), (3, "b" * 8)), area) == ([2], [1]), "not once it was promised"


def test_a_number_that_is_used_again_counts_as_it_was_used_last(drill: Package, tmp_path: Path) -> None:
    first, last = drill.canary.Ack(1.0, 1, "0" * 8, 1.0, 5, 0), drill.canary.Ack(2.0, 1, "1" * 8, 1.0, crc(1), 0)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(ring(record(1)))
    area = drill.canary.read_disk(disk, tmp_path)
    assert drill.canary.judge([first, last], area) == ([], [])
    assert drill.canary.judge([last, first], area) == ([1], [])
