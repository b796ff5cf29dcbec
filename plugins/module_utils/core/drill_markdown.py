# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill in Markdown, for a repository: tables and lists, no HTML."""

from __future__ import annotations

import re

from .drill_blocks import Block, Bullets, Cell, Code, Section, Table, Text
from .drill_history import History
from .drill_journal import Journal
from .drill_samples import Samples
from .drill_story import story, tiles
from .drill_words import VERDICTS, seconds

# What Markdown (GitHub's, too) would take as markup, anywhere in a line; a "." or ")" only after leading digits.
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~!&$@])")
_LEADING = re.compile(r"^(\s*)(\d+(?=[.)](?:\s|$))|[-+=](?=\s|[-=]))(.?)")


def markdown(journal: Journal, samples: Samples, past: History | None = None) -> str:
    """The whole file. The same journal gives the same text."""
    said = VERDICTS[journal.verdict]
    lasted = f", took {seconds(journal.duration_s)}" if journal.duration_s is not None else ""
    top = [
        f"# {said.sign} {said.headline}: {literal(journal.drill.title)}",
        f"**{literal(journal.because)}**",
        f"{said.means} {said.then}",
        f"Drill {code(journal.drill.name)} on {literal(journal.host.name)}, {journal.began_utc}{lasted}, "
        f"verdict {code(journal.verdict)}.",
        _table(Table(("Metric", "Value", "What it measures"), tuple(tiles(journal)))),
    ]
    return "\n\n".join([*top, *(_section(section) for section in story(journal, samples, past))]) + "\n"


def literal(text: str) -> str:
    """A text in one line, of which nothing is taken as markup."""
    line = " ".join(text.split())
    escaped = _MARKS.sub(r"\\\1", line)
    return _LEADING.sub(lambda m: f"{m[1]}\\{m[2]}{m[3]}" if not m[2].isdigit() else f"{m[1]}{m[2]}\\{m[3]}", escaped)


def code(text: str) -> str:
    """A short text in the type of code; its fence is longer than any that it holds."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(found) for found in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _section(section: Section) -> str:
    parts = [_block(block) for block in section.blocks]
    return "\n\n".join([f"## {section.title}", *(part for part in parts if part)])


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"**{literal(block.text)}**" if block.tone in ("bad", "warn") else literal(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {literal(item)}" for item in block.items)
    if isinstance(block, Code):
        fence = "`" * max(3, 1 + max((len(found) for found in re.findall("`+", block.text)), default=0))
        return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
    return _table(block) if isinstance(block, Table) else ""


def _table(table: Table) -> str:
    lines = [_row(table.head), "|---" * len(table.head) + "|", *(_row(row) for row in table.rows)]
    return "\n".join(lines)


def _row(cells: tuple[Cell | str, ...]) -> str:
    return f"| {' | '.join(literal(c.text if isinstance(c, Cell) else c) for c in cells)} |"
