# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what a guest's canary acknowledged on its serial port against what its disk really has.

The canary (labnode/image/canary.c) writes one record of 4096 bytes after another into a ring on its disk,
synchronously, and acknowledges each on the serial port only when the write has returned. An acknowledged record that
the disk does not have is lost data, whatever anybody's status display said meanwhile.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

BLOCK = 4096
HEADER = struct.Struct("<16sII")
HEADER_MAGIC = b"pvelab-canary-1\n"
RECORD = struct.Struct("<IIQQQ16sI")
RECORD_MAGIC = 0x59524E43

_ACK = re.compile(
    r"^canary ack seq=(?P<seq>\d+) boot=(?P<boot>[0-9a-f]{8}) mono_us=(?P<mono_us>\d+) real_us=(?P<real_us>\d+) "
    r"lat_us=(?P<lat_us>\d+) crc=(?P<crc>[0-9a-f]{8})\r?$",
    re.MULTILINE,
)
_ERROR = re.compile(r"^canary error seq=(?P<seq>\d+) .*?errno=(?P<errno>\d+) text=(?P<text>.*?)\r?$", re.MULTILINE)


class CanaryError(Exception):
    """The disk or the log cannot be judged; the text says which, and why."""


@dataclass(frozen=True)
class Ack:
    """One acknowledged write, as the serial port said it. Times in microseconds; `crc` is the record's own."""

    seq: int
    boot: str
    mono_us: int
    real_us: int
    lat_us: int
    crc: int


@dataclass(frozen=True)
class Record:
    """One valid record on the disk. Times in nanoseconds of the guest's clocks."""

    seq: int
    boot: str
    mono_ns: int
    real_ns: int
    last_latency_us: int
    crc: int


@dataclass
class Area:
    """The canary's ring: slot number -> valid record, and the slots that hold something else than a record or zeros."""

    slots: int
    records: dict[int, Record] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)

    @property
    def newest(self) -> int:
        """The highest sequence number found; 0 when there is none."""
        return max((record.seq for record in self.records.values()), default=0)

    def slot_of(self, seq: int) -> int:
        return (seq - 1) % self.slots


@dataclass
class Verdict:
    """What became of the acknowledged records, as counts and sequence numbers.

    lost: acknowledged, not on the disk. rewound: acknowledged, then the disk was set back (a rollback or a restore)
    and the number was used again. overwritten: the ring has come round, which proves nothing either way. corrupt:
    slots with a damaged record. torn: records that were being written when the power went, never acknowledged.
    """

    slots: int = 0
    acked: int = 0
    intact: int = 0
    overwritten: int = 0
    unacked: int = 0
    newest_acked: int = 0
    newest_found: int = 0
    lost: list[int] = field(default_factory=list)
    rewound: list[int] = field(default_factory=list)
    corrupt: list[int] = field(default_factory=list)
    torn: int = 0
    boots: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    lat_us: dict[str, int] = field(default_factory=dict)
    longest_gap_us: int = 0

    @property
    def sound(self) -> bool:
        """Nothing that was acknowledged is missing, and nothing is damaged."""
        return not (self.lost or self.corrupt)


def parse_serial(text: str) -> list[Ack]:
    """The acknowledgements in a serial log, in order; lines that were cut short are not acknowledgements."""
    found = []
    for match in _ACK.finditer(text):
        part = match.groupdict()
        numbers = (int(part["mono_us"]), int(part["real_us"]), int(part["lat_us"]), int(part["crc"], 16))
        found.append(Ack(int(part["seq"]), part["boot"], *numbers))
    return found


def parse_errors(text: str) -> dict[str, int]:
    """What the canary reported as failed writes: text of the error -> how often."""
    counts: dict[str, int] = {}
    for match in _ERROR.finditer(text):
        counts[match["text"]] = counts.get(match["text"], 0) + 1
    return counts


def read_disk(image: Path, snapshot: str | None = None) -> Area:
    """The canary's area of a disk image in any format QEMU reads, also one in use. Raises CanaryError.

    `snapshot` names an internal snapshot to look at instead of the present contents.
    """
    with tempfile.TemporaryDirectory(prefix="labnode-canary-") as work:
        raw = Path(work) / "disk.raw"
        chosen = ["-l", f"snapshot.name={snapshot}"] if snapshot else []
        argv = ["qemu-img", "convert", "-U", *chosen, "-O", "raw", str(image), str(raw)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise CanaryError("qemu-img is not installed; on Debian it is in the package qemu-utils") from None
        if done.returncode != 0:
            raise CanaryError(f"{image} cannot be read: {done.stderr.strip().splitlines()[-1]}")
        return read_raw(raw)


def read_raw(disk: Path) -> Area:
    """The canary's area of a raw disk: on the whole disk or on one of the partitions of its boot record."""
    with disk.open("rb") as handle:
        for start in _candidates(handle.read(512)):
            handle.seek(start)
            head = handle.read(BLOCK)
            if len(head) == BLOCK and head.startswith(HEADER_MAGIC):
                _, block, slots = HEADER.unpack_from(head)
                if block != BLOCK or not slots:
                    raise CanaryError(
                        f"{disk}: its canary area has blocks of {block} bytes; this version reads {BLOCK}"
                    )
                return _scan(iter(lambda: handle.read(BLOCK), b""), slots)
    raise CanaryError(f"{disk} has no canary area: neither the disk nor one of its partitions begins with one")


def _candidates(boot_record: bytes) -> Iterator[int]:
    yield 0
    if boot_record[510:512] == b"\x55\xaa":
        for index in range(4):
            yield int(struct.unpack_from("<I", boot_record, 446 + 16 * index + 8)[0]) * 512


def _scan(blocks: Iterable[bytes], slots: int) -> Area:
    area = Area(slots)
    nothing = bytes(BLOCK)
    for slot, block in zip(range(slots), blocks, strict=False):
        if block == nothing:
            continue
        record = parse_record(block)
        if record is None or area.slot_of(record.seq) != slot:
            area.damaged.append(slot)
        else:
            area.records[slot] = record
    return area


def parse_record(block: bytes) -> Record | None:
    """A record, or None when one of its two checksums or its magic is wrong."""
    if len(block) != BLOCK:
        return None
    magic, latency, seq, mono, real, boot, head_crc = RECORD.unpack_from(block)
    (crc,) = struct.unpack_from("<I", block, BLOCK - 4)
    good_head = head_crc == zlib.crc32(block[: RECORD.size - 4])
    if magic != RECORD_MAGIC or not seq or not good_head or crc != zlib.crc32(block[:-4]):
        return None
    return Record(seq, boot[:4].hex(), mono, real, latency, crc)


def judge(acks: list[Ack], area: Area, errors: dict[str, int] | None = None) -> Verdict:
    """Compare; without acknowledgements only the disk's own consistency is judged."""
    verdict = Verdict(slots=area.slots, acked=len(acks), newest_found=area.newest, errors=errors or {})
    latest = {ack.seq: ack for ack in acks}
    for ack in acks:
        _place(ack, latest[ack.seq], area, verdict)
    # A boot goes on behind what it finds: the number before its first one may be the one that the last boot began.
    begun = {area.newest + 1, *(b.seq - 1 for a, b in pairwise(acks) if a.boot != b.boot)} - set(latest)
    being_written = {area.slot_of(seq) for seq in begun}
    verdict.corrupt = [slot for slot in area.damaged if slot not in being_written]
    verdict.torn = len(area.damaged) - len(verdict.corrupt)
    verdict.newest_acked = max(latest, default=0)
    verdict.unacked = sum(1 for record in area.records.values() if record.seq not in latest)
    verdict.boots = len({ack.boot for ack in acks} | {record.boot for record in area.records.values()})
    verdict.lat_us = _percentiles([ack.lat_us for ack in acks])
    verdict.longest_gap_us = max(_gaps(acks), default=0)
    return verdict


def _place(ack: Ack, latest: Ack, area: Area, verdict: Verdict) -> None:
    if ack != latest:
        verdict.rewound.append(ack.seq)
        return
    record = area.records.get(area.slot_of(ack.seq))
    if record is not None and record.seq == ack.seq and record.crc == ack.crc:
        verdict.intact += 1
    elif record is not None and record.seq > ack.seq:
        verdict.overwritten += 1
    else:
        verdict.lost.append(ack.seq)


def _gaps(acks: list[Ack]) -> Iterator[int]:
    """Between two acknowledgements of one boot, by the guest's clock: a paused guest does not see its pause."""
    for one, two in pairwise(acks):
        if one.boot == two.boot and two.mono_us > one.mono_us:
            yield two.mono_us - one.mono_us


def _percentiles(values: list[int]) -> dict[str, int]:
    if not values:
        return {}
    ordered = sorted(values)
    return {name: ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for name, share in _SHARES}


_SHARES = (("p50", 50), ("p99", 99), ("max", 100))


def check(image: Path, serial: Path | None, *, snapshot: str | None = None) -> Verdict:
    """Read both sides and compare. Raises CanaryError."""
    text = ""
    if serial is not None:
        try:
            text = serial.read_text(encoding="utf-8", errors="replace")
        except OSError as err:
            raise CanaryError(f"{serial} cannot be read: {err.strerror}") from err
    return judge(parse_serial(text), read_disk(image, snapshot), parse_errors(text))


def describe(verdict: Verdict) -> str:
    """The verdict for a person, a few lines."""
    lines = [
        f"disk    newest record {verdict.newest_found or 'none'}, ring of {verdict.slots}, {verdict.boots} boot(s)",
    ]
    if verdict.acked:
        lines.append(
            f"acked   {verdict.acked}: {verdict.intact} intact, {verdict.overwritten} overwritten by newer ones, "
            f"{len(verdict.rewound)} rewound, {len(verdict.lost)} lost"
        )
        late = ", ".join(f"{name} {value / 1000:.1f} ms" for name, value in verdict.lat_us.items())
        lines.append(f"writes  {late}; longest gap {verdict.longest_gap_us / 1e6:.2f} s by the guest's own clock")
    lines.extend(f"error   {count} x {text}" for text, count in verdict.errors.items())
    for name, numbers in (("lost", verdict.lost), ("corrupt", verdict.corrupt)):
        if numbers:
            lines.append(f"{name:7} {ranges(numbers)}")
    lines.append("result  sound: nothing acknowledged is missing" if verdict.sound else "result  DATA LOST OR DAMAGED")
    return "\n".join(lines)


def ranges(numbers: list[int]) -> str:
    """`3-7, 9`: long runs stay readable."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in parts)


def to_json(verdict: Verdict) -> str:
    """The verdict for a program."""
    return json.dumps({**asdict(verdict), "sound": verdict.sound}, indent=2)


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`labnode canary check DISK`."""
    verbs = commands.add_parser("canary", help="what a guest's canary proves").add_subparsers(
        dest="verb", required=True
    )
    judge_it = verbs.add_parser("check", help="compare a disk with what was acknowledged on the serial port")
    judge_it.add_argument("disk", type=Path, help="disk image of the guest, in any format; it may be in use")
    judge_it.add_argument("--serial", type=Path, metavar="FILE", help="what the guest's serial port said")
    judge_it.add_argument("--snapshot", metavar="NAME", help="look at this internal snapshot of the disk")
    judge_it.add_argument("--json", action="store_true", help="print the verdict for a program")


def command(args: argparse.Namespace) -> int:
    """Exit status 0: sound; 1: data lost or damaged; 2: it could not be judged."""
    try:
        verdict = check(args.disk, args.serial, snapshot=args.snapshot)
    except CanaryError as err:
        print(f"labnode: {err}", file=sys.stderr)
        return 2
    print(to_json(verdict) if args.json else describe(verdict))
    return 0 if verdict.sound else 1
