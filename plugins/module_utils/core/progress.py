# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a task is: who tells it, and the form in which it goes to the callback ``progress``. Pure.

A module returns only at its end, so what it tells before goes another way (module_utils/progress.py), as one line of
JSON that holds all there is to know at that moment. A line that gets lost is made good by the next one.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

# A pipe takes up to 4096 bytes whole or not at all; six bytes are the most that JSON makes of one character.
LONGEST_TEXT, LONGEST_NAME = 200, 80


class Progress:
    """Where work tells how far it is. This one tells nobody, which is how it is unless somebody listens."""

    listens = False

    def tell(
        self,
        *,
        done: int | None = None,
        running: int | None = None,
        failed: int | None = None,
        total: int | None = None,
        text: str | None = None,
    ) -> None:
        """Objects that are done, under way, failed, and that there are in all; the last line of what happens.

        What is not given stays as it was. It may be called from any thread, as often as one likes.
        """


@dataclass(frozen=True)
class Told:
    """What one module has told so far. ``about`` is the object ("vm web1"), ``total`` 0 where nothing is counted."""

    about: str = ""
    done: int = 0
    running: int = 0
    failed: int = 0
    total: int = 0
    text: str = ""

    def updated(self, **given: int | str | None) -> Told:
        """The same with what is given, other than None, in place of what was told before."""
        kept: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        return replace(self, **kept)


def encode(pid: int, told: Told | None) -> bytes:
    """One line for the callback; None says that the module has ended."""
    body: dict[str, Any] = {"pid": pid}
    if told is not None:
        short = replace(told, about=plain(told.about)[:LONGEST_NAME], text=plain(told.text)[-LONGEST_TEXT:])
        body["told"] = asdict(short)
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> tuple[int, Told | None] | None:
    """The inverse of ``encode``; None for a line that is none, which anybody may write into a pipe."""
    try:
        body = json.loads(line)
        pid, told = body["pid"], body.get("told")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not _is(pid, int):
        return None
    if told is None:
        return pid, None
    return (pid, _told(told)) if isinstance(told, Mapping) else None


def _told(given: Mapping[str, Any]) -> Told:
    known = {f.name: type(f.default) for f in fields(Told)}
    kept: dict[str, Any] = {key: value for key, value in given.items() if key in known and _is(value, known[key])}
    texts: dict[str, Any] = {key: plain(value) for key, value in kept.items() if isinstance(value, str)}
    return Told(**{**kept, **texts})


def _is(value: Any, kind: type) -> bool:
    """Whether a value is of a kind; true and false are no numbers here."""
    return isinstance(value, kind) and not isinstance(value, bool)


def plain(text: str) -> str:
    """A text on one line, without anything that a terminal takes for an order."""
    return "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).strip()
