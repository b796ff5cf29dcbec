# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary program (compiled here) and the checker agree on the layout, and the checker finds every fault."""

from __future__ import annotations

import resource
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labnode import canary

SOURCE = Path(__file__).resolve().parents[2] / "image" / "canary.c"
SLOTS = 128


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("canary") / "canary"
    subprocess.run(["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", target, SOURCE], check=True)
    return target


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as handle:
        handle.write(struct.pack("<16sII", canary.HEADER_MAGIC, canary.BLOCK, SLOTS))
        handle.truncate((SLOTS + 1) * canary.BLOCK)
    return path


@contextmanager
def running(program: Path, disk: Path, serial: Path) -> Iterator[subprocess.Popen[bytes]]:
    serial.touch()
    # Python ignores SIGXFSZ and hands that on: a write beyond the limit is an error, not the end.
    process = subprocess.Popen([program, disk, "1", serial], restore_signals=False)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(serial: Path, count: int, deadline_s: float = 20) -> None:
    end = time.monotonic() + deadline_s
    while len(canary.parse_serial(serial.read_text())) < count:
        assert time.monotonic() < end, f"fewer than {count} acknowledgements: {serial.read_text()[-300:]}"


def beat(program: Path, disk: Path, serial: Path, count: int, stop: signal.Signals = signal.SIGKILL) -> None:
    copy = serial.with_suffix(".one")
    copy.unlink(missing_ok=True)
    with running(program, disk, copy) as process:
        until(copy, count)
        process.send_signal(stop)
        process.wait(timeout=10)
    with serial.open("a") as whole:
        whole.write(copy.read_text())


def patch(disk: Path, at: int, data: bytes) -> None:
    with disk.open("r+b") as handle:
        handle.seek(at)
        handle.write(data)


def slot_at(slot: int) -> int:
    return (slot + 1) * canary.BLOCK


def test_everything_acknowledged_is_found_after_a_kill(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 20)
    verdict = canary.check(disk, serial)
    assert verdict.sound
    assert verdict.intact == verdict.acked >= 20
    assert verdict.newest_found in (verdict.newest_acked, verdict.newest_acked + 1)
    assert set(verdict.lat_us) == {"p50", "p99", "max"}


def test_the_sequence_goes_on_after_a_restart_and_round_the_ring(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    for _ in range(3):
        beat(program, disk, serial, SLOTS // 2 + 10)
    acks = canary.parse_serial(serial.read_text())
    assert [ack.seq for ack in acks] == sorted({ack.seq for ack in acks}), "a number was used twice"
    verdict = canary.check(disk, serial)
    assert verdict.sound
    assert verdict.overwritten > 0
    assert verdict.intact + verdict.overwritten == verdict.acked


def test_a_clean_stop_says_so(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 3, signal.SIGTERM)
    assert "canary stop boot=" in serial.read_text()


def test_a_record_taken_away_is_lost(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 10)
    patch(disk, slot_at(4), bytes(canary.BLOCK))
    verdict = canary.check(disk, serial)
    assert (verdict.sound, verdict.lost, verdict.corrupt) == (False, [5], [])


@pytest.mark.parametrize("at", [8, 2000, canary.BLOCK - 1], ids=["head", "body", "checksum"])
def test_one_flipped_byte_is_corruption(program: Path, disk: Path, tmp_path: Path, at: int) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 10)
    raw = disk.read_bytes()
    patch(disk, slot_at(4) + at, bytes([raw[slot_at(4) + at] ^ 1]))
    verdict = canary.check(disk, serial)
    assert (verdict.sound, verdict.lost, verdict.corrupt) == (False, [5], [4])


def test_a_record_in_the_wrong_place_is_corruption(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 10)
    patch(disk, slot_at(4), disk.read_bytes()[slot_at(5) : slot_at(6)])
    assert canary.check(disk, serial).corrupt == [4]


def test_what_was_being_written_when_the_power_went_is_torn_not_corrupt(
    program: Path, disk: Path, tmp_path: Path
) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 10, signal.SIGTERM)
    newest = canary.read_raw(disk).newest
    patch(disk, slot_at(newest), b"half a record")
    verdict = canary.check(disk, serial)
    assert (verdict.sound, verdict.torn, verdict.corrupt) == (True, 1, [])


def test_what_one_boot_has_torn_and_the_next_has_gone_behind_is_no_damage() -> None:
    def ack(seq: int, boot: str) -> canary.Ack:
        return canary.Ack(seq, boot, 1, 1, 1, seq)

    def record(seq: int) -> canary.Record:
        return canary.Record(seq, "0" * 8, 1, 1, 1, seq)

    area = canary.Area(8, {0: record(1), 2: record(3)}, [1])
    assert canary.judge([ack(1, "a"), ack(3, "b")], area).torn == 1
    assert canary.judge([ack(1, "a"), ack(3, "a")], area).corrupt == [1], "no boot has cut it off"
    assert canary.judge([ack(2, "a"), ack(3, "b")], area).corrupt == [1], "it was acknowledged"


def test_a_rollback_is_seen_as_rewound_numbers(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 10, signal.SIGTERM)
    saved = disk.read_bytes()
    before = canary.read_raw(disk).newest
    beat(program, disk, serial, 5, signal.SIGTERM)
    disk.write_bytes(saved)
    beat(program, disk, serial, 30, signal.SIGTERM)
    verdict = canary.check(disk, serial)
    assert verdict.sound
    assert verdict.rewound[0] == before + 1
    assert len(verdict.rewound) >= 5


def test_a_damaged_record_does_not_hide_newer_ones(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    beat(program, disk, serial, 80, signal.SIGTERM)
    newest = canary.read_raw(disk).newest
    patch(disk, slot_at(64), bytes(canary.BLOCK))  # one of the slots that the restart looks at first
    beat(program, disk, serial, 1, signal.SIGTERM)
    assert canary.parse_serial(serial.read_text())[-1].seq > newest


def test_a_failing_write_is_reported_and_tried_again(program: Path, disk: Path, tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    with running(program, disk, serial) as process:
        until(serial, 3)
        allow_file_size(process.pid, canary.BLOCK)
        end = time.monotonic() + 10
        while "File too large" not in canary.parse_errors(serial.read_text()):
            assert time.monotonic() < end, "no error was reported"
        stuck_at = canary.parse_serial(serial.read_text())[-1].seq
        allow_file_size(process.pid, resource.RLIM_INFINITY)
        until(serial, stuck_at + 3)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
    acks = canary.parse_serial(serial.read_text())
    assert [ack.seq for ack in acks] == list(range(1, len(acks) + 1)), "a number was skipped"
    assert canary.check(disk, serial).sound


def allow_file_size(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_cut_line_is_no_acknowledgement() -> None:
    line = "canary ack seq=1 boot=00112233 mono_us=1 real_us=2 lat_us=3 crc=0000000a\n"
    assert [ack.seq for ack in canary.parse_serial(line)] == [1]
    assert canary.parse_serial(line[:-3]) == []
    assert canary.parse_serial("[ 1.0] kernel says " + line) == []


def test_a_disk_without_a_canary_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.raw"
    plain.write_bytes(bytes(1 << 20))
    with pytest.raises(canary.CanaryError, match="no canary area"):
        canary.read_raw(plain)


def test_runs_of_numbers_stay_readable() -> None:
    assert canary.ranges([9, 1, 2, 3]) == "1-3, 9"
