# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups a retention keeps: keep-last, then the newest of each hour, day, week, month and year. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

PERIODS: dict[str, Callable[[datetime], str]] = {
    "keep-last": lambda when: str(when.timestamp()),
    "keep-hourly": lambda when: when.strftime("%Y-%m-%d %H"),
    "keep-daily": lambda when: when.strftime("%Y-%m-%d"),
    "keep-weekly": lambda when: when.strftime("%G-%V"),
    "keep-monthly": lambda when: when.strftime("%Y-%m"),
    "keep-yearly": lambda when: when.strftime("%Y"),
}


def marks(times: Sequence[int], protected: Sequence[bool], keep: Mapping[str, int]) -> list[str]:
    """``keep``, ``remove`` or ``protected`` for each backup of one guest, in the order given (seconds since 1970).

    Without any ``keep-*`` above zero, or with ``keep-all``, everything is kept. A period counts only backups that no
    earlier rule keeps, and skips periods in which one is kept already (as pve-storage does).
    """
    if keep.get("keep-all") or not any(keep.get(rule) for rule in PERIODS):
        return ["protected" if p else "keep" for p in protected]
    result = ["protected" if p else "" for p in protected]
    newest_first = sorted(range(len(times)), key=lambda i: times[i], reverse=True)
    for rule, period in PERIODS.items():
        _keep_newest(result, newest_first, keep.get(rule, 0), lambda i, p=period: p(datetime.fromtimestamp(times[i])))  # type: ignore[misc]
    return [mark or "remove" for mark in result]


def _keep_newest(result: list[str], order: Sequence[int], count: int, period: Callable[[int], str]) -> None:
    included = {period(i) for i in order if result[i] == "keep"}
    chosen: set[str] = set()
    for i in order:
        if result[i] or period(i) in included or period(i) in chosen:
            continue
        if len(chosen) == count:
            return
        chosen.add(period(i))
        result[i] = "keep"
