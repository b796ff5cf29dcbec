# SPDX-License-Identifier: GPL-3.0-or-later
"""Property strings (``virtio=BC:24:11:00:00:01,bridge=vmbr0``) and how Proxmox VE rewrites them.

Printing puts the default key first and bare, then the keys its format calls required, then the rest by name;
booleans are 1 and 0, disk sizes take the largest unit that divides them (PVE::JSONSchema, ``print_property_string``).
Values stay text here. Whether a key or value is allowed at all is the schema's business, not this codec's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TRUE = frozenset({"1", "on", "yes", "true"})
FALSE = frozenset({"0", "off", "no", "false"})
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SIZE_RE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(?:iB)?")


def words(text: str) -> frozenset[str]:
    """The set of the words of a text, for tables of names."""
    return frozenset(text.split())


class PropertyError(ValueError):
    """A property string that cannot be taken apart; the text says why."""


@dataclass(frozen=True)
class Format:
    """What printing and parsing need to know of a kind of property string.

    ``default_key`` may be given without its name. ``aliases`` maps other spellings to keys. ``carriers`` are names that
    are a value of ``default_key`` and carry ``carried`` behind the equals sign (NIC models and their MAC).
    """

    default_key: str | None = None
    booleans: frozenset[str] = frozenset()
    required: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    carriers: frozenset[str] = frozenset()
    carried: str = ""
    dropped: frozenset[str] = frozenset()


def as_bool(text: str) -> bool | None:
    """True or False for the spellings Proxmox VE takes, None for anything else."""
    low = text.lower()
    return True if low in TRUE else False if low in FALSE else None


def parse(text: str, fmt: Format) -> dict[str, str]:
    """Keys and values of a property string; PropertyError for a key that is there twice or a part without one."""
    found: dict[str, str] = {}

    def put(key: str, value: str) -> None:
        if key in found:
            raise PropertyError(f"duplicate key in comma-separated list property: {key}")
        flag = as_bool(value) if key in fmt.booleans else None
        found[key] = value if flag is None else str(int(flag))

    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not part.strip() or (equals and key in fmt.dropped):
            continue
        if not equals:
            if fmt.default_key is None:
                raise PropertyError("value without key, but schema does not define a default key")
            put(fmt.default_key, part)
        elif not key or not value:
            raise PropertyError("missing key in comma-separated list property")
        elif key in fmt.carriers and fmt.default_key:
            put(fmt.default_key, key)
            put(fmt.carried, value)
        else:
            put(fmt.aliases.get(key, key), value)
    return found


def render(values: Mapping[str, str], fmt: Format) -> str:
    """The property string of keys and values, as Proxmox VE would write it."""
    parts: list[str] = []
    rest = dict(values)
    if fmt.default_key and fmt.default_key in rest:
        first = rest.pop(fmt.default_key)
        if first in fmt.carriers and fmt.carried in rest:
            first = f"{first}={rest.pop(fmt.carried)}"
        parts.append(first)
    for key in [k for k in sorted(fmt.required) if k in rest] + sorted(set(rest) - set(fmt.required)):
        if "," in rest[key]:
            raise PropertyError(f"illegal value with commas for {key}")
        parts.append(f"{key}={rest[key]}")
    return ",".join(parts)


def parse_size(text: str) -> int | None:
    """Bytes of ``32G``, ``2560M``, ``1.5T`` or a bare number; None when it is no size."""
    match = SIZE_RE.fullmatch(text)
    return int(float(match[1]) * UNITS[match[2]]) if match else None


def format_size(size: int) -> str:
    """``2684354560`` is ``2560M``: the largest unit that leaves a whole number."""
    unit = ""
    for name in ("K", "M", "G", "T"):
        if size % 1024:
            break
        size, unit = size // 1024, name
    return f"{size}{unit}"


def split_list(text: str) -> list[str]:
    """Items of a list that may be separated by commas, semicolons, blanks or NUL."""
    return [item for item in re.split(r"[,;\s\0]+", text) if item]
