# SPDX-License-Identifier: GPL-3.0-or-later
"""HA resources as far as one node knows them: which guests are managed and what is asked of them."""

from __future__ import annotations

from labnode.store import Store, parse_sections

RESOURCES = "etc/ha/resources.cfg"


def sid_of(text: str) -> str:
    """The full id of a resource that may be given as a bare guest number."""
    return f"vm:{text}" if text.isdecimal() else text


def state_of(store: Store, sid: str) -> str | None:
    """The state asked for an HA resource such as ``vm:100``, None when it is not managed."""
    section = parse_sections(store.read(RESOURCES)).get(sid.partition(":")[2])
    return section.options.get("state", "started") if section else None
