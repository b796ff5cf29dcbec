# SPDX-License-Identifier: GPL-3.0-or-later
"""From single tries of a probe to when it was not answered, and from the dates in answers to how two clocks stand.

A file of tries has one JSON object a line: ``{"at", "p", "ms"}`` for an answer after so many milliseconds, with "date"
where the one who answered has said what time it is, ``{"at", "p", "no"}`` for none and why, ``{"gap": [from, to]}``
where whoever asks could not. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

# An answer that takes longer, and longer than four times what is usual, is none for so long.
LATE_S = 0.3
TIMES = 4.0
# Dates are put together for so long: no clock runs away from another in this time.
BUCKET_S = 5.0

Gap = tuple[float, float]


@dataclass(frozen=True)
class Try:
    """One: when it was begun, the milliseconds until the answer (None: there was none, and ``no`` says why), and the
    date in it, in seconds since 1970."""

    at: float
    ms: float | None
    no: str = ""
    date: float | None = None

    @property
    def answered(self) -> float | None:
        """When."""
        return None if self.ms is None else self.at + self.ms / 1000


def line(name: str, one: Try) -> str:
    """A try as a file has it."""
    row: dict[str, Any] = {"at": round(one.at, 4), "p": name}
    row |= {"no": one.no} if one.ms is None else {"ms": round(one.ms, 2)}
    if one.date is not None:
        row["date"] = one.date
    return json.dumps(row, separators=(",", ":")) + "\n"


def read(lines: Iterable[str]) -> tuple[dict[str, list[Try]], list[Gap]]:
    """Tries by their probe, and gaps. What was cut off in the middle is left out."""
    tries: dict[str, list[Try]] = {}
    gaps: list[Gap] = []
    for text in lines:
        with suppress(ValueError, TypeError, KeyError):
            row = json.loads(text)
            if "gap" in row:
                gaps.append((float(row["gap"][0]), float(row["gap"][1])))
            elif "p" in row:
                ms, date = row.get("ms"), row.get("date")
                one = Try(float(row["at"]), None if ms is None else float(ms), str(row.get("no") or ""), date)
                tries.setdefault(str(row["p"]), []).append(one)
    for found in tries.values():
        found.sort(key=lambda one: one.at)
    return tries, gaps


def outages(tries: Sequence[Try], gaps: Sequence[Gap] = ()) -> list[tuple[float, float | None, str]]:
    """When it was not answered: from the beginning of the first try that was not answered in time to the first answer
    to a later one, or None, and why as most of them have it. Single answers that were lost are none, and neither is
    time in which nobody asked."""
    late_s = max(LATE_S, TIMES * (usual_ms(tries) or 0.0) / 1000)
    found: list[tuple[float, float | None, str]] = []
    index = 0
    while index < len(tries):
        first = tries[index]
        if first.ms is not None and first.ms / 1000 <= late_s:
            index += 1
            continue
        back = min((when for one in tries[index:] if (when := one.answered) is not None), default=None)
        ends = tries[-1].at if back is None else back
        during = [one for one in tries[index:] if one.at < ends or one is first]
        if ends - first.at - _within(gaps, first.at, ends) > late_s or (back is None and len(during) > 1):
            found.append((first.at, back, _why(during)))
        index += len(during)
    return found


def usual_ms(tries: Sequence[Try]) -> float | None:
    """How long half of the answers took at most."""
    known = [one.ms for one in tries if one.ms is not None]
    return median(known) if known else None


def summary(probe: Mapping[str, Any], tries: Sequence[Try], gaps: Sequence[Gap] = ()) -> dict[str, Any]:
    """What a journal says of one probe; of one that was never answered, that nothing can be said of outages."""
    usual = usual_ms(tries)
    rows = [_row(*found) for found in (outages(tries, gaps) if usual is not None else ())]
    ends = tries[-1].at if tries else 0.0
    return {
        **{name: probe[name] for name in ("name", "kind", "address", "host", "every_s")},
        "tried": len(tries),
        "answered": sum(one.ms is not None for one in tries),
        "usual_ms": None if usual is None else round(usual, 1),
        "outages": rows,
        "outage_s": round(sum((ends if row["to"] is None else row["to"]) - row["from"] for row in rows), 3),
    }


def dates(tries: Iterable[Try]) -> list[dict[str, float]]:
    """By how much the clock of whoever answers (seconds since 1970) is ahead of the one by which the tries are timed:
    between ``lo`` and ``hi``, for each few seconds.

    A date is a whole second that was cut off, so the clock there was between it and the next one, at some moment
    between question and answer. One such answer says it to a second; of many, those nearest to the turn of a second
    say it to about the time that an answer takes."""
    found: dict[int, dict[str, float]] = {}
    for one in tries:
        if one.date is None or one.answered is None:
            continue
        lo, hi = one.date - one.answered, one.date + 1 - one.at
        number = int(one.at // BUCKET_S)
        row = found.setdefault(number, {"from": one.at, "to": one.answered, "lo": lo, "hi": hi, "n": 0})
        row.update(to=one.answered, lo=max(row["lo"], lo), hi=min(row["hi"], hi), n=row["n"] + 1)
    return [{key: round(value, 4) for key, value in found[number].items()} for number in sorted(found)]


def _within(gaps: Sequence[Gap], since: float, until: float) -> float:
    return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in gaps)


def _why(tries: Sequence[Try]) -> str:
    told = [one.no or "late" for one in tries]
    return max(dict.fromkeys(told), key=told.count)


def _row(since: float, until: float | None, why: str) -> dict[str, Any]:
    lasted = None if until is None else round(until - since, 3)
    return {"from": round(since, 3), "to": None if until is None else round(until, 3), "s": lasted, "why": why}
