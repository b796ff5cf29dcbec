# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill as one file of HTML: no script, nothing from elsewhere, for screens, phones and paper."""

from __future__ import annotations

import re

from .drill_blocks import Block, Bullets, Cell, Code, Figure, Section, Table, Text
from .drill_history import History
from .drill_journal import Journal
from .drill_markup import Markup, join, tag
from .drill_plots import draw, plots
from .drill_samples import Samples
from .drill_story import story, tiles
from .drill_style import STYLE
from .drill_svg import NARROW, WIDE, axis_of, timeline
from .drill_words import VERDICTS, seconds

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_WIDTHS = (WIDE, NARROW)
# A word of more letters may be broken anywhere, so that no table is wider than the page.
LONG = 24
# A space at which no line ends: between a number and its unit.
KEPT = "\u00a0"
_UNITS = re.compile(r"(?<=\d) (?=(?:s|ms|min|h|MiB)\b|%)")


def html(journal: Journal, samples: Samples, past: History | None = None) -> str:
    """The whole file. The same journal gives the same text."""
    sections = story(journal, samples, past)
    said = VERDICTS[journal.verdict]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{said.headline}: {journal.drill.title}"),
        tag("style", Markup(STYLE)),
    )
    figures = _figures(journal, samples)
    main = tag("main", _tiles(journal), *(_section(section, figures) for section in sections))
    body = tag("body", _verdict(journal), _contents(sections), main)
    page = tag("html", Markup("\n"), head, Markup("\n"), body, Markup("\n"), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _verdict(journal: Journal) -> Markup:
    said = VERDICTS[journal.verdict]
    lasted = f", took {seconds(journal.duration_s)}" if journal.duration_s is not None else ""
    return tag(
        "header",
        tag("h1", tag("span", said.sign, class_="sign", aria_hidden="true"), said.headline),
        tag("p", journal.because, class_="because"),
        tag("p", f"{said.means} {said.then}"),
        tag("p", tag("strong", journal.drill.title), f" on {journal.host.name}, {_day(journal)}{lasted}"),
        class_=f"verdict {said.tone}",
    )


def _day(journal: Journal) -> str:
    return f"{journal.began_utc[:16].replace('T', ' ')} UTC"


def _contents(sections: list[Section]) -> Markup:
    links = [tag("a", section.title, href=f"#{section.key}") for section in sections]
    return tag("nav", *links, aria_label="Contents")


def _tiles(journal: Journal) -> Markup:
    shown = [
        tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", what, class_="soft"))
        for name, value, what in tiles(journal)
    ]
    return tag("dl", *shown, class_="tiles")


def _figures(journal: Journal, samples: Samples) -> dict[str, Markup]:
    """The drawings, each for a wide and for a narrow page."""
    found: dict[str, Markup] = {}
    drawn = [picture for width in _WIDTHS if (picture := timeline(journal, samples, width)) is not None]
    if drawn:
        found["timeline"] = tag("figure", *drawn, tag("figcaption", *_KEY))
    charts = []
    for wide, narrow in zip(*(plots(journal, samples, width) for width in _WIDTHS), strict=True):
        pictures = [
            draw(plot, axis)
            for plot, width in ((wide, WIDE), (narrow, NARROW))
            if (axis := axis_of(journal, samples, width)) is not None
        ]
        charts.append(tag("figure", tag("h3", wide.title), *pictures, tag("figcaption", wide.says)))
    found["plots"] = join(*charts)
    return found


def _swatch(kind: str, says: str) -> Markup:
    return tag("span", tag("span", class_=f"swatch {kind}", aria_hidden="true"), says)


_KEY = (
    _swatch("ack", "a tick: the guest confirmed writes"),
    _swatch("outage", "a block: an outage"),
    _swatch("outage late", "a pale one: an answer that came late"),
    _swatch("halted", "a strip below: QEMU says that it does not run"),
    _swatch("gap", "a grey column: no samples"),
)


def _section(section: Section, figures: dict[str, Markup]) -> Markup:
    parts = [_block(block, figures) for block in section.blocks]
    return join(Markup("\n"), tag("section", tag("h2", section.title), *parts, id=section.key))


def _block(block: Block, figures: dict[str, Markup]) -> Markup:
    if isinstance(block, Text):
        return tag("p", block.text, class_=f"note {block.tone}" if block.tone else None)
    if isinstance(block, Bullets):
        return tag("ul", *(tag("li", item) for item in block.items))
    if isinstance(block, Code):
        return tag("pre", tag("code", block.text.rstrip()))
    if isinstance(block, Figure):
        return figures.get(block.kind, Markup(""))
    return _table(block)


def _table(table: Table) -> Markup:
    """On a phone each row becomes a card, whose cells bring their heads along; roles keep it a table for readers."""
    head = tag("tr", *(tag("th", text, role="columnheader", scope="col") for text in table.head), role="row")
    rows = [
        tag("tr", *(_cell(name, cell) for name, cell in zip(table.head, row, strict=True)), role="row")
        for row in table.rows
    ]
    parts = (tag("thead", head, role="rowgroup"), tag("tbody", *rows, role="rowgroup"))
    return tag("table", *parts, role="table", class_="pair" if len(table.head) == 2 else None)


def _cell(head: str, cell: Cell | str) -> Markup:
    text, tone = (cell.text, cell.tone) if isinstance(cell, Cell) else (cell, "")
    kinds = [tone] * bool(tone) + ["empty"] * (not text) + ["long"] * (max(map(len, text.split()), default=0) > LONG)
    told = text.replace(" ", KEPT) if tone and len(text) < LONG else _UNITS.sub(KEPT, text)
    return tag("td", tag("span", told), role="cell", data_head=head, class_=" ".join(kinds) or None)
