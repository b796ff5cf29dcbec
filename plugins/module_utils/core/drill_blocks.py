# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill's report is made of, whatever it is written in: paragraphs, lists, tables, drawings, sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Tone: TypeAlias = Literal["", "good", "bad", "warn"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table that stands out; its sign says so without the colour."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows below a head. The first cell of a row is its name."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]


@dataclass(frozen=True)
class Code:
    """Text that is shown exactly as it is."""

    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Figure:
    """Where the drawings are, in a report that can have some."""

    kind: Literal["timeline", "plots"]


Block: TypeAlias = Text | Bullets | Table | Code | Figure


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading. ``key`` is unique, for links."""

    key: str
    title: str
    blocks: tuple[Block, ...]
