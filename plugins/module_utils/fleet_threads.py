# SPDX-License-Identifier: GPL-3.0-or-later
"""The threads that work on the jobs of a schedule, each job when the schedule lets it begin."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from .core.fleet import Schedule
from .core.fleet_report import Told
from .core.reconcile import Outcome
from .core.steps import Failure

MOST = 16
"""How many jobs go on at once at most."""
OLDEST_S = 5.0
"""What was read longer ago is read again before something is changed."""
ROUNDS = 3
"""How often work is taken up again that the network or a lock has ended."""


@dataclass
class Shift:
    """One go at all jobs of a schedule.

    ``one(name, gate)`` works on one job in a thread of its own and says whether that went well. ``halted()`` says why
    no other one is to begin, or "". ``tell(over, running)`` hears how many have ended and how many are under way.
    """

    crew: Any
    schedule: Schedule
    threads: int
    one: Callable[[str, Any], bool]
    halted: Callable[[], str]
    tell: Callable[[int, int], None]

    def work(self) -> None:
        """Until nothing goes on and nothing will begin; ``schedule.left`` has not begun, ``schedule.halted`` is why."""
        gate = self.crew.gate(self.schedule)
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                self._all(gate, pool)
            except BaseException:
                # Nobody is to wait any more for what has come to its end here.
                self.crew.bell.ring()
                raise

    def _all(self, gate: Any, pool: ThreadPoolExecutor) -> None:
        schedule = self.schedule
        running: dict[Future[bool], str] = {}
        while True:
            with gate.changed:
                if self.crew.bell.rung():
                    schedule.halted = "the run was interrupted before that."
                else:
                    schedule.halted = self.halted()
                begun = schedule.begin()
            for name in begun:
                running[pool.submit(self.one, name, gate)] = name
            if not running:
                return
            self.tell(schedule.begun - len(running), len(running))
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                well = future.result()
                with gate.changed:
                    schedule.end(name, well)
                    gate.changed.notify_all()


def attempt(told: Told, warnings: list[str], do: Callable[[], Outcome]) -> bool:
    """One try at the work on one object, and whether it went well: fills in ``told``; ``warnings`` are those of ``do``.

    What an earlier try has done belongs to the result of the last one, even if nobody knew that it was done.
    """
    before, told.outcome, told.failure = told.failure, None, None
    # What was only foreseen has happened or not; what an earlier try said stays.
    said = told.warnings if before else []
    try:
        outcome = do()
        if (told.done or before) and told.planned is not None:
            outcome = Outcome(
                True, told.planned.action, outcome.object, [*told.done, *outcome.steps], told.planned.diff
            )
        told.outcome = outcome
    except Failure as failure:
        told.done += [s for s in failure.done if s not in told.done]
        failure.done = told.done
        told.failure = failure
    told.warnings = [*said, *warnings]
    return told.failure is None
