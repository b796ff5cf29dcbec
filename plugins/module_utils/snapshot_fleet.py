# SPDX-License-Identifier: GPL-3.0-or-later
"""One snapshot of many guests in one run: each is foreseen first; then those that differ are worked on at once.

Each guest goes through the engine of all modules, with a view of the cluster of its own, as in ``fleet``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .core.fleet import FIRST, Job, Schedule, Window
from .core.fleet_report import Told, ended, warnings
from .core.progress import Progress
from .core.reconcile import Params, Resource, reconcile
from .core.snapshots import check_snapshot_options
from .core.steps import Failure
from .fleet_threads import MOST, OLDEST_S, ROUNDS, Shift, attempt
from .reads import require_vm


def work(resource: Resource, api: Any, params: Params, check: bool) -> dict[str, Any]:
    """Bring the snapshot of each guest to its wanted state, or in check mode say how. ``resource`` is one snapshot.

    Raises Failure before anything is read for options that contradict each other, before anything is written for a
    guest that is given twice; Partly when some failed.
    """
    check_snapshot_options(params)
    with api.crew() as crew:
        run = _Run(resource, crew, params, api.progress)
        run.foresee()
        if not check:
            run.act()
        told = list(run.told.values())
        api.warnings += warnings(told)
    return ended(told, interrupted=crew.bell.rung())


@dataclass
class _Run:
    """One run: which guests, what was foreseen of each, what became of it."""

    resource: Resource
    crew: Any
    params: Params
    progress: Progress
    told: dict[str, Told] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.threads = max(1, min(int(self.params.get("max_parallel") or MOST), MOST))

    def foresee(self) -> None:
        """Find, read and plan each. Nothing is written. Raises Failure when two entries mean one guest."""
        with ThreadPoolExecutor(self.threads) as pool:
            for told in pool.map(self._foreseen, dict.fromkeys(str(g) for g in self.params["guests"])):
                first = next((t for t in self.told.values() if told.vmid and t.vmid == told.vmid), None)
                if first is not None:
                    raise Failure(f"guests: '{first.name}' and '{told.name}' are one guest. Give it once.")
                self.told[told.name] = told

    def _foreseen(self, called: str) -> Told:
        view = self.crew.looking()
        told = Told(called, warnings=view.warnings)
        asked = self._asked(called)
        # Where there is none, the engine says what that means, in check mode and where nothing is to be.
        with suppress(Failure):
            told.vmid = require_vm(view, asked["vmid"], asked["name"]).vmid
        try:
            told.outcome = told.planned = reconcile(self.resource, view, asked, check=True)
        except Failure as failure:
            told.failure = failure
        return told

    def _asked(self, called: str) -> Mapping[str, Any]:
        vmid = int(called) if called.isdecimal() else None
        own = {key: self.params.get(key) for key in self.resource.options}
        return {**own, "vmid": vmid, "name": None if vmid else called, "node": None}

    def act(self) -> None:
        """Work on all that differ; and again on those that the network or a lock has ended."""
        todo = [t for t in self.told.values() if t.outcome and t.outcome.changed]
        for _round in range(ROUNDS):
            if not todo or self.crew.bell.rung():
                return
            jobs = [Job(told.name) for told in todo]
            schedule = Schedule(jobs, Window(min(FIRST, float(self.threads)), self.threads))
            Shift(self.crew, schedule, self.threads, self._one, lambda: "", partial(self._tell, len(jobs))).work()
            for name in schedule.left:
                self.told[name].outcome = None
                self.told[name].failure = Failure(schedule.halted, doing=f"begin with guest {name}")
            todo = [t for t in todo if t.failure and t.failure.again]

    def _tell(self, jobs: int, over: int, running: int) -> None:
        total, failed = len(self.told), sum(1 for t in self.told.values() if t.failure)
        self.progress.tell(done=total - jobs + over, running=running, failed=failed, total=total)

    def _one(self, name: str, gate: Any) -> bool:
        """Work on the snapshot of one guest, in a thread of its own."""
        view = self.crew.working(name, gate, OLDEST_S)
        return attempt(self.told[name], view.warnings, partial(reconcile, self.resource, view, self._asked(name)))
