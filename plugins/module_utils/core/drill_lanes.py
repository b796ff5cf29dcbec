# SPDX-License-Identifier: GPL-3.0-or-later
"""Lanes of a drill's timeline for whoever was asked whether they answer: by the host itself, and from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .drill_journal import Blind, Journal
from .drill_markup import Markup, tag
from .drill_probes import LATE, ProbeResult
from .drill_words import seconds

BAR, LINE = 20.0, 18.0
LETTER = 6.9


class Places(Protocol):
    """From seconds to units of the drawing."""

    @property
    def left(self) -> float:
        """Where a lane begins."""

    @property
    def right(self) -> float:
        """Where it ends."""

    @property
    def end(self) -> float:
        """The last second."""

    def x(self, at: float) -> float:
        """Where a second is."""


@dataclass(frozen=True)
class Lane:
    """One lane: what is written on it, who was asked, and when nobody could ask."""

    title: str
    probe: ProbeResult
    gaps: tuple[Blind, ...] = ()


def lanes(journal: Journal) -> list[Lane]:
    """Those of whoever answered at all: of one that never did nothing can be said."""
    found = [Lane(f"{probe.name}, seen from the host", probe) for probe in journal.probes]
    if seen := journal.vantage:
        found += [Lane(f"{probe.name}, seen from {seen.name}", probe, seen.gaps) for probe in seen.probes]
    return [lane for lane in found if lane.probe.answered]


def draw(found: Sequence[Lane], axis: Places, y: float, height: float) -> list[Markup]:
    """The lanes, the first at ``y``, each ``height`` high."""
    return [_lane(lane, axis, y + height * index) for index, lane in enumerate(found)]


def words(found: Sequence[Lane], axis: Places, y: float, height: float) -> list[Markup]:
    """What is written on them, to be drawn over everything else."""
    return [_words(lane, axis, y + height * index) for index, lane in enumerate(found)]


def _lane(lane: Lane, axis: Places, y: float) -> Markup:
    y_bar = y + LINE
    parts = [tag("rect", x=axis.left, y=y_bar, width=axis.right - axis.left, height=BAR, class_="lane answers")]
    for gap in lane.gaps:
        left, right = axis.x(gap.from_), axis.x(gap.to)
        parts.append(tag("rect", x=left, y=y_bar, width=max(1.5, right - left), height=BAR, class_="gap"))
    for out in lane.probe.outages:
        left, right = axis.x(out.from_), axis.x(out.to if out.to is not None else axis.end)
        kind = "outage late" if out.why == LATE else "outage"
        parts.append(tag("rect", x=left, y=y_bar, width=max(2.0, right - left), height=BAR, class_=kind))
    return tag("g", *parts)


def _words(lane: Lane, axis: Places, y: float) -> Markup:
    parts = [tag("text", _cut(lane.title, axis.right - axis.left), x=axis.left, y=y + 13, class_="name")]
    for out in lane.probe.outages:
        left, right = axis.x(out.from_), axis.x(out.to if out.to is not None else axis.end)
        told = f"{seconds(out.s)} {out.why}" if out.s is not None else out.why
        short = next((text for text in (told, seconds(out.s)) if len(text) * LETTER + 6 <= right - left), None)
        if short:
            middle = (left + right) / 2
            parts.append(tag("text", short, x=middle, y=y + LINE + 14, text_anchor="middle", class_="told"))
    return tag("g", *parts)


def _cut(text: str, width: float) -> str:
    most = int(width / LETTER)
    return text if len(text) <= most else f"{text[: most - 1]}…"
