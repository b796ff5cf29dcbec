# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody answered whoever asked while a failure drill ran, as its journal says it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Why there was no answer, where there was one after a time in which there ought to have been more.
LATE = "late"


@dataclass(frozen=True)
class Silence:
    """Somebody did not answer from ``from_`` to ``to`` (None: to the end), for ``s`` seconds; ``why``: what most tries
    met."""

    from_: float
    to: float | None
    s: float | None
    why: str


@dataclass(frozen=True)
class ProbeResult:
    """Whether somebody answered; ``host``: whether that is the host itself. Of one that has ``answered`` never, nothing
    is known."""

    name: str
    kind: Literal["tcp", "banner", "ping", "https"]
    address: str
    host: bool
    every_s: float
    tried: int
    answered: int
    usual_ms: float | None
    outages: tuple[Silence, ...]
    outage_s: float

    @property
    def silences(self) -> tuple[Silence, ...]:
        """When nobody answered."""
        return tuple(out for out in self.outages if out.why != LATE)

    @property
    def delays(self) -> tuple[Silence, ...]:
        """When an answer came, but late."""
        return tuple(out for out in self.outages if out.why == LATE)

    def lasted(self, which: tuple[Silence, ...]) -> float:
        """How long these of its outages were together; what was not over in the end is known from all together."""
        known = [sum(out.s or 0.0 for out in found) for found in (which, self.outages)]
        return known[0] + (self.outage_s - known[1] if any(out.s is None for out in which) else 0.0)


def weight(why: str, to: float | None, inject: float | None) -> tuple[bool, bool]:
    """By which outages are put in order where there are many, those first that say most: silence, and what was from the
    fault on (``to``: when it was over, ``inject``: when the fault was made; None: never)."""
    return why == LATE, inject is not None and to is not None and to <= inject
