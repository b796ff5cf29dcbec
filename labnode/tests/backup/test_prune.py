# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay."""

from __future__ import annotations

from datetime import datetime

from labnode.backup.prune import marks

DAYS = [int(datetime(2026, 1, day, hour).timestamp()) for day in range(1, 15) for hour in (2, 14)]


def kept(keep: dict[str, int], protected: set[int] = frozenset()) -> list[tuple[int, int]]:
    safe = [n in protected for n in range(len(DAYS))]
    days = [(datetime.fromtimestamp(t).day, datetime.fromtimestamp(t).hour) for t in DAYS]
    return [when for when, mark in zip(days, marks(DAYS, safe, keep), strict=True) if mark == "keep"]


def test_without_rules_everything_stays() -> None:
    assert len(kept({})) == len(DAYS)
    assert len(kept({"keep-all": 1, "keep-last": 1})) == len(DAYS)


def test_the_newest_of_each_period_stays() -> None:
    assert kept({"keep-last": 2}) == [(14, 2), (14, 14)]
    assert kept({"keep-daily": 3}) == [(12, 14), (13, 14), (14, 14)]
    assert kept({"keep-weekly": 2}) == [(11, 14), (14, 14)]
    assert kept({"keep-monthly": 5}) == [(14, 14)]


def test_a_rule_counts_only_what_no_earlier_rule_keeps() -> None:
    assert kept({"keep-last": 1, "keep-daily": 2}) == [(12, 14), (13, 14), (14, 14)]


def test_protected_backups_are_neither_counted_nor_removed() -> None:
    newest = len(DAYS) - 1
    assert kept({"keep-last": 1}, {newest}) == [(14, 2)]
    assert marks([5, 6], [True, False], {"keep-last": 1}) == ["protected", "keep"]
