# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure drill as one picture: the verdict, what was measured, and the timeline. An SVG file that needs no page.

It is what a text about a run shows: a page of documentation, a ticket, a chat. Light and dark by the reader's choice.
"""

from __future__ import annotations

import textwrap

from .drill_journal import Journal
from .drill_markup import Markup, tag
from .drill_samples import Samples
from .drill_story import tiles
from .drill_style import PICTURE
from .drill_svg import MARGIN, WIDE, timeline
from .drill_words import VERDICTS, seconds

_PAD = 2 * MARGIN
_BECAUSE = 8.4  # about how wide a letter of the reason is


def svg(journal: Journal, samples: Samples) -> str:
    """The whole file. The same journal gives the same text; a run without a timeline shows the rest."""
    said = VERDICTS[journal.verdict]
    top, head = _head(journal)
    below, measured = _measured(journal, top)
    parts = [*measured]
    drawn = timeline(journal, samples, WIDE)
    if drawn is not None:
        parts.append(tag("svg", drawn, x=0, y=below, width=WIDE, height=drawn.height))
        below += drawn.height
    height = f"{below + MARGIN:.0f}"
    title = f"{said.headline}: {journal.drill.title}"
    made = tag(
        "svg",
        tag("title", title),
        tag("style", Markup(PICTURE)),
        tag("rect", width=WIDE, height=height, class_="card"),
        *head,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDE} {height}",
        width=WIDE,
        height=height,
        role="img",
    )
    return f"{made}\n"


def _head(journal: Journal) -> tuple[float, list[Markup]]:
    """Where the head ends, and its parts: a box in the verdict's colour."""
    said = VERDICTS[journal.verdict]
    lasted = f", took {seconds(journal.duration_s)}" if journal.duration_s is not None else ""
    where = f"{journal.drill.title} on {journal.host.name}, {journal.began_utc[:10]}{lasted}"
    y = 44.0
    words = [tag("text", f"{said.sign} {said.headline}", x=_PAD, y=y, class_="headline")]
    for line in textwrap.wrap(journal.because, int((WIDE - 2 * _PAD) / _BECAUSE)):
        y += 22
        words.append(tag("text", line, x=_PAD, y=y, class_="because"))
    y += 22
    words.append(tag("text", where, x=_PAD, y=y, class_="soft"))
    box = tag("rect", x=0, y=0, width=WIDE, height=y + 14, class_=said.tone)
    return y + 14, [box, *words]


def _measured(journal: Journal, top: float) -> tuple[float, list[Markup]]:
    """Where the measured times end, and their parts: side by side, each above what it is."""
    shown = list(tiles(journal))
    wide = (WIDE - 2 * _PAD) / max(len(shown), 1)
    parts = []
    for index, (name, value, _what) in enumerate(shown):
        x = _PAD + index * wide
        parts += [
            tag("text", value, x=x, y=top + 32, class_="value"),
            tag("text", name, x=x, y=top + 50, class_="soft"),
        ]
    return top + 66, parts
