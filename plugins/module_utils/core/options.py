# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules share, and what people call the objects that these options name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

GUEST: dict[str, Any] = {"vmid": {"type": "int"}, "name": {"type": "str"}, "node": {"type": "str"}}
"""Which guest is meant; documented by the fragment ``guest``."""

ONE_GUEST: dict[str, Any] = {"required_one_of": [("vmid", "name")]}
"""The constraints that go with GUEST."""


def guest(params: Mapping[str, Any]) -> str:
    """What people call the guest: "100 (web1)" once it is found (parameter ``_guest``), else as the task names it."""
    return str(params.get("_guest") or params.get("vmid") or params.get("name"))


def moment(epoch_s: int) -> str:
    """Seconds since 1970 → "2026-11-21 08:00:19 UTC"."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def listed(names: Mapping[str, Any] | list[str] | tuple[str, ...] | set[str]) -> str:
    """["a", "b", "c"] → "a, b and c"."""
    *first, last = sorted(names) if isinstance(names, set) else names
    return f"{', '.join(first)} and {last}" if first else str(last)
