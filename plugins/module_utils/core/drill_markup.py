# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of HTML and SVG as values: whatever is not markup already is escaped, so nothing can be forgotten."""

from __future__ import annotations

from html import escape
from typing import TypeAlias

VOID = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is markup, and is put into other markup as it is."""

    __slots__ = ()


Child: TypeAlias = "str | Markup"
Attribute: TypeAlias = "str | float | int | None"


def tag(element: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element: ``tag("p", "a < b", class_="soft")``. Attributes of None are left out, "_" in a name is "-"."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in VOID:
        return Markup(f"<{element}{told}>")
    return Markup(f"<{element}{told}>{join(*children)}</{element}>")


def join(*children: Child) -> Markup:
    """Children in a row; plain text is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _value(value: str | float) -> str:
    """Numbers of a drawing need no more than a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
