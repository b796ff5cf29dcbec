# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host felt during a failure drill, as line charts in inline SVG: pressure, memory, how full things got."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .drill_journal import Journal
from .drill_markup import Markup, tag
from .drill_samples import Points, Samples, level, names, rate
from .drill_svg import LETTER, LINE, MARGIN, Axis, axis_of, nice, picture, text_width

HEIGHT, MOST = 120.0, 6
# What a line is called, by what the samples call it.
PRESSURE = {"cpu": "processor", "memory": "memory", "io": "disks"}
# What a line is called, and which value of a moment is of interest.
MEMORY: dict[str, tuple[str, Callable[[float, float], float]]] = {
    "mem_available_mib": ("available", min),
    "swap_free_mib": ("free swap space", min),
    "dirty_mib": ("to be written", max),
}
SHARED = {"sharing_mib": "shared", "profit_mib": "saved"}


@dataclass(frozen=True)
class Plot:
    """One chart: ``lines`` are (name, points); values go from 0 to ``top``, in ``unit``. ``says``: how to read it."""

    key: str
    title: str
    unit: str
    says: str
    top: float
    lines: tuple[tuple[str, Points], ...]


def plots(journal: Journal, samples: Samples, width: int) -> list[Plot]:
    """The charts for which there are samples; points as many as a drawing of ``width`` can show."""
    axis = axis_of(journal, samples, width)
    if axis is None:
        return []
    step = max(2 * (axis.end - axis.start) / width, 0.001)
    pressure = [(said, rate(samples, ("psi", key), max(step, 0.5))) for key, said in PRESSURE.items()]
    memory = [(said, level(samples, (key,), step, keep)) for key, (said, keep) in MEMORY.items()]
    shared = [(said, level(samples, ("ksm", key), max(step, 1.0), max)) for key, said in SHARED.items()]
    full = [(name, level(samples, ("fill", name), step, max)) for name in names(samples, "fill")]
    kept = sorted(sorted(full, key=lambda line: -max(_values(line[1]), default=0))[:MOST])
    left_out = f" The {MOST} fullest of {len(full)} are shown." if len(full) > MOST else ""
    shown = [
        Plot("pressure", "Pressure: waiting for processor, memory and disks", "%", _PRESSURE, 0, _some(pressure)),
        Plot("memory", "Memory that the host could still give", "MiB", _MEMORY, 0, _some(memory)),
        Plot("ksm", "Memory that is the same in several places (KSM)", "MiB", _SHARED, 0, _ever(_some(shared))),
        Plot("fill", "How full things were", "%", _FILL + left_out, 100, _some(kept)),
    ]
    return [_scaled(plot) for plot in shown if plot.lines]


_PRESSURE = "Share of the time in which something on the host had to wait (PSI, from the kernel's counters)."
_MEMORY = (
    "MemAvailable and SwapFree, the lowest value of each moment, and what waits to be written (Dirty), the highest."
    " A host without swap space has no line for it."
)
_SHARED = "What need not be kept twice (pages_sharing), and what that brings after its own cost (general_profit)."
_FILL = "The highest value of each moment."


def draw(plot: Plot, axis: Axis) -> Markup:
    """The chart as an image, with a legend on top. Lines differ by their dashes, too."""
    legend, rows = _legend(plot, axis.width)
    top = LINE * rows + 18
    bottom = top + HEIGHT
    parts = [*legend]
    levels = [(bottom - share * HEIGHT, f"{plot.top * share:g} {plot.unit}") for share in (0.0, 0.5, 1.0)]
    parts += [tag("line", x1=MARGIN, y1=y, x2=axis.width - MARGIN, y2=y, class_="grid") for y, _text in levels]
    for at in (axis.zero, axis.relief):
        if at is not None:
            x = axis.x(at)
            parts.append(tag("line", x1=x, y1=top, x2=x, y2=bottom, class_="mark"))
    for index, (_name, points) in enumerate(plot.lines):
        parts.append(tag("path", d=_path(points, plot.top, axis, bottom), class_=f"line s{index + 1}"))
    parts += [tag("text", text, x=MARGIN + 2, y=y - 3, class_="phase") for y, text in levels]
    for tick in axis.ticks():
        x = axis.x(axis.zero + tick)
        parts.append(tag("text", f"{tick:g} s", x=x, y=bottom + 16, text_anchor="middle", class_="soft"))
    return picture(f"{plot.key}-{axis.width}", _spoken(plot), axis.width, bottom + LINE + 4, *parts)


def _values(points: Points) -> list[float]:
    return [value for _at, value in points]


def _some(lines: Sequence[tuple[str, Points]]) -> tuple[tuple[str, Points], ...]:
    return tuple((name, points) for name, points in lines if len(points) > 1)


def _ever(lines: tuple[tuple[str, Points], ...]) -> tuple[tuple[str, Points], ...]:
    """Nothing where all of them are nought: that is no news."""
    return lines if any(value for _name, points in lines for value in _values(points)) else ()


def _scaled(plot: Plot) -> Plot:
    highest = max(max(_values(points)) for _name, points in plot.lines)
    top = plot.top or nice(max(highest, 5.0))
    if plot.unit == "MiB":
        top = nice(highest / 4) * 4 if highest > 0 else 4.0
    return Plot(plot.key, plot.title, plot.unit, plot.says, top, plot.lines)


def _legend(plot: Plot, width: int) -> tuple[list[Markup], int]:
    """Samples of the lines with their names, in as many rows as they need; and how many."""
    parts, x, row = [], MARGIN, 0
    for index, (name, _points) in enumerate(plot.lines):
        told = name if text_width(name) + 50 < width else f"{name[: int(width / LETTER) - 10]}…"
        need = 30 + text_width(told) + 14
        if x > MARGIN and x + need > width:
            x, row = MARGIN, row + 1
        y = LINE * row + 12
        parts.append(tag("path", d=f"M{x:.1f} {y - 4:.1f}h24", class_=f"line s{index + 1}"))
        parts.append(tag("text", told, x=x + 30, y=y, class_="word"))
        x += need
    return parts, row + 1


def _path(points: Points, top: float, axis: Axis, bottom: float) -> str:
    """A path that is broken where samples are missing."""
    widths = sorted(b[0] - a[0] for a, b in pairwise(points))
    hole = max(2.0, 4 * widths[len(widths) // 2])
    told, before = [], None
    for at, value in points:
        if axis.start <= at <= axis.end:
            y = bottom - min(max(value / top, 0.0), 1.0) * HEIGHT
            told.append(f"{'L' if before is not None and at - before <= hole else 'M'}{axis.x(at):.1f} {y:.1f}")
            before = at
    return "".join(told)


def _spoken(plot: Plot) -> str:
    told = [
        f"{name} from {min(_values(points)):.0f} to {max(_values(points)):.0f} {plot.unit}"
        for name, points in plot.lines
    ]
    return f"{plot.title}: {'; '.join(told)}."
