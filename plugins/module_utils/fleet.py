# SPDX-License-Identifier: GPL-3.0-or-later
"""Many guests in one run: each is foreseen, which reads and checks all of it; then what differs is worked on at once.

Each guest goes through the engine of all modules, with a view of the cluster of its own. ``core.fleet`` says what may
go on when; here are the threads that do it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from . import fleet_plan
from .core.fleet import FIRST, UP, Schedule, Window
from .core.fleet_entries import Entry, entries
from .core.fleet_ids import Ids
from .core.fleet_report import Told, ended, warnings
from .core.progress import Progress
from .core.reconcile import Outcome, Params, Resource, reconcile
from .core.steps import Failure
from .fleet_survey import choose_vmid, free_memory, survey, unlisted
from .fleet_threads import MOST, OLDEST_S, ROUNDS, Shift, attempt
from .fleet_twins import settle
from .guest_read import look


def work(resource: Resource, api: Any, params: Params, check: bool) -> dict[str, Any]:
    """Bring all guests of a task to their wanted states, or in check mode say how. ``resource`` is one guest.

    Raises Failure before anything is done for lists that contradict themselves; Partly when some guests failed.
    """
    made = entries(params, resource.options)
    with api.crew() as crew:
        rows = survey(crew, crew.looking())
        made += unlisted(params.get("unlisted"), rows, made, resource.options)
        fleet = _Fleet(resource, crew, params, made, rows, api.progress)
        fleet.foresee()
        if not check and not (fleet.failed and params["on_failure"] != "continue"):
            fleet.act()
            if fleet.failed and params["on_failure"] == "rollback":
                fleet.roll_back()
        told = list(fleet.told.values())
        api.warnings += [*fleet.notes, *warnings(told)]
    return ended(told, interrupted=crew.bell.rung())


@dataclass
class _Fleet:
    """One run: what is wanted, what was foreseen, what became of it."""

    resource: Resource
    crew: Any
    params: Params
    made: Sequence[Entry]
    rows: Sequence[Mapping[str, Any]]
    progress: Progress
    told: dict[str, Told] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_name = {e.called: e for e in self.made}
        self.threads = min(int(self.params.get("max_parallel") or MOST), MOST)
        self.ids = Ids(int(e.params["vmid"]) for e in self.made if e.params.get("vmid"))

    @property
    def failed(self) -> list[str]:
        """The guests that failed so far."""
        return [name for name, told in self.told.items() if told.failure]

    def foresee(self) -> None:
        """Read and plan each guest. Nothing is written. What cannot be done is known after that."""
        self._give_ids()
        with ThreadPoolExecutor(self.threads) as pool:
            known = self._read_ahead(pool)
            begun = {e.called: pool.submit(self._foreseen, e) for e in self.made if e.absent or e.called not in known}
            for entry in self.made:
                told = begun[entry.called].result() if entry.called in begun else self._foreseen(entry)
                self.told[told.name] = told
        for name, failure in fleet_plan.hopeless(self.made, self.told).items():
            self.told[name].failure = failure
            self.told[name].outcome = None

    def _read_ahead(self, pool: ThreadPoolExecutor) -> set[str]:
        """Have what most guests are planned from read by threads that do nothing else; the guests that were read.

        Python runs one thread at a time, so one that plans keeps those waiting that only ask.
        """
        ids = {int(row["vmid"]): row for row in self.rows}
        names = {str(row.get("name")): row for row in self.rows}
        # An id goes before a name: a name that another guest has is no guest of this entry.
        meant = [(e.called, e.params.get("vmid"), str(e.params.get("name"))) for e in self.made]
        found = [(called, ids.get(vmid) if vmid else names.get(name)) for called, vmid, name in meant]
        paths = [(name, f"/nodes/{quote(row['node'], safe='')}/qemu/{row['vmid']}") for name, row in found if row]

        def read(share: Sequence[tuple[str, str]]) -> list[str]:
            view, done = self.crew.looking(), list[str]()
            with suppress(Failure):
                for name, path in share:
                    look(view, path)
                    done.append(name)
            return done

        readers = min(self.threads, int(FIRST))
        shares = [paths[i::readers] for i in range(readers)]
        return {name for done in pool.map(read, shares) for name in done}

    def _give_ids(self) -> None:
        """In the order of the list, not in the order in which threads come to ask."""
        names = {str(row.get("name")) for row in self.rows}
        view = self.crew.looking()
        for entry in self.made:
            if entry.absent or entry.params.get("vmid") or str(entry.params.get("name")) in names:
                continue
            try:
                self._chooser(entry, view)(*self._range(entry))
            except Failure:
                # The guest itself says so when its turn comes.
                continue

    @staticmethod
    def _range(entry: Entry) -> Sequence[int | None]:
        span = entry.params.get("vmid_range") or [None, None]
        return span if len(span) == 2 else [None, None]

    def _with_ids(self, entry: Entry, view: Any) -> dict[str, Any]:
        return {
            **entry.params,
            "_choose_vmid": self._chooser(entry, view),
            "_claim_vmid": partial(self._claimed, entry.called),
        }

    def _claimed(self, name: str, vmid: int) -> bool:
        with self.crew.lock:
            return self.ids.claim(name, vmid)

    def _chooser(self, entry: Entry, view: Any) -> Callable[..., int]:
        return partial(choose_vmid, view, entry.called, ids=self.ids, lock=self.crew.lock)

    def _foreseen(self, entry: Entry) -> Told:
        view = self.crew.looking()
        told = Told(entry.called, entry.params.get("vmid"), warnings=view.warnings)
        try:
            told.outcome = told.planned = reconcile(self.resource, view, self._with_ids(entry, view), check=True)
            told.vmid = fleet_plan.vmid_of(told.outcome) or told.vmid or self.ids.of(entry.called)
        except Failure as failure:
            told.failure = failure
        return told

    def act(self) -> None:
        """Work on all that differ; and again on those that the network or a lock has ended."""
        todo = [e for e in self.made if (o := self.told[e.called].outcome) and o.changed]
        for _round in range(ROUNDS):
            if not todo or self.crew.bell.rung():
                return
            self._act(todo)
            ended = [e for e in todo if (f := self.told[e.called].failure) and f.again]
            behind = fleet_plan.behind({e.called for e in ended}, todo)
            todo = [e for e in todo if e in ended or (e.called in behind and self.told[e.called].failure)]

    def _act(self, todo: Sequence[Entry]) -> None:
        jobs = fleet_plan.schedule(todo, self.told)
        starting = {job.node for job in jobs if job.end == UP and job.node}
        schedule = Schedule(
            jobs,
            Window(min(FIRST, float(self.threads)), self.threads),
            free_memory(self.crew.looking(), starting),
            int(self.params.get("batch") or 0),
        )
        Shift(self.crew, schedule, self.threads, self._one, self._halted, partial(self._tell, len(jobs))).work()
        self.notes += schedule.notes
        for name in schedule.left:
            self.told[name].outcome = None
            self.told[name].failure = Failure(schedule.halted, doing=f"begin with guest {name}")

    def _tell(self, jobs: int, over: int, running: int) -> None:
        total = len(self.made)
        self.progress.tell(done=total - jobs + over, running=running, failed=len(self.failed), total=total)

    def _halted(self) -> str:
        if self.params["on_failure"] == "continue" or not self.failed:
            return ""
        return f"{self.failed[0]} failed, and on_failure is {self.params['on_failure']}."

    def _one(self, name: str, gate: Any) -> bool:
        """Work on one guest, in a thread of its own."""
        entry, told = self.by_name[name], self.told[name]
        # What this run has made itself is to be seen by what is cloned from it.
        view = self.crew.working(name, gate, 0.0 if entry.source else OLDEST_S)
        well = attempt(told, view.warnings, partial(self._worked, entry, view, told, gate))
        told.vmid = fleet_plan.vmid_of(told.outcome) or told.vmid
        return well

    def _worked(self, entry: Entry, view: Any, told: Told, gate: Any) -> Outcome:
        blocked = gate.schedule.blocked(entry.called)
        if blocked:
            raise Failure(blocked, doing=f"create guest {entry.called}")
        params = self._with_ids(entry, view)
        try:
            return reconcile(self.resource, view, params)
        except Failure as failure:
            own = fleet_plan.made_id(failure.done)
            if own is None or not fleet_plan.is_twin(failure):
                raise
            told.done = [*failure.done]
            settle(self.crew, self.resource, view, entry, own)
            return reconcile(self.resource, view, params)

    def roll_back(self) -> None:
        """Remove what this very run has made, the last one first, and nothing else."""
        for name, told in reversed(self.told.items()):
            steps = told.outcome.steps if told.outcome else told.done
            own = fleet_plan.made_id(steps)
            if own is None or self.crew.bell.rung():
                continue
            entry = self.by_name[name]
            params = fleet_plan.removal(entry.params, own)
            view = self.crew.working(name, None, 0.0)
            try:
                reconcile(self.resource, view, params)
                told.undone = True
            except Failure as failure:
                told.failure = failure
