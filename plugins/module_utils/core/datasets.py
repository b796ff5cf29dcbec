# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of ZFS datasets in the form in which ``zfs get -Hp`` prints them (zfsprops(7)). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SIZES = frozenset({"quota", "refquota", "reservation", "refreservation", "recordsize", "volsize", "volblocksize"})
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def wanted_properties(params: Mapping[str, Any]) -> dict[str, str]:
    """All properties that a task names, by its options or by name; "" for one that is to be inherited."""
    named = {key: canonical(key, value) for key, value in (params["properties"] or {}).items()}
    if params["mountpoint"] is not None:
        named["mountpoint"] = params["mountpoint"]
    if params["quota_gib"] is not None:
        named["quota"] = str(int(params["quota_gib"] * 1024**3))
    if params["size_gib"] is not None:
        # A volume is a whole number of blocks, which are at most 128 KiB; a MiB holds for all of them.
        named["volsize"] = str(-(-int(params["size_gib"] * 1024**3) // 1024**2) * 1024**2)
    return named


def canonical(key: str, value: Any) -> str:
    """A property's value as it is printed: sizes in bytes, "none" as 0, booleans as on and off."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if key not in _SIZES:
        return text
    if text == "none":
        return "0"
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    return str(int(float(found[1]) * _UNITS[found[2].upper()])) if found else text
