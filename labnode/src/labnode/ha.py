# SPDX-License-Identifier: GPL-3.0-or-later
"""HA resources as far as one node knows them: which guests are managed and what is asked of them."""

from __future__ import annotations

from labnode.store import Store, parse_sections

RESOURCES = "etc/ha/resources.cfg"


def sid_of(text: str) -> str:
    """The full id of a resource that may be given as a bare guest number."""
    return f"vm:{text}" if text.isdecimal() else text


def states(store: Store) -> dict[str, str]:
    """The state asked for each HA resource, by its id without the kind: ``100``."""
    return {i: s.options.get("state", "started") for i, s in parse_sections(store.read(RESOURCES)).items()}
