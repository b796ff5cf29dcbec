# SPDX-License-Identifier: GPL-3.0-or-later
"""Calendar events as Proxmox VE takes them (a part of systemd.time): ``[weekdays] [date] [time]``, e.g. ``mon..fri
2,14:30``.

A list is separated by commas, ``a..b`` is a range, ``*`` anything, ``a/n`` every n-th from a. Also hourly, daily,
weekly, monthly.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMED = {
    "minutely": "*:*",
    "hourly": "*:0",
    "daily": "0:0",
    "weekly": "mon 0:0",
    "monthly": "*-*-1 0:0",
    "yearly": "*-1-1 0:0",
    "annually": "*-1-1 0:0",
    "quarterly": "*-1,4,7,10-1 0:0",
}
_HORIZON_DAYS = 366 * 5


class CalendarError(ValueError):
    """The text is no calendar event; the message says which part."""


@dataclass(frozen=True)
class Event:
    """The values each part may take; None means any."""

    weekdays: frozenset[int] | None
    years: frozenset[int] | None
    months: frozenset[int] | None
    days: frozenset[int] | None
    hours: frozenset[int]
    minutes: frozenset[int]


def parse(text: str) -> Event:
    """Raises CalendarError."""
    parts = _NAMED.get(text.strip().lower(), text.strip().lower()).split()
    if not parts:
        raise CalendarError("event is empty")
    weekdays = None
    if re.match(r"[a-z]", parts[0]):
        weekdays = _weekdays(parts.pop(0))
    date = parts.pop(0) if parts and "-" in parts[0] else None
    clock = parts.pop(0) if parts else "0:0"
    if parts:
        raise CalendarError(f"unable to parse '{parts[0]}'")
    years, months, days = _date(date)
    hours, minutes = _clock(clock)
    return Event(weekdays, years, months, days, hours, minutes)


def _weekdays(text: str) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        names = item.split("..")
        if len(names) > 2 or any(name[:3] not in _DAYS for name in names):
            raise CalendarError(f"unable to parse weekday '{item}'")
        first, last = _DAYS.index(names[0][:3]), _DAYS.index(names[-1][:3])
        found |= {day % 7 for day in range(first, last + (1 if last >= first else 8))}
    return frozenset(found)


def _date(text: str | None) -> tuple[frozenset[int] | None, frozenset[int] | None, frozenset[int] | None]:
    if text is None:
        return None, None, None
    parts = text.split("-")
    if len(parts) not in (2, 3):
        raise CalendarError(f"unable to parse date '{text}'")
    years = _numbers(parts[0], 1970, 2100) if len(parts) == 3 else None
    return years, _numbers(parts[-2], 1, 12), _numbers(parts[-1], 1, 31)


def _clock(text: str) -> tuple[frozenset[int], frozenset[int]]:
    """Hours and minutes; a lone list is minutes of every hour, seconds must be 0."""
    parts = text.split(":")
    if len(parts) > 3 or (len(parts) == 3 and parts[2] not in ("0", "00")):
        raise CalendarError(f"unable to parse time '{text}'")
    if len(parts) == 1:
        return frozenset(range(24)), _numbers(parts[0], 0, 59) or frozenset(range(60))
    hours = _numbers(parts[0], 0, 23) or frozenset(range(24))
    return hours, _numbers(parts[1], 0, 59) or frozenset(range(60))


def _numbers(text: str, lowest: int, highest: int) -> frozenset[int] | None:
    if text == "*":
        return None
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"(\*|\d+)(?:\.\.(\d+))?(?:/(\d+))?", item)
        if not match:
            raise CalendarError(f"unable to parse '{item}'")
        first = lowest if match[1] == "*" else int(match[1])
        last = int(match[2]) if match[2] else highest if match[3] else first
        if not lowest <= first <= last <= highest or match[3] == "0":
            raise CalendarError(f"value out of range in '{item}'")
        found |= set(range(first, last + 1, int(match[3] or 1)))
    return frozenset(found)


def next_run(text: str, after: float) -> int | None:
    """The first moment after ``after`` (seconds since the epoch) that fits, in local time; None if none within
    five years."""
    event = parse(text)
    start = datetime.datetime.fromtimestamp(after).astimezone().replace(second=0, microsecond=0)
    start += datetime.timedelta(minutes=1)
    for offset in range(_HORIZON_DAYS):
        day = (start + datetime.timedelta(days=offset)).date()
        if not _day_fits(event, day):
            continue
        for hour in sorted(event.hours):
            for minute in sorted(event.minutes):
                moment = datetime.datetime.combine(day, datetime.time(hour, minute)).astimezone()
                if moment >= start:
                    return int(moment.timestamp())
    return None


def _day_fits(event: Event, day: datetime.date) -> bool:
    wanted = (
        (event.weekdays, day.weekday()),
        (event.years, day.year),
        (event.months, day.month),
        (event.days, day.day),
    )
    return all(values is None or value in values for values, value in wanted)
