# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading JSON into dataclasses: the declaration of a class is what its JSON has to look like.

A field that is missing counts as null. Null is taken where the field says ``| None``, and as "none of them" where it is
a tuple or a mapping. Keys that no field has are left alone, so that a newer writer can say more. A trailing ``_`` of a
field's name is not part of the key (``from_``). Texts of fields whose name ends in ``utc`` have to be moments in UTC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

# Control characters, halves of pairs, what XML forbids, and what turns the direction of writing around: a report shows
# a mark instead, because each of them could break a file, or show another command than the one that was run.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_NAMES = {str: "a text", float: "a number", int: "a whole number", bool: "true or false"}


class Malformed(ValueError):
    """JSON that is not what it should be; the message names the field: "guests[0].vmid should be a whole number"."""


def parse(text: str) -> Any:
    """The JSON of a text, printable throughout. Raises Malformed, also for NaN and Infinity."""
    try:
        return printable(json.loads(text, parse_constant=_no_number))
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"line {error.lineno} is no JSON ({error.msg})") from None
    except Malformed:
        raise
    except ValueError:  # a whole number of more digits than Python takes
        raise Malformed("it holds a number that is too long") from None


def printable(value: Any) -> Any:
    """The same value with U+FFFD for every character that must not get into a file, and with \\n for every line end."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value


def build(kind: Any, value: Any, path: str) -> Any:
    """``value`` as a ``kind``: a dataclass, tuple[X, ...], Mapping[str, X], Literal, X | None or a plain type.

    ``path`` is how an error calls it. Raises Malformed.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _record(kind, value, path)
    if origin in (Union, UnionType):
        return None if value is None else build(next(k for k in inner if k is not NoneType), value, path)
    if origin is Literal:
        if value not in inner:
            raise Malformed(f"{path} is {shown(value)} and should be one of {', '.join(inner)}")
        return value
    if origin is tuple:
        return tuple(build(inner[0], v, f"{path}[{i}]") for i, v in enumerate(_a(list, value, path, "a list")))
    if origin is Mapping:
        return {k: build(inner[1], v, f"{path}.{k}") for k, v in _a(dict, value, path, "an object").items()}
    return value if kind is Any else _leaf(kind, value, path)


def moment(text: str) -> datetime:
    """A text such as 2026-11-22T02:15:00.123Z as a moment in UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    if found.utcoffset() != timedelta(0):
        raise ValueError(f"{text} is not in UTC")
    return found


def shown(value: Any) -> str:
    """A value as an error shows it: JSON, at most 60 characters of it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _record(kind: Any, value: Any, path: str) -> Any:
    given = _a(dict, value, path or "the whole", "an object")
    hints, found = get_type_hints(kind), {}
    for field in fields(kind):
        key = field.name.rstrip("_")
        inner = f"{path}.{key}" if path else key
        item = given.get(key)
        if item is None and get_origin(hints[field.name]) in (tuple, Mapping):
            item = [] if get_origin(hints[field.name]) is tuple else {}
        if item is None and key not in given and NoneType not in get_args(hints[field.name]):
            raise Malformed(f"{inner} is missing")
        found[field.name] = build(hints[field.name], item, inner)
    return kind(**found)


def _a(kind: type, value: Any, path: str, called: str) -> Any:
    if not isinstance(value, kind):
        raise Malformed(f"{path} is {shown(value)} and should be {called}")
    return value


def _leaf(kind: type, value: Any, path: str) -> Any:
    takes: tuple[type, ...] = (int, float) if kind is float else (kind,)
    wrong = not isinstance(value, takes) or (isinstance(value, bool) and kind is not bool)
    if wrong or (kind is float and not _finite(value)):
        raise Malformed(f"{path} is {shown(value)} and should be {_NAMES[kind]}")
    if kind is str and path.endswith("utc"):
        try:
            moment(value)
        except ValueError:
            raise Malformed(f"{path} is {shown(value)} and should be like 2026-11-22T02:15:00Z") from None
    return float(value) if kind is float else value


def _finite(value: int | float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:
        return False


def _no_number(name: str) -> Any:
    raise Malformed(f"it holds {name}, which is no number")
