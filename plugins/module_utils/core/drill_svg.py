# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of a failure drill as inline SVG: a lane for each guest under shaded phases and marked moments.

A drawing is made for a width in units of its viewBox, and is scaled by the page: a wide one for screens and paper, a
narrow one for phones, so that letters can be read on both. Colours are classes of the page's style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from . import drill_lanes
from .drill_journal import GuestResult, Journal
from .drill_markup import Markup, join, tag
from .drill_samples import Row, Samples, acknowledgements, lookup, spans
from .drill_words import MOMENTS, many, seconds, since

WIDE, NARROW = 960, 380
LETTER, LINE, MARGIN = 6.9, 18.0, 8.0
BAR, LANE = 20.0, 46.0


@dataclass(frozen=True)
class Axis:
    """Seconds of CLOCK_MONOTONIC to units of a drawing; ``zero`` is the second that is called 0, and ``relief`` the one
    at which an operator's remedy was begun."""

    start: float
    end: float
    zero: float
    width: int
    relief: float | None = None

    @property
    def left(self) -> float:
        """Where lanes begin."""
        return MARGIN

    @property
    def right(self) -> float:
        """Where lanes end."""
        return self.width - MARGIN

    def x(self, at: float) -> float:
        """Where a second is; what is outside is at the edge."""
        share = (min(max(at, self.start), self.end) - self.start) / (self.end - self.start)
        return MARGIN + share * (self.width - 2 * MARGIN)

    def ticks(self) -> list[float]:
        """Round seconds to write below the drawing, relative to ``zero``."""
        step = nice((self.end - self.start) / (self.width / 70))
        first = floor((self.start - self.zero) / step) + 1
        found = [n * step for n in range(first, first + 60) if self.zero + n * step <= self.end]
        return [tick for tick in found if self.x(self.zero + tick) < self.width - 24]


@dataclass(frozen=True)
class Label:
    """A text that starts at ``x`` in the row ``row`` (0 is the lowest), for a line at ``at``."""

    text: str
    at: float
    x: float
    row: int


def axis_of(journal: Journal, samples: Samples, width: int) -> Axis | None:
    """The axis of a run; None where nothing was watched, or where a reboot has started the clock anew."""
    ends = [second for state in journal.states for second in (state.began, state.ended) if second is not None]
    ends += [at for at in journal.marks.values() if at is not None]
    drawable = journal.guests or any(at is not None for at in journal.marks.values())
    if not drawable or not journal.one_clock or journal.zero is None:
        return None
    if samples.rows:
        # A sample of another boot would squeeze everything else together.
        near = [at for row in samples.rows if min(ends) - 60 <= (at := float(row["at"])) <= max(ends) + 60]
        ends += near[:1] + near[-1:]
    start, end = min(ends), max(ends)
    return Axis(start, end, journal.zero, width, journal.marks.get("relief")) if end - start > 0.5 else None


def nice(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** floor(log10(step))
    return next((float(n * power) for n in (1, 2, 5) if n * power >= step), 10 * power)


def text_width(text: str) -> float:
    """About how wide a text is, a little more than less."""
    return len(text) * LETTER


def labels(marks: Sequence[tuple[float, str]], width: float) -> list[Label]:
    """Places for the labels of vertical lines: no two overlap, and each is as low as it can be.

    ``marks`` are (x, text). A label begins at its line, or ends at the right edge where it would be cut off.
    """
    placed: list[Label] = []
    for at, text in sorted(marks, reverse=True):
        x = max(0.0, min(at, width - text_width(text) - 7))
        near = {p.row for p in placed if p.x < x + text_width(text) + 8 and x < p.x + text_width(p.text) + 8}
        row = next(r for r in range(len(marks)) if r not in near)
        placed.append(Label(text, at, x, row))
    return placed


def timeline(journal: Journal, samples: Samples, width: int) -> Picture | None:
    """The drawing, ``width`` units wide; None where ``axis_of`` has none."""
    axis = axis_of(journal, samples, width)
    if axis is None:
        return None
    marks = [
        (axis.x(at), f"{MOMENTS[name][0]} {since(journal, at)}")
        for name in MOMENTS
        if (at := journal.marks.get(name)) is not None
    ]
    placed = labels(marks, width)
    top = LINE * (1 + max((label.row for label in placed), default=-1)) + 4
    lanes = top + LINE
    answers = _api_lane(samples, axis, lanes + LANE * len(journal.guests))
    asked = drill_lanes.lanes(journal)
    probes = lanes + LANE * (len(journal.guests) + bool(answers))
    bottom = probes + LANE * len(asked) + 4
    parts = [
        *_phases(journal, axis, top, bottom),
        *_gaps(journal, axis, lanes, bottom),
        *(_lane(guest, samples, axis, lanes + LANE * i) for i, guest in enumerate(journal.guests)),
        answers,
        *drill_lanes.draw(asked, axis, probes, LANE),
        *_marks(placed, top, bottom),
        *_phase_names(journal, axis, top),
        *(_lane_words(guest, axis, lanes + LANE * i) for i, guest in enumerate(journal.guests)),
        *drill_lanes.words(asked, axis, probes, LANE),
        *_scale(axis, bottom),
    ]
    return picture(f"timeline-{width}", _summary(journal), width, bottom + LINE + 4, *parts)


class Picture(Markup):
    """An image; ``height`` in units of its viewBox."""

    height: float


def picture(name: str, title: str, width: int, height: float, *parts: Markup) -> Picture:
    """An image with a title that is read aloud; ``name`` is unique within a page."""
    inner = join(tag("title", title, id=f"{name}-title"), *parts)
    box = f"0 0 {width} {height:.0f}"
    kind = "wide" if width == WIDE else "narrow"
    made = Picture(tag("svg", inner, viewBox=box, role="img", aria_labelledby=f"{name}-title", class_=kind))
    made.height = height
    return made


def _summary(journal: Journal) -> str:
    told = [
        f"guest {g.called}, {g.role}: {many(len(g.outages), 'outage')}, {seconds(g.outage_s)} in all"
        for g in journal.guests
    ]
    told += [
        f"{lane.title}: {seconds(lane.probe.lasted(lane.probe.silences))} silent" for lane in drill_lanes.lanes(journal)
    ]
    return f"Timeline of the drill. {'; '.join(told) or 'No guest was watched'}. The tables below say the same."


def _phases(journal: Journal, axis: Axis, top: float, bottom: float) -> list[Markup]:
    parts = []
    for state in journal.states:
        left, right = axis.x(state.began), axis.x(state.ended if state.ended is not None else axis.end)
        parts.append(tag("rect", x=left, y=top, width=right - left, height=bottom - top, class_=f"ph ph-{state.name}"))
    return parts


def _phase_names(journal: Journal, axis: Axis, top: float) -> list[Markup]:
    """Where there is room; the table below names all of them."""
    parts = []
    for state in journal.states:
        left, right = axis.x(state.began), axis.x(state.ended if state.ended is not None else axis.end)
        if text_width(state.name) + 4 <= right - left:
            middle = (left + right) / 2
            parts.append(tag("text", state.name, x=middle, y=top + 13, text_anchor="middle", class_="phase"))
    return parts


def _gaps(journal: Journal, axis: Axis, top: float, bottom: float) -> list[Markup]:
    gaps = journal.recorder.gaps if journal.recorder else ()
    parts = []
    for gap in gaps:
        left, right = axis.x(gap.from_), axis.x(gap.to if gap.to is not None else axis.end)
        parts.append(tag("rect", x=left, y=top, width=max(1.5, right - left), height=bottom - top, class_="gap"))
    return parts


def _lane(guest: GuestResult, samples: Samples, axis: Axis, y: float) -> Markup:
    y_bar = y + LINE
    parts = [tag("rect", x=MARGIN, y=y_bar, width=axis.width - 2 * MARGIN, height=BAR, class_="lane")]
    ticks = sorted({int(axis.x(at) / 2.5) for at in acknowledgements(samples, guest.vmid) if axis.start <= at})
    if ticks:
        parts.append(tag("path", d="".join(f"M{2.5 * t:g} {y_bar + 6:g}v8" for t in ticks), class_="ack"))
    for outage in guest.outages:
        left, right = axis.x(outage.from_), axis.x(outage.to if outage.to is not None else axis.end)
        parts.append(tag("rect", x=left, y=y_bar, width=max(2.0, right - left), height=BAR, class_="outage"))
    for left, right in spans(samples, lambda row: _halted(row, guest.vmid)):
        begin, end = axis.x(left), axis.x(right)
        parts.append(tag("rect", x=begin, y=y_bar + BAR, width=max(2.0, end - begin), height=4, class_="halted"))
    return tag("g", *parts)


def _lane_words(guest: GuestResult, axis: Axis, y: float) -> Markup:
    """The words of a lane, over everything else."""
    parts = [tag("text", f"{guest.called}, {guest.role}", x=MARGIN, y=y + 13, class_="name")]
    for outage in guest.outages:
        left, right = axis.x(outage.from_), axis.x(outage.to if outage.to is not None else axis.end)
        told = seconds(outage.s) if outage.to is not None else "still out"
        if text_width(told) + 6 <= right - left:
            middle = (left + right) / 2
            parts.append(tag("text", told, x=middle, y=y + LINE + 14, text_anchor="middle", class_="told"))
    return tag("g", *parts)


def _halted(row: Row, vmid: int) -> bool | None:
    """Whether QEMU says that a guest does not run, or has no process; None where a sample does not say."""
    alive, status = lookup(row, "guests", str(vmid), "alive"), lookup(row, "guests", str(vmid), "status")
    if alive is False:
        return True
    return status != "running" if isinstance(status, str) else None


def _api_lane(samples: Samples, axis: Axis, y: float) -> Markup:
    """A lane for the API of Proxmox VE, where the samples say whether it answered."""
    if not any(isinstance(row.get("api"), bool) for row in samples.rows):
        return Markup("")
    silent = spans(samples, lambda row: not row["api"] if isinstance(row.get("api"), bool) else None)
    parts = [
        tag("text", "Proxmox VE's API answers", x=MARGIN, y=y + 13, class_="name"),
        tag("rect", x=MARGIN, y=y + LINE, width=axis.width - 2 * MARGIN, height=BAR, class_="lane answers"),
    ]
    for left, right in silent:
        begin, end = axis.x(left), axis.x(right)
        parts.append(tag("rect", x=begin, y=y + LINE, width=max(2.0, end - begin), height=BAR, class_="outage"))
    return tag("g", *parts)


def _marks(placed: Sequence[Label], top: float, bottom: float) -> list[Markup]:
    """Lines first, then labels on a ground of their own, so that no line runs through a word."""
    lines, words = [], []
    for label in placed:
        y = top - LINE * (label.row + 1)
        lines.append(tag("line", x1=label.at, y1=y, x2=label.at, y2=bottom, class_="mark"))
        words.append(tag("rect", x=label.x, y=y, width=text_width(label.text) + 6, height=LINE - 2, class_="flag"))
        words.append(tag("text", label.text, x=label.x + 3, y=y + 12, class_="word"))
    return [*lines, *words]


def _scale(axis: Axis, bottom: float) -> list[Markup]:
    parts = [tag("line", x1=MARGIN, y1=bottom, x2=axis.width - MARGIN, y2=bottom, class_="axis")]
    for tick in axis.ticks():
        x = axis.x(axis.zero + tick)
        parts.append(tag("line", x1=x, y1=bottom, x2=x, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", f"{tick:g} s", x=x, y=bottom + 16, text_anchor="middle", class_="soft"))
    return parts
