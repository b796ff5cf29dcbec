# SPDX-License-Identifier: GPL-3.0-or-later
"""The Proxmox VE property string: "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=20".

Proxmox VE splits at commas and knows no quoting, so a value can hold neither a comma nor a line break. One key of a
format may be its default key, whose name may be left out in front of the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}


def parse(text: str, default_key: str | None = None) -> dict[str, str]:
    """Split a property string. Raises ValueError for a bare part where there is no default key, and for a key twice."""
    values: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            if default_key is None:
                raise ValueError(f"'{part}' in '{text}' has no name in front of it (expected name=value)")
            key, value = default_key, part
        if key in values:
            raise ValueError(f"'{key}' is given twice in '{text}'")
        values[key] = value
    return values


def render(values: Mapping[str, object], default_key: str | None = None, order: Iterable[str] = ()) -> str:
    """Join to a property string: the default key first and bare, then ``order``, then the rest by name.

    None is left out; booleans become 1 and 0. Raises ValueError for a value that a property string cannot hold.
    """
    present = {k: _text(k, v) for k, v in values.items() if v is not None}
    first = [default_key] if default_key in present else []
    listed = [k for k in order if k in present and k not in first]
    rest = sorted(k for k in present if k not in first and k not in listed)
    return ",".join(present[k] if k == default_key else f"{k}={present[k]}" for k in [*first, *listed, *rest])


def parse_bool(text: object) -> bool:
    """The spellings that Proxmox VE takes for a boolean (1/0, yes/no, on/off, true/false). Raises ValueError."""
    lowered = str(text).strip().lower()
    if lowered in ("1", "on", "yes", "true"):
        return True
    if lowered in ("0", "off", "no", "false"):
        return False
    raise ValueError(f"'{text}' is neither true nor false")


def parse_size(text: object) -> int:
    """ "8G", "512M", "1.5T", "8GiB" or plain bytes → bytes (units are powers of 1024). Raises ValueError."""
    cleaned = str(text).strip()
    number = cleaned.rstrip("iBbKkMmGgTtPp ")
    unit = cleaned[len(number) :].strip().upper().removesuffix("B").removesuffix("I")
    try:
        size = Decimal(number) * UNITS[unit]
    except (InvalidOperation, KeyError):
        raise ValueError(f"'{text}' is not a size; write a number with K, M, G or T, such as 8G") from None
    if size < 0 or size != size.to_integral_value():
        raise ValueError(f"'{text}' is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """Bytes → the shortest exact form that Proxmox VE itself writes: 8G, 2560M, 528K, 1000."""
    for unit in ("T", "G", "M", "K"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)


def _text(key: str, value: object) -> str:
    text = str(int(value)) if isinstance(value, bool) else str(value)
    if "," in text or "\n" in text:
        raise ValueError(f"the value of '{key}' holds a comma or a line break, which Proxmox VE cannot store: '{text}'")
    return text
