# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a failure drill, schema ``pvelab-drill-journal/1``; ``docs/drills/journal.schema.json`` says it all.

Times are seconds of the host's CLOCK_MONOTONIC; what is not known is None. The classes here are the journal's objects,
and their fields its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from .drill_fields import Malformed, build, moment, parse, shown
from .drill_probes import ProbeResult
from .steps import Failure

SCHEMA = "pvelab-drill-journal/1"
Verdict: TypeAlias = Literal[
    "passed",
    "recovered_by_deadman",
    "hypothesis_refuted",
    "fault_not_observed",
    "not_recovered",
    "aborted_preflight",
    "inconclusive",
    "skipped",
]
Source: TypeAlias = Literal[
    "runner", "canary", "qmp", "kernel", "api", "unit", "undo", "guest_watch", "link", "journal", "vantage"
]
MARKS = ("inject", "effect", "detected", "api", "watch", "relief", "recover", "restored", "verified")
METRICS = ("time_to_detect_s", "blind_s", "watch_s", "time_to_recover_s", "outage_s")
# Only in journals of hosts on which guest_watch ran.
WATCHED = "watch_s"


@dataclass(frozen=True)
class Clock:
    """One moment by two clocks: seconds of CLOCK_MONOTONIC, and UTC."""

    monotonic: float
    utc: str


@dataclass(frozen=True)
class Drill:
    """What the drill is: its name, what was expected, and what is to be learnt."""

    name: str
    title: str
    hypothesis: str
    blast_radius: Literal["file", "guest", "storage", "bridge", "host", "node-reboot"]
    learn: tuple[str, ...]
    remedy: str | None


@dataclass(frozen=True)
class DrillHost:
    """Where it ran. Boot ids differ if the host has rebooted during the drill."""

    name: str
    machine_id: str | None
    boot_id_before: str | None
    boot_id_after: str | None
    kernel: str | None
    qemu: str | None
    pve: str | None
    cpus: int | None
    memory_mib: float | None


@dataclass(frozen=True)
class Fault:
    """What was broken, as data."""

    kind: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class DrillPlan:
    """What was to be done: ``inject``, ``relief`` and ``undo`` are the exact texts of the shell, ``limits`` are in
    seconds. Journals that are older than ``relief`` have none. ``canaries``: by what guests were known that have no
    canary on a serial port."""

    fault: Fault
    targets: tuple[str, ...]
    victims: tuple[int, ...]
    bystanders: tuple[int, ...]
    canaries: Mapping[str, Any]
    inject: str | None
    relief: str | None
    undo: str | None
    limits: Mapping[str, float | None]


@dataclass(frozen=True)
class Guard:
    """One reason not to begin: whether it held, what was seen, and what to do if it did not hold."""

    name: str
    ok: bool | None
    value: str | None
    remedy: str | None


@dataclass(frozen=True)
class Phase:
    """One state of the drill from ``began`` to ``ended``; ``text`` says why it is not ok."""

    name: Literal[
        "preflight", "baseline", "arm", "inject", "observe", "relieve", "recover", "verify", "disarm", "report"
    ]
    began: float
    ended: float | None
    ok: bool | None
    text: str | None


@dataclass(frozen=True)
class Event:
    """Something that happened, by the one who saw it."""

    at: float
    source: Source
    guest: int | None
    text: str


@dataclass(frozen=True)
class Outage:
    """Guest stood still from ``from_`` to ``to`` (None: to the end of the run) for ``s`` seconds, by the host."""

    from_: float
    to: float | None
    s: float | None


@dataclass(frozen=True)
class Latency:
    """Latencies of ``n`` writes, in milliseconds."""

    n: int
    p50: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class Latencies:
    """Latencies before, during and after the fault; ``relief``: during it, with what an operator did meanwhile."""

    baseline: Latency | None
    fault: Latency | None
    relief: Latency | None
    after: Latency | None


@dataclass(frozen=True)
class Canary:
    """Numbered writes. ``lost`` and ``corrupt`` are numbers of acknowledged ones, found by reading the disk back."""

    acked: int | None
    checked: bool | None
    lost: tuple[int, ...]
    corrupt: tuple[int, ...]
    errors: Mapping[str, int]
    rpo_records: int | None
    rpo_s: float | None
    boots: int | None


@dataclass(frozen=True)
class Written:
    """Bytes that a guest has written, as QEMU counts, before, during and after the fault."""

    baseline: int | None
    fault: int | None
    after: int | None


@dataclass(frozen=True)
class GuestResult:
    """How one guest fared; seconds by the host's clock. ``probe`` says what told of it, and ``resolution_s`` how far
    apart that was before the fault; the last two are of guests without a canary on a serial port."""

    vmid: int
    name: str | None
    role: Literal["victim", "bystander"]
    probe: Literal["canary", "agent", "echo", "blockstat", "none"]
    outages: tuple[Outage, ...]
    outage_s: float | None
    longest_gap_s: float | None
    latency_ms: Latencies | None
    canary: Canary | None
    resolution_s: float | None
    written_bytes: Written | None

    @property
    def called(self) -> str:
        """How people call it: "103 (db1)"."""
        return f"{self.vmid} ({self.name})" if self.name else str(self.vmid)


@dataclass(frozen=True)
class Blind:
    """Seconds without a try."""

    from_: float
    to: float


@dataclass(frozen=True)
class Vantage:
    """What was seen from a machine that the drill did not break, by the host's clock: ``offset_s`` was added to its
    times, and may be wrong by ``error_s``. ``away``: when nothing of the host answered at all."""

    name: str
    offset_s: float
    error_s: float | None
    drift_s: float | None
    exchanges: int
    from_: float | None
    to: float | None
    gaps: tuple[Blind, ...]
    away: tuple[Outage, ...]
    probes: tuple[ProbeResult, ...]


@dataclass(frozen=True)
class Sign:
    """One sign by which the fault is to be known."""

    name: str
    seen: bool | None
    at: float | None
    evidence: str | None


@dataclass(frozen=True)
class Undo:
    """The timer that would have undone it: seconds at which it was armed and due, and whether it fired."""

    unit: str | None
    rehearsed: bool | None
    armed: float | None
    fired: bool | None
    due: float | None


@dataclass(frozen=True)
class Residue:
    """What was looked at after the drill, and what was still there."""

    checked: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class Gap:
    """Seconds without a sample."""

    from_: float
    to: float | None


@dataclass(frozen=True)
class Recorder:
    """The recorder: samples a second, how many, its gaps, its share of one processor (0 to 1)."""

    hz: float | None
    samples: int | None
    gaps: tuple[Gap, ...]
    cpu_share: float | None


@dataclass(frozen=True)
class EvidenceFile:
    """A file beside the journal."""

    name: str
    sha256: str | None
    bytes: int | None


@dataclass(frozen=True)
class Journal:
    """A whole journal."""

    schema: str
    run: str
    began_utc: str
    ended_utc: str | None
    clock: Clock | None
    drill: Drill
    host: DrillHost
    plan: DrillPlan
    guards: tuple[Guard, ...]
    states: tuple[Phase, ...]
    events: tuple[Event, ...]
    marks: Mapping[str, float | None]
    metrics: Mapping[str, float | None]
    guests: tuple[GuestResult, ...]
    probes: tuple[ProbeResult, ...]
    vantage: Vantage | None
    signature: tuple[Sign, ...]
    undo: Undo | None
    residue: Residue | None
    recorder: Recorder | None
    verdict: Verdict
    because: str
    evidence: tuple[EvidenceFile, ...]

    @property
    def zero(self) -> float | None:
        """The second that a report calls 0: of the injection, or of the first state where there was none."""
        injected = self.marks.get("inject")
        return injected if injected is not None else min((s.began for s in self.states), default=None)

    @property
    def watched(self) -> bool:
        """Whether guest_watch was there; it may have said nothing all the same."""
        return WATCHED in self.metrics

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics that there is something to say of, be it that they are not known."""
        return tuple(key for key in METRICS if key != WATCHED or self.watched)

    @property
    def one_clock(self) -> bool:
        """Whether times can be compared: a reboot starts CLOCK_MONOTONIC anew, unless the writer has seen to it."""
        begins = [s.began for s in self.states]
        return begins == sorted(begins) and all(s.ended is None or s.ended >= s.began for s in self.states)

    def utc(self, at: float | None) -> datetime | None:
        """A second of CLOCK_MONOTONIC as UTC; None where it cannot be known."""
        if at is None or self.clock is None or not self.one_clock:
            return None
        try:
            return moment(self.clock.utc) + timedelta(seconds=at - self.clock.monotonic)
        except OverflowError:
            return None

    @property
    def duration_s(self) -> float | None:
        """Seconds from the beginning to the end of the run, by UTC."""
        if self.ended_utc is None:
            return None
        return (moment(self.ended_utc) - moment(self.began_utc)).total_seconds()


def read_journal(text: str, where: str) -> Journal:
    """The journal that a text holds. Raises Failure, which names ``where`` (a path) and the field that is wrong."""
    try:
        given = parse(text)
        schema = given.get("schema") if isinstance(given, dict) else None
        if schema != SCHEMA:
            raise Malformed(f"schema is {shown(schema)} and should be {SCHEMA}")
        if given.get("verdict") is None:
            raise Failure(f"{where} has no verdict: its drill still runs or was cut off. Wait for it, or abort it.")
        journal: Journal = build(Journal, given, "")
    except Malformed as error:
        raise Failure(f"{where} is no journal of a drill: {error}. Give the journal.json that a drill wrote.") from None
    return journal
