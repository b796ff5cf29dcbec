# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..node import Node
from ..plan import Plan
from ..shell import Skip
from ..signs import Sign

__all__ = ["Fault", "Prepare", "Skip"]


@dataclass(frozen=True)
class Fault:
    """``inject`` and ``undo`` are shell; ``undo`` may run twice, and where nothing is wrong. ``signs`` must all be
    seen, or the fault was none. ``outage``: whether the victims are to stand still (or only to become slow, or to
    notice nothing). ``fill`` measures what may run full, in percent. ``whole`` raises Trouble as long as something is
    still to be waited for after the undo (a pool that resilvers).

    ``relief`` is shell too: what an operator would do while the fault is still there. It runs once the signs are seen,
    and ``eased`` are the signs, looked for from then on, that it helps. ``undo`` takes the relief back as well.
    ``looks`` are what this fault could leave behind and no other: lines that are to be the same before and after.
    ``reboots``: the host goes down with the runner, which goes on after the boot."""

    targets: tuple[str, ...]
    inject: str
    undo: str
    signs: tuple[Sign, ...]
    outage: bool = True
    fill: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    whole: Callable[[], None] = lambda: None
    relief: str = ""
    eased: tuple[Sign, ...] = ()
    looks: Mapping[str, Callable[[], list[str]]] = field(default_factory=dict)
    reboots: bool = False


Prepare = Callable[[Plan, Node], Fault]
