# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that no canary on a serial port tells of: by their agent, or by nothing but an address.

Each has a thread that adds to what was heard of its guest, one acknowledgement for each sign of life, so outages are
measured as everybody else's are. What such a guest cannot tell is said, and never made up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from ..canary import Ack, Heard
from ..node import Node
from ..plan import Plan
from . import agent, echo


class Pulse(Protocol):
    """What keeps looking at one guest until ``ends``; each sign of life goes to ``note``."""

    def live(self) -> None: ...


def loops(
    plan: Plan, heard: Mapping[int, Heard], ends: threading.Event, connect: Callable[[], Node], log: Path
) -> list[Callable[[], None]]:
    """One for each guest that is not known by its serial port, for a thread of its own."""
    made: list[Callable[[], None]] = []
    for vmid in plan.known_by("agent", "opaque"):
        note = _note(vmid, heard[vmid], log)
        pulse: Pulse
        if plan.pulse(vmid).by == "agent":
            pulse = agent.Agent(plan, vmid, heard[vmid], ends, connect, note)
        else:
            pulse = echo.Echo(plan.pulse(vmid), heard[vmid], ends, note)
        made.append(pulse.live)
    return made


def _note(vmid: int, heard: Heard, log: Path) -> Callable[[Ack], None]:
    """Take a sign of life, and have it on the disk for a run that goes on after a boot."""

    def note(ack: Ack) -> None:
        heard.acks.append(ack)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps([vmid, *astuple(ack)])}\n")

    return note


def resolution(acks: list[Ack], begin: float, end: float) -> float | None:
    """The longest time between two signs of life while nothing was wrong, in seconds: what is shorter than that
    cannot be told from nothing. None where there were less than two."""
    times = [ack.at for ack in acks if begin <= ack.at < end]
    return max((b - a for a, b in pairwise(times)), default=None)


def unseen(heard: Heard, since: float, until: float) -> float:
    """For how much of a time nobody could look at the guest, in seconds."""
    return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in heard.unseen)


def told(
    outages: list[tuple[float, float | None]], heard: Heard, end: float, longer_than_s: float
) -> list[tuple[float, float | None]]:
    """The outages that are more than a time in which nobody could look."""
    return [
        (since, until)
        for since, until in outages
        if ((until or end) - since) - unseen(heard, since, until or end) > longer_than_s
    ]


def written(heard: Heard, since: float, until: float) -> int | None:
    """How many bytes QEMU says that the guest has written in a time; None where it was not asked twice. A count that
    begins anew, after a start, is counted from there."""
    counts = [count for at, count in heard.written if since <= at < until]
    if len(counts) < 2:
        return None
    return sum(b - a if b >= a else b for a, b in pairwise(counts))
