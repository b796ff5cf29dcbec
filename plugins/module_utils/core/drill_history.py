# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs of one drill: how its metrics are spread, and whether the newest run is out of the ordinary.

One run says nothing about a trend. A run is called better or worse only where three earlier ones or more have the
metric, and only outside of everything that they have shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from .drill_journal import Journal
from .steps import Failure

ENOUGH = 3


@dataclass(frozen=True)
class Spread:
    """One metric in seconds: of ``newest``, and of the ``n`` earlier runs that have it (None where there are none).

    ``judged``: "better", "worse", "same" (within what the earlier runs have shown), or "" where nothing can be said,
    because fewer than three earlier runs have the metric or the newest has none.
    """

    metric: str
    newest: float | None
    n: int
    lowest: float | None
    middle: float | None
    highest: float | None
    judged: Literal["better", "worse", "same", ""]


@dataclass(frozen=True)
class History:
    """``earlier``: how many runs were before the newest; ``later``: runs that were after it, which do not count.

    ``verdicts``: how often each came, the newest run included, the most frequent first. ``hosts``: where they ran.
    """

    earlier: int
    later: int
    verdicts: tuple[tuple[str, int], ...]
    spreads: tuple[Spread, ...]
    hosts: tuple[str, ...]


def history(newest: Journal, others: Iterable[Journal]) -> History:
    """The newest run against the others, of which each counts once. Raises Failure for a run of another drill."""
    known: dict[str, Journal] = {}
    for journal in others:
        if journal.drill.name != newest.drill.name:
            raise Failure(
                f"run {journal.run} is of the drill {journal.drill.name}, and this report is of {newest.drill.name}. "
                f"Give earlier journals of {newest.drill.name} only."
            )
        if journal.run != newest.run:
            known[journal.run] = journal
    earlier = [known[run] for run in sorted(known) if run < newest.run]
    counted = Counter(journal.verdict for journal in [*earlier, newest])
    return History(
        earlier=len(earlier),
        later=len(known) - len(earlier),
        verdicts=tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0]))),
        spreads=tuple(_spread(metric, newest, earlier) for metric in newest.measures),
        hosts=tuple(sorted({journal.host.name for journal in [*earlier, newest]})),
    )


def _spread(metric: str, newest: Journal, earlier: list[Journal]) -> Spread:
    found = [value for journal in earlier if (value := journal.metrics.get(metric)) is not None]
    now = newest.metrics.get(metric)
    if not found:
        return Spread(metric, now, 0, None, None, None, "")
    low, high = min(found), max(found)
    judged: Literal["better", "worse", "same", ""] = ""
    if now is not None and len(found) >= ENOUGH:
        judged = "better" if now < low else "worse" if now > high else "same"
    return Spread(metric, now, len(found), low, median(found), high, judged)
