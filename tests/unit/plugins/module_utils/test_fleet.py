# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedule of a fleet: nobody waits for ever, order and limits hold, whatever depends on what."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.fleet import (
    DOWN,
    UP,
    Job,
    Need,
    Schedule,
    Window,
    need,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.fleet_entries import (
    LAST,
    arranged,
    begin_order,
    entries,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.fleet_ids import Ids
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure

OPTIONS = {"state": {"default": "present"}, "name": {}, "vmid": {}, "clone": {}, "startup": {}, "nics": {}, "cpu": {}}


class Run:
    """Work on a fleet without threads: each job that has begun wants one step, and takes it when it may.

    ``most`` is how many ever took one at once.
    """

    def __init__(self, schedule: Schedule, fails: frozenset[str] = frozenset()) -> None:
        self.schedule = schedule
        self.fails = fails
        self.order: list[str] = []
        self.failed: dict[str, str] = {}
        self.most = 0

    def whole(self) -> None:
        waiting: list[str] = []
        while not self.schedule.idle:
            waiting += self.schedule.begin()
            passed = [name for name in waiting if self._enters(name)]
            assert passed, f"all wait for ever: {waiting}"
            self.most = max(self.most, len(passed))
            waiting = [name for name in waiting if name not in passed]
            for name in passed:
                self._ends(name)

    def _enters(self, name: str) -> bool:
        try:
            return self.schedule.enter(name, self._need(name))
        except Failure as failure:
            self.failed[name] = failure.msg
            return True

    def _ends(self, name: str) -> None:
        if name not in self.failed:
            self.schedule.leave(name, self._need(name))
            self.order.append(name)
        self.schedule.end(name, name not in self.failed and name not in self.fails)

    def _need(self, name: str) -> Need:
        job = next(j for j in self.schedule.jobs if j.name == name)
        return Need(job.end, frozenset({"storage local on pve1"}))


@st.composite
def fleets(draw: st.DrawFn) -> list[Job]:
    """Jobs in the order in which they begin; what one needs is among those before it in the list of entries."""
    names = [f"g{i}" for i in range(draw(st.integers(1, 12)))]
    guests, ends = [], {}
    for i, name in enumerate(names):
        entry = {"name": name, "depends_on": draw(st.lists(st.sampled_from(names[:i]), max_size=2)) if i else []}
        if draw(st.booleans()):
            entry["startup"] = {"order": draw(st.integers(1, 3))}
        if i and draw(st.integers(0, 3)) == 0:
            entry["clone"] = {"source": draw(st.sampled_from(names[:i]))}
        guests.append(entry)
        ends[name] = draw(st.sampled_from([UP, UP, DOWN, ""]))
    made = entries({"guests": draw(st.permutations(guests))}, OPTIONS)
    # What goes down is no source of anything in the same run, and is not cloned itself.
    made = [replace(e, source=None) if e.source and DOWN in (ends[e.source], ends[e.called]) else e for e in made]
    ups, downs = ({n for n, end in ends.items() if end == way} for way in (UP, DOWN))
    order = begin_order(arranged(made, ups, downs), downs)
    after = {e.called: frozenset({e.source} if e.source else ()) for e in made}
    return [Job(e.called, ends[e.called], e.depends, after[e.called], e.order, "pve1", 100) for e in order]


@given(fleets(), st.integers(1, 4), st.integers(0, 4), st.integers(0, 500))
def test_all_come_to_their_end_in_order(jobs: list[Job], parallel: int, batch: int, memory: int) -> None:
    run = Run(Schedule(jobs, Window(parallel, parallel), {"pve1": memory}, batch))
    run.whole()
    # What depends on a guest that goes down or stays down is refused before; here it only must not hang.
    assert len(run.order) + len(run.failed) == len(jobs)
    at = {name: i for i, name in enumerate(run.order)}
    for job in jobs:
        assert job.name in at
        for other in (j for j in jobs if j.name in job.depends and j.end == job.end):
            later, earlier = (job, other) if job.end != DOWN else (other, job)
            assert job.end == "" or at[earlier.name] < at[later.name]
    ups = [next(j for j in jobs if j.name == n).order for n in run.order if n in at]
    ups = [o for o, n in zip(ups, run.order, strict=True) if next(j for j in jobs if j.name == n).end == UP]
    assert all(a <= b for a, b in pairwise(ups))


def test_what_depends_on_a_failed_guest_is_not_started() -> None:
    jobs = [Job("db", UP), Job("app", UP, frozenset({"db"})), Job("other", UP)]
    run = Run(Schedule(jobs, Window(4, 4)), frozenset({"db"}))
    run.whole()
    assert run.failed == {"app": "it depends on db, which failed. Mend that, then run again."}
    assert sorted(run.order) == ["db", "other"]


def test_what_others_depend_on_stays_up_while_one_of_them_does() -> None:
    jobs = [Job("app", DOWN, frozenset({"db"})), Job("db", DOWN)]
    run = Run(Schedule(jobs, Window(1, 1)), frozenset({"app"}))
    run.whole()
    assert run.failed == {"db": "app depends on it and has not gone down. Mend that, then run again."}


def test_a_clone_of_what_failed_says_so() -> None:
    schedule = Schedule([Job("seed"), Job("copy", after=frozenset({"seed"}))], Window(4, 4))
    assert schedule.begin() == ["seed"]
    schedule.end("seed", ok=False)
    assert schedule.begin() == ["copy"]
    assert schedule.blocked("copy") == "it is cloned from seed, which failed. Mend that, then run again."


@pytest.mark.parametrize(("memory", "most", "told"), [(1000, 3, False), (250, 2, True), (0, 1, True)])
def test_no_more_start_at_once_than_fit(memory: int, most: int, told: bool) -> None:
    jobs = [Job(f"g{i}", UP, node="pve1", memory=100) for i in range(3)]
    run = Run(Schedule(jobs, Window(8, 8), {"pve1": memory}))
    run.whole()
    assert (len(run.order), run.most) == (3, most)
    assert bool(run.schedule.notes) is told


def test_a_batch_is_done_before_the_next_one_begins() -> None:
    schedule = Schedule([Job(f"g{i}") for i in range(5)], Window(8, 8), batch=2)
    assert schedule.begin() == ["g0", "g1"]
    schedule.end("g0", ok=True)
    assert schedule.begin() == []
    schedule.end("g1", ok=True)
    assert schedule.begin() == ["g2", "g3"]


def test_the_window_halves_when_the_node_is_busy_and_opens_again() -> None:
    window = Window(8, 16)
    window.busy()
    assert window.size == 4
    for _each in range(4):
        window.well()
    assert 4.8 < window.size < 5.1
    for _each in range(300):
        window.well()
    assert window.size == 16
    for _each in range(10):
        window.busy()
    assert window.size == 1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Call("POST", "/nodes/pve1/qemu", {"scsi0": "fast:8,ssd=1", "ide2": "local:iso/a"}), "storage fast on pve1"),
        (Call("POST", "/nodes/pve1/qemu", {"scsi0": "fast:0,import-from=local:import/a"}), "storage fast on pve1"),
        (Call("PUT", "/nodes/pve1/qemu/7/config", {"scsi0": "fast:vm-7-disk-0,ssd=1"}), ""),
        (Call("POST", "/nodes/pve1/qemu/9/clone", {"newid": 7}), "clones of 9"),
        (Call("POST", "/nodes/pve1/qemu/9/status/start"), UP),
        (Call("POST", "/nodes/pve1/qemu/9/status/shutdown"), DOWN),
        (Call("DELETE", "/nodes/pve1/qemu/9"), "down, removals on pve1"),
        (Call("PUT", "/pools", {"poolid": "lab"}), ""),
    ],
)  # fmt: skip
def test_what_a_step_takes(step: Call, expected: str) -> None:
    wants = need(step)
    assert ", ".join(filter(None, [wants.way, *sorted(wants.keys)])) == expected


def test_an_order_is_not_before_that_of_what_it_depends_on() -> None:
    guests = [
        {"name": "app", "depends_on": ["db"], "startup": {"order": 1}},
        {"name": "db", "depends_on": ["disk"], "startup": {"order": 2}},
        {"name": "disk", "startup": {"order": 3}},
        {"name": "free"},
    ]
    made = arranged(entries({"guests": guests}, OPTIONS), {"app", "db", "disk", "free"}, ())
    assert {e.called: e.order for e in made} == {"app": 3, "db": 3, "disk": 3, "free": LAST}
    assert [e.called for e in begin_order(made, frozenset())] == ["disk", "db", "app", "free"]
    assert [e.called for e in begin_order(made, frozenset({"db", "disk"}))] == ["db", "disk", "app", "free"]


def test_ids_are_given_once_and_another_when_lost() -> None:
    ids = Ids([201])
    assert [ids.take("a", 200, 204, set()), ids.take("b", 200, 204, set())] == [200, 202]
    assert ids.take("a", 200, 204, {199}) == 200
    assert ids.take("a", 200, 204, {200}) == 203
    assert ids.of("a") == 203
    assert [ids.claim("a", 300), ids.claim("b", 300), ids.claim("a", 300), ids.claim("b", 201)] == [
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(Failure, match="every id from 200 to 202 is taken"):
        ids.take("c", 200, 202, {200})
