# SPDX-License-Identifier: GPL-3.0-or-later
"""The samples of a failure drill, one JSON object a line, and the series that are plotted from them.

Any key may be missing in any sample, and the last line may be cut off: what cannot be read is counted, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import isfinite
from typing import Any, TypeAlias

from .drill_fields import Malformed, parse
from .drill_journal import EvidenceFile

NAME = "samples.jsonl"
Row: TypeAlias = Mapping[str, Any]
# (second of CLOCK_MONOTONIC, value)
Points: TypeAlias = list[tuple[float, float]]


@dataclass(frozen=True)
class Samples:
    """``rows`` in order of time, each with a number at "at"; ``notes`` are sentences on what is amiss with them."""

    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()


def read_samples(text: str | None, evidence: Iterable[EvidenceFile]) -> Samples:
    """The samples of a text; None if there is no such file. ``evidence`` tells the checksum that it should have."""
    if text is None:
        return Samples(notes=(f"There is no {NAME} beside the journal, so there are no plots and no single writes.",))
    rows, unreadable = [], 0
    for line in text.split("\n"):
        if line.strip():
            row = _row(line)
            unreadable += row is None
            rows += [row] if row is not None else []
    notes = []
    if unreadable:
        lines = "1 line" if unreadable == 1 else f"{unreadable} lines"
        notes.append(f"{lines} of {NAME} could not be read and {'is' if unreadable == 1 else 'are'} left out.")
    told = next((e.sha256 for e in evidence if e.name == NAME), None)
    if told is not None and told.lower() != sha256(text.encode("utf-8", "replace")).hexdigest():
        notes.append(f"The checksum of {NAME} is not the one in the journal: the plots may be of something else.")
    return Samples(tuple(sorted(rows, key=lambda row: float(row["at"]))), tuple(notes))


def number(row: Row, *keys: str) -> float | None:
    """A number of a sample, such as ``number(row, "psi", "io")``; None where there is none."""
    value = lookup(row, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None


def lookup(row: Row, *keys: str) -> Any:
    """Whatever a sample has there, or None."""
    value: Any = row
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def names(samples: Samples, key: str) -> list[str]:
    """The names that an object of the samples ("fill", "psi") ever has, sorted."""
    objects = (lookup(row, key) for row in samples.rows)
    return sorted({str(name) for found in objects if isinstance(found, Mapping) for name in found})


def level(samples: Samples, keys: Sequence[str], width_s: float, keep: Callable[[float, float], float]) -> Points:
    """One point for every ``width_s`` seconds: the value that ``keep`` (min or max) keeps, at the first one's time."""
    columns: dict[int, tuple[float, float]] = {}
    for row in samples.rows:
        value = number(row, *keys)
        if value is not None:
            at = float(row["at"])
            column = int(at // width_s)
            first, kept = columns.get(column, (at, value))
            columns[column] = (first, keep(kept, value))
    return [columns[c] for c in sorted(columns)]


def rate(samples: Samples, keys: Sequence[str], width_s: float) -> Points:
    """A counter of microseconds as per cent of the time, between the last samples of every ``width_s`` seconds.

    Judged from the counter and not from the kernel's averages, which lag by ten seconds and more. A counter that falls
    back (a reboot) gives no point.
    """
    last: dict[int, tuple[float, float]] = {}
    for row in samples.rows:
        value = number(row, *keys)
        if value is not None:
            last[int(float(row["at"]) // width_s)] = (float(row["at"]), value)
    ordered = [last[c] for c in sorted(last)]
    return [
        (at, min(100.0, (value - before) / (at - since) / 1e4))
        for (since, before), (at, value) in pairwise(ordered)
        if at > since and value >= before
    ]


def acknowledgements(samples: Samples, vmid: int) -> list[float]:
    """The seconds of the samples in which a guest had acknowledged more writes than before."""
    seen, ticks = None, []
    for row in samples.rows:
        count = number(row, "guests", str(vmid), "acks")
        if count is not None:
            if seen is not None and count > seen:
                ticks.append(float(row["at"]))
            seen = count
    return ticks


def spans(samples: Samples, off: Callable[[Row], bool | None]) -> list[tuple[float, float]]:
    """From when to when ``off`` was true: from a sample that says so to the next that denies it (None says nothing)."""
    found: list[tuple[float, float]] = []
    since: float | None = None
    until = 0.0
    for row in samples.rows:
        state, at = off(row), float(row["at"])
        if state is None:
            continue
        if state and since is None:
            since = at
        if not state and since is not None:
            found.append((since, at))
            since = None
        until = at
    return [*found, (since, until)] if since is not None and until > since else found


def _row(line: str) -> Row | None:
    try:
        row = parse(line)
    except Malformed:
        return None
    return row if isinstance(row, dict) and number(row, "at") is not None else None
