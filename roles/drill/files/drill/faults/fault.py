# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from ..signs import Sign


class Skip(Trouble):
    """This host cannot have this fault; the message says why."""


@dataclass(frozen=True)
class Fault:
    """``inject`` and ``undo`` are shell; ``undo`` may run twice, and where nothing is wrong. ``signs`` must all be
    seen, or the fault was none. ``outage``: whether the victims are to stand still (or only to become slow, or to
    notice nothing). ``fill`` measures what may run full, in percent. ``whole`` raises Trouble as long as something is
    still to be waited for after the undo (a pool that resilvers)."""

    targets: tuple[str, ...]
    inject: str
    undo: str
    signs: tuple[Sign, ...]
    outage: bool = True
    fill: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    whole: Callable[[], None] = lambda: None


Prepare = Callable[[Plan, Node], Fault]
