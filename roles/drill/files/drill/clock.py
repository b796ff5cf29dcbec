# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a run: CLOCK_MONOTONIC, and after a reboot of the host its continuation.

CLOCK_MONOTONIC begins anew with each boot. How long a host was away only its wall clock knows, so a run that goes on
after a reboot takes the difference from there, and is as exact as the machine's real-time clock: to a second or so.
"""

from __future__ import annotations

import time


class _Lead:
    """By how much the clock of the run is ahead of this boot's, in seconds."""

    s = 0.0


def now() -> float:
    """Seconds on the clock of this run."""
    return time.monotonic() + _Lead.s


def of_this_boot(at: float) -> float:
    """A time of this boot's CLOCK_MONOTONIC, as the kernel and systemd name it, on the clock of the run."""
    return at + _Lead.s


def go_on(at: float, wall: float) -> None:
    """It was ``at`` by the clock of the run when the wall clock (seconds since 1970) said ``wall``; go on from there.
    A wall clock that has been set back in between does not let the run's own go back."""
    _Lead.s = at + max(0.0, time.time() - wall) - time.monotonic()
