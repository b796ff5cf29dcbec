# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a chain of images, made for it in a directory of its own: no guest's disk is touched."""

from __future__ import annotations

import shutil
from pathlib import Path
from shlex import quote

from .. import chain
from ..node import Node
from ..plan import Plan
from ..recorder import Recorder
from ..shell import Trouble
from ..signs import Sign
from .fault import Fault, Prepare, Skip
from .pools import part
from .storage import FILLER

# What a chain, its copy and one chain for each kind of damage take, and room for what is read from them.
NEEDS_MIB = 128


def snapshot_chain(plan: Plan, _node: Node) -> Fault:
    """A base with two overlays is damaged in ways that qemu-img does not find, or not all of it; a manifest does."""
    path = Path(str(plan.option("path")))
    if not path.is_dir():
        raise Trouble(f"{path} is no directory on this host; name one in the drill's options")
    if not shutil.which("qemu-img"):
        raise Skip("there is no qemu-img on this host, and so nothing that could make or read a chain")
    if (free := shutil.disk_usage(path).free >> 20) < NEEDS_MIB:
        raise Trouble(f"{path} has {free} MiB left, and a chain to damage takes up to {NEEDS_MIB}; name another path")
    kinds = tuple(chain.KINDS) if plan.options.get("damage") is None else (str(plan.options["damage"]),)
    if unknown := [kind for kind in kinds if kind not in chain.KINDS]:
        raise Trouble(f"there is no damage {unknown[0]}; there is {', '.join(chain.KINDS)}")
    place = path / f"{FILLER}-chain"
    return Fault(
        targets=tuple(f"{place / kind}" for kind in kinds),
        inject=f"{part(plan, 'chain', 'build', str(place))}\n{part(plan, 'chain', 'damage', str(place), *kinds)}",
        relief=part(plan, "chain", "restore", str(place), *kinds),
        undo=f"rm -rf -- {quote(str(place))}",
        signs=tuple(_damaged(place, kind) for kind in kinds),
        eased=tuple(_restored(place, kind) for kind in kinds),
        outage=False,
    )


def _damaged(place: Path, kind: str) -> Sign:
    """The manifest finds the damage. What `qemu-img check` says of it is told, and proves nothing."""

    def test(_seen: Recorder, _since: float) -> str | None:
        found = _found(place, kind)
        return found.evidence if found and (found.unreadable or found.differ) else None

    return Sign(f"{kind}: the chain is not as its manifest says", test)


def _restored(place: Path, kind: str) -> Sign:
    """The copy in its place shows all that it should."""

    def test(_seen: Recorder, _since: float) -> str | None:
        found = _found(place, kind)
        return found.evidence if found and not found.unreadable and not found.differ else None

    return Sign(f"{kind}: the chain's copy is as its manifest says", test)


def _found(place: Path, kind: str) -> chain.Found | None:
    try:
        return chain.look(place, kind)
    except (Trouble, OSError):
        return None


KINDS: dict[str, Prepare] = {"snapshot_chain": snapshot_chain}
