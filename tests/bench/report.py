# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures as tables, and held against what is asked of them. Pure, but for the page that it is written into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ansible_collections.pvelab.proxmox.tests.bench.fleet import ACTIONS
from ansible_collections.pvelab.proxmox.tests.bench.measure import Figure, median

BEGIN, END = "<!-- what make bench printed: begin -->", "<!-- what make bench printed: end -->"
CLIENTS = ("ours", "bare", "loop")
GROWTH, PEAK_MIB = 1.2, 150.0

Figures = Mapping[tuple[int, str, str], Figure]


def medians(figures: Sequence[Figure]) -> dict[tuple[int, str, str], Figure]:
    """The median of each (count, action, client)."""
    keys = dict.fromkeys((f.count, f.action, f.client) for f in figures)
    return {key: median([f for f in figures if (f.count, f.action, f.client) == key]) for key in keys}


def counts(figures: Figures) -> list[int]:
    """The sizes of fleets that were measured."""
    return sorted({count for count, _action, _client in figures})


def shown(value: float | None, unit: str = "") -> str:
    """A number with three digits that mean something; nothing for what was not measured."""
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}{unit}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that can be read as it is: texts to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    left = [any(re.search("[^0-9.]", row[i]) for row in rows) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        parts = [c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(cells, widths, left, strict=True)]
        return f"| {' | '.join(parts)} |"

    rule = "|".join(f"{'-' * (w + 1)}{'-' if to_left else ':'}" for w, to_left in zip(widths, left, strict=True))
    return [line(head), f"|{rule}|", *map(line, rows)]


def ratio(over: Figure | None, under: Figure | None, what: Callable[[Figure], float]) -> float | None:
    """How many times as much; None where one was not measured."""
    return what(over) / what(under) if over and under and what(under) else None


def wall(figure: Figure) -> float:
    return figure.wall_s


def times(figures: Figures) -> list[str]:
    """Seconds on the clock, and how they compare."""
    rows = []
    for count in counts(figures):
        for action in ACTIONS:
            ours, bare, loop = (figures.get((count, action, client)) for client in CLIENTS)
            seconds = [shown(f.wall_s if f else None) for f in (ours, bare, loop)]
            compared = [shown(ratio(ours, bare, wall)), shown(ratio(loop, ours, wall))]
            rows.append([str(count), action, *seconds, *compared])
    return table(["guests", "action", "ours s", "bare s", "loop s", "ours / bare", "loop / ours"], rows)


def costs(figures: Figures) -> list[str]:
    """What it took besides time."""
    rows = []
    for (count, action, client), f in sorted(
        figures.items(), key=lambda item: (item[0][0], ACTIONS.index(item[0][1]), CLIENTS.index(item[0][2]))
    ):
        cells = [shown(f.cpu_s), shown(f.node_cpu_s), str(f.calls), str(f.connections), shown(f.rss_mib or None)]
        rows.append([str(count), action, client, *cells])
    return table(["guests", "action", "client", "CPU s", "node's CPU s", "calls", "connections", "peak MiB"], rows)


@dataclass(frozen=True)
class Demand:
    """Something that is asked of us: its figure is to be ``most``, or with ``least`` that much at least."""

    text: str
    figure: float | None
    limit: float
    least: bool = False

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.least else self.figure <= self.limit

    def row(self) -> list[str]:
        word = {None: "not measured", True: "yes", False: "NO"}[self.met]
        return [self.text, shown(self.figure), f"{'≥' if self.least else '≤'} {shown(self.limit)}", word]


def demands(figures: Figures, start_s: float, idle_s: float) -> list[Demand]:
    """What is asked for, with what was measured.

    ``start_s`` is what a task of ours for one guest without a change takes where Ansible starts its module, ``idle_s``
    what it takes with a module that does nothing, which asks for more.
    """
    found: list[Demand] = []
    for count in counts(figures):
        found += _of_count(figures, count, start_s, idle_s)
    found += [growth(figures, action, *pair) for action in ACTIONS for pair in pairwise(counts(figures))]
    return found


def _of_count(figures: Figures, count: int, start_s: float, idle_s: float) -> list[Demand]:
    def of(action: str, client: str) -> Figure | None:
        return figures.get((count, action, client))

    same, bare = of("unchanged", "ours"), of("unchanged", "bare")
    peaks = [f.rss_mib for (n, _action, client), f in figures.items() if (n, client) == (count, "ours") and f.rss_mib]
    limit = 1.5 * bare.wall_s if bare else 0.0
    took = same.wall_s if same and bare else None
    found = [
        Demand(f"unchanged, {count} guests: calls", float(same.calls) if same else None, 2.0 + count),
        Demand(f"unchanged, {count} guests: seconds (1.5 of bare, and a start)", took, limit + start_s),
        Demand(f"the same with the start of a module that does nothing, {count} guests", took, limit + idle_s),
        Demand(f"{count} guests: peak MiB", max(peaks, default=None), PEAK_MIB),
    ]
    if count == 100:
        slower = [(a, ratio(of(a, "loop"), of(a, "ours"), wall)) for a in ("unchanged", "create")]
        least = {"unchanged": 40.0, "create": 10.0}
        found += [Demand(f"{a}, {count} guests: loop / ours", r, least[a], least=True) for a, r in slower]
        made = ratio(of("create", "ours"), of("create", "bare"), wall)
        found.append(Demand(f"create, {count} guests: ours / bare", made, 1.3))
    return found


def growth(figures: Figures, action: str, few: int, many: int) -> Demand:
    """Cost that grows with the number of guests and no faster."""
    times_as_much = ratio(figures.get((many, action, "ours")), figures.get((few, action, "ours")), wall)
    return Demand(f"{action}: {many} guests against {few}", times_as_much, GROWTH * many / few)


def verdict(asked: Sequence[Demand]) -> list[str]:
    return table(["asked for", "measured", "limit", "met"], [demand.row() for demand in asked])


def write(page: Path, text: str) -> None:
    """Put the text between the marks of the page. Raises ValueError where they are not there."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
