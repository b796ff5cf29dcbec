# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's canary says on its serial port, and what its disk says of that.

The canary writes one record of 4096 bytes after another into a ring on its disk and acknowledges each only when the
write has returned. So an acknowledged record that the disk does not have is lost data, whatever a status display says.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from . import shell
from .shell import Trouble

BLOCK = 4096
MAGIC = b"pvelab-canary-1\n"
HEADER = struct.Struct("<16sII")
RECORD = struct.Struct("<IIQQQ16sI")
RECORD_MAGIC = 0x59524E43
ACK = re.compile(
    r"^canary ack seq=(?P<seq>\d+) boot=(?P<boot>[0-9a-f]{8}) mono_us=\d+ real_us=(?P<real>\d+) "
    r"lat_us=(?P<lat>\d+) crc=(?P<crc>[0-9a-f]{8})$"
)
ERROR = re.compile(r"^canary error seq=\d+ .*errno=\d+ text=(?P<text>.*)$")


@dataclass(frozen=True)
class Ack:
    """An acknowledged write: when the host heard of it (seconds, monotonic), how long it took (ms), what it was, and
    the guest's own time (microseconds since 1970)."""

    at: float
    seq: int
    boot: str
    latency_ms: float
    crc: int
    real_us: int


@dataclass
class Heard:
    """All that one guest's canary has said so far. Of a guest without one (pulses): ``unseen`` are times in which
    nobody could look at it, ``written`` is how many bytes QEMU says that it has written, and when, and ``trouble`` is
    why it was not heard the last time; ``touched`` says whether anything may have been put into it."""

    acks: list[Ack] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    last_error: float | None = None
    unseen: list[tuple[float, float]] = field(default_factory=list)
    written: list[tuple[float, int]] = field(default_factory=list)
    trouble: str = ""
    touched: bool = False

    def line(self, text: str, at: float) -> Ack | None:
        """Take one whole line of the serial port, and what it acknowledges; others than a canary's are nobody's
        business."""
        text = text.strip()
        if match := ACK.match(text):
            number = (int(match["lat"]) / 1000.0, int(match["crc"], 16), int(match["real"]))
            self.acks.append(Ack(at, int(match["seq"]), match["boot"], *number))
            return self.acks[-1]
        if match := ERROR.match(text):
            self.errors[match["text"]] = self.errors.get(match["text"], 0) + 1
            self.last_error = at
        return None

    def between(self, begin: float, end: float) -> list[Ack]:
        """What was acknowledged in a time."""
        return [ack for ack in self.acks if begin <= ack.at < end]


def outages(acks: list[Ack], begin: float, end: float, longer_than_s: float) -> list[tuple[float, float | None]]:
    """Times without an acknowledgement that lasted longer than ``longer_than_s``, by the host's clock: from the last
    one before to the first one after; None where none came until ``end``."""
    times = [ack.at for ack in acks if ack.at < end]
    before = [at for at in times if at <= begin]
    points = [before[-1] if before else begin, *(at for at in times if at > begin)]
    found: list[tuple[float, float | None]] = [(a, b) for a, b in pairwise(points) if b - a > longer_than_s]
    if end - points[-1] > longer_than_s:
        found.append((points[-1], None))
    return found


def longest_gap(acks: list[Ack]) -> float:
    """The longest time between two acknowledgements, seconds of the host's clock."""
    return max((b.at - a.at for a, b in pairwise(acks)), default=0.0)


def latency(acks: list[Ack]) -> dict[str, float] | None:
    """How long writes took: n, p50, p99 and max in milliseconds, None where there are none."""
    if not acks:
        return None
    ordered = sorted(ack.latency_ms for ack in acks)
    last = len(ordered) - 1
    return {
        "n": len(ordered),
        "p50": ordered[min(last, len(ordered) // 2)],
        "p99": ordered[min(last, len(ordered) * 99 // 100)],
        "max": ordered[last],
    }


@dataclass(frozen=True)
class OnDisk:
    """A guest's ring: slot → (seq, crc) of a valid record, and the slots that hold something else."""

    slots: int
    records: dict[int, tuple[int, int]]
    damaged: tuple[int, ...]


def read_disk(path: Path, scratch: Path) -> OnDisk:
    """The canary's area of a guest's disk, which may be in use: a block device, or an image in any format of QEMU.
    Raises Trouble where it cannot be read or has none."""
    if path.is_block_device():
        return _scan(path)
    copy = scratch / "copy-of-a-disk.raw"
    try:
        shell.run(["qemu-img", "convert", "-U", "-O", "raw", str(path), str(copy)], timeout_s=300)
        return _scan(copy)
    finally:
        copy.unlink(missing_ok=True)


def _scan(disk: Path) -> OnDisk:
    try:
        with disk.open("rb") as file:
            for start in _starts(file.read(512)):
                file.seek(start)
                head = file.read(BLOCK)
                if head.startswith(MAGIC):
                    _magic, block, slots = HEADER.unpack_from(head)
                    if block != BLOCK or not slots:
                        raise Trouble(f"{disk}: its canary area has {slots} blocks of {block} bytes, not of {BLOCK}")
                    return _ring(iter(lambda: file.read(BLOCK), b""), slots)
    except OSError as error:
        raise Trouble(f"{disk} cannot be read: {error.strerror}") from error
    raise Trouble(f"{disk} has no canary area, neither on the whole disk nor on one of its partitions")


def _starts(boot_record: bytes) -> Iterator[int]:
    yield 0
    if boot_record[510:512] == b"\x55\xaa":
        for index in range(4):
            yield int(struct.unpack_from("<I", boot_record, 446 + 16 * index + 8)[0]) * 512


def _ring(blocks: Iterator[bytes], slots: int) -> OnDisk:
    records: dict[int, tuple[int, int]] = {}
    damaged = []
    nothing = bytes(BLOCK)
    for slot, block in zip(range(slots), blocks, strict=False):
        if block == nothing:
            continue
        found = record(block)
        if found is None or (found[0] - 1) % slots != slot:
            damaged.append(slot)
        else:
            records[slot] = found
    return OnDisk(slots, records, tuple(damaged))


def record(block: bytes) -> tuple[int, int] | None:
    """Sequence number and checksum of a record, None where it is none or is damaged."""
    if len(block) != BLOCK:
        return None
    magic, _latency, seq, _mono, _real, _boot, head = RECORD.unpack_from(block)
    (crc,) = struct.unpack_from("<I", block, BLOCK - 4)
    whole = head == zlib.crc32(block[: RECORD.size - 4]) and crc == zlib.crc32(block[:-4])
    return (seq, crc) if magic == RECORD_MAGIC and seq and whole else None


def judge(acks: list[Ack], disk: OnDisk) -> tuple[list[int], list[int]]:
    """The sequence numbers that were acknowledged and are not on the disk, and the slots that are damaged.

    A number that was used again counts as it was used last: after a rollback the disk is right and the past is not.
    What was being written when the power went, and was never acknowledged, is neither.
    """
    latest = {ack.seq: ack for ack in acks}
    lost = []
    for seq, ack in latest.items():
        found = disk.records.get((seq - 1) % disk.slots)
        if found is None or (found[0] <= seq and found != (seq, ack.crc)):
            lost.append(seq)
    newest = max((seq for seq, _crc in disk.records.values()), default=0)
    # A boot goes on behind what it finds: the number before its first one may be the one that the last boot began.
    begun = {newest + 1, *(b.seq - 1 for a, b in pairwise(acks) if a.boot != b.boot)} - set(latest)
    being_written = {(seq - 1) % disk.slots for seq in begun}
    return sorted(lost), [slot for slot in disk.damaged if slot not in being_written]
