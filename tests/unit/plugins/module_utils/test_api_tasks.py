# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for tasks: their ends, their logs, and what goes on when nobody waits any longer."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import (
    Forbidden,
    Interrupted,
    Locked,
    TaskFailed,
    TimedOut,
    Unreachable,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_tasks import Pace, upid
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import NoAnswer, Refused, Reply, Request
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress import Progress
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.tests.unit.plugins.module_utils.api_fakes import Clock, FakeWire, api_over

# The node that carries a task out need not be the one that was asked.
TASK = "UPID:pve2:00000193:0007D486:6B014F83:qmcreate:101:root@pam!ci:"
PATH = "/nodes/pve2/tasks/UPID%3Apve2%3A00000193%3A0007D486%3A6B014F83%3Aqmcreate%3A101%3Aroot%40pam%21ci%3A"
CREATE = Call("POST", "/nodes/pve1/qemu", {"vmid": 101})
RUNNING = Reply({"status": "running"})
LOCK = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout"


def ended(exit_status: str) -> Reply:
    return Reply({"status": "stopped", "exitstatus": exit_status})


def log(*lines: str, total: int | None = None) -> Reply:
    return Reply([{"n": i, "t": t} for i, t in enumerate(lines, 1)], total=len(lines) if total is None else total)


def wire(*status: Any, log_: Any = None) -> FakeWire:
    return FakeWire({"POST /nodes/pve1/qemu": Reply(TASK), f"GET {PATH}/status": list(status), f"GET {PATH}/log": log_})


def test_upid() -> None:
    task = upid(TASK)
    assert task is not None
    assert (task.node, task.kind, task.id, task.user, task.start) == (
        "pve2",
        "qmcreate",
        "101",
        "root@pam!ci",
        0x6B014F83,
    )
    assert task.path == PATH and str(task) == "qmcreate 101 on pve2"


@pytest.mark.parametrize("data", [None, 1, {}, "", "null", "UPID:pve1:termproxy:100:", TASK + "x", "UPID:"])
def test_what_is_not_a_upid(data: Any) -> None:
    assert upid(data) is None


def test_task_of_a_node_has_no_id() -> None:
    task = upid("UPID:pve1:000000CE:0007C8F9:6B014F65:startall::root@pam:")
    assert task is not None and task.id == "" and str(task) == "startall on pve1"


def test_pauses_grow_up_to_two_seconds() -> None:
    clock = Clock()
    line = wire(*[RUNNING] * 12, ended("OK"))
    assert api_over(line, clock).do(CREATE) == TASK
    assert clock.pauses[0] == 0.1 and clock.pauses[-1] == 2.0 and clock.pauses == sorted(clock.pauses)
    assert len(line.lines("POST")) == 1


def test_the_next_task_of_a_kind_is_not_asked_for_before_it_can_be_over() -> None:
    clock = Clock()
    line = wire(RUNNING, RUNNING, ended("OK"), ended("OK"), RUNNING, ended("OK"))
    api = api_over(line, clock)
    for _each in range(3):
        api.do(CREATE)
    # 0.25 s was the first; the second was over when it was asked for, so the third is asked for sooner.
    assert clock.pauses == pytest.approx([0.1, 0.15, 0.175, 0.14875, 0.1])


def test_no_task_is_waited_for_long_before_it_is_asked_for() -> None:
    pace = Pace()
    pace.note("qmclone", 600.0)
    assert (pace.lead_s("qmclone"), pace.lead_s("qmstart")) == (1.0, 0.0)


def test_answer_without_a_task_comes_back_as_it_is() -> None:
    api = api_over(FakeWire({"PUT /pools/a": Reply(None), "POST /storage": Reply({"storage": "a"})}))
    assert api.do(Call("PUT", "/pools/a")) is None
    assert api.do(Call("POST", "/storage")) == {"storage": "a"}


def test_warnings_are_a_success_that_is_told() -> None:
    warned = log("restoring", "WARN: no space for a log", "TASK WARNINGS: 1")
    api = api_over(wire(ended("WARNINGS: 1"), log_=warned))
    assert api.do(CREATE) == TASK
    assert api.warnings == ["task qmcreate 101 on pve2: no space for a log"]


def test_failure_has_the_end_of_the_log() -> None:
    failed = log(*[f"line {n}" for n in range(60)], "TASK ERROR: storage 'fast' is full")
    with pytest.raises(TaskFailed, match="qmcreate 101 on pve2 failed: storage 'fast' is full") as caught:
        api_over(wire(ended("storage 'fast' is full"), log_=failed)).do(CREATE)
    assert caught.value.request == "POST /nodes/pve1/qemu"
    assert list(caught.value.task_log or [])[-2:] == ["line 59", "TASK ERROR: storage 'fast' is full"]
    assert len(caught.value.task_log or []) == 20


def test_long_log_is_read_from_its_end() -> None:
    head, end = log(*["x"] * 500, total=7000), log("last", total=7000)
    line = wire(ended("no"), log_=[head, end])
    with pytest.raises(TaskFailed) as caught:
        api_over(line).do(CREATE)
    assert caught.value.task_log == ["last"]
    assert [r.params for r in line.sent[-2:]] == [{"start": 0, "limit": 500}, {"start": 6980, "limit": 20}]


def test_log_of_unknown_length_is_read_page_by_page() -> None:
    pages = [Reply([{"n": i, "t": f"line {i}"} for i in range(500)]), Reply([{"n": 500, "t": "last"}])]
    line = wire(ended("OK"), log_=pages)
    assert api_over(line).log(TASK, lines=2) == ["line 499", "last"]


def test_log_that_cannot_be_read_hides_nothing() -> None:
    line = wire(ended("broken"), log_=Refused(403, "Permission check failed (/nodes/pve2, Sys.Audit)"))
    with pytest.raises(TaskFailed, match="failed: broken") as caught:
        api_over(line).do(CREATE)
    assert "Sys.Audit" in (caught.value.task_log or [""])[0]


def test_killed_task() -> None:
    with pytest.raises(TaskFailed, match="was killed or its node restarted"):
        api_over(wire(ended("unexpected status"), log_=log("starting"))).do(CREATE)


class Watcher(Progress):
    """Somebody who watches."""

    listens = True

    def __init__(self) -> None:
        self.texts: list[str | None] = []

    def tell(self, *, text: str | None = None, **_numbers: int | None) -> None:
        self.texts.append(text)


def test_who_watches_sees_the_newest_line_of_the_log_and_who_does_not_costs_no_request() -> None:
    more = [log("10 %", " ", total=3), log(" ", *["x"] * 499, total=9000), log("end", total=9001)]
    line = wire(*[RUNNING] * 12, ended("OK"), log_=[log("start", "10 %"), Refused(500, "not now"), *more])
    api = api_over(line, retries=0)
    api.progress = watcher = Watcher()
    assert api.do(CREATE) == TASK
    starts = [r.params["start"] for r in line.sent if r.path.endswith("/log")]
    assert (starts, watcher.texts) == (
        [0, 1, 1, 2, 8999], [f"qmcreate 101: {t}" for t in ("10 %", "10 %", "x", "end")]
    )  # fmt: skip
    assert api_over(wire(*[RUNNING] * 11, ended("OK"))).do(CREATE) == TASK


def test_time_limit_leaves_the_task_running_and_says_so() -> None:
    clock = Clock()
    with pytest.raises(TimedOut, match=r"still running after 30 seconds\. It goes on") as caught:
        api_over(wire(RUNNING), clock, task_timeout_s=30.0).do(CREATE)
    assert TASK in caught.value.msg and clock.now == 30.0


def test_step_has_a_limit_of_its_own() -> None:
    clock = Clock()
    with pytest.raises(TimedOut, match="after 5 seconds"):
        api_over(wire(RUNNING), clock).do(Call("POST", "/nodes/pve1/qemu", timeout_s=5))
    assert clock.now == 5.0


def test_node_may_not_know_the_task_at_once() -> None:
    young = Refused(400, "Parameter verification failed.", {"upid": "no such task"})
    assert api_over(wire(young, young, ended("OK"))).do(CREATE) == TASK


def test_task_that_nobody_knows_is_an_error_in_time() -> None:
    clock = Clock()
    with pytest.raises(Failure, match="no such task"):
        api_over(wire(Refused(400, "Parameter verification failed.", {"upid": "no such task"})), clock).do(CREATE)
    assert 5 < clock.now < 10


def test_node_may_be_away_for_a_minute() -> None:
    away = NoAnswer("pveproxy restarts", sent=False)
    assert api_over(wire(RUNNING, *[away] * 12, ended("OK"))).do(CREATE) == TASK


def test_node_that_stays_away() -> None:
    clock = Clock()
    with pytest.raises(Unreachable):
        api_over(wire(RUNNING, NoAnswer("gone", sent=False)), clock).do(CREATE)
    assert 60 < clock.now < 90


def test_missing_right_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(Forbidden):
        api_over(wire(Refused(403, "Permission check failed (/nodes/pve2, Sys.Audit)")), clock).do(CREATE)
    assert clock.pauses == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_the_task_running_and_says_so(number: signal.Signals) -> None:
    clock = Clock()
    clock.ticks.append(lambda _now: os.kill(os.getpid(), number))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="The task goes on: UPID:pve2") as caught:
        api_over(wire(RUNNING), clock).do(CREATE)
    assert caught.value.request == "POST /nodes/pve1/qemu"
    assert signal.getsignal(signal.SIGTERM) is before


def test_termination_while_the_answer_is_on_its_way_names_the_task() -> None:
    class Late(FakeWire):
        def send(self, request: Request) -> Reply:
            if request.method == "POST":
                os.kill(os.getpid(), signal.SIGTERM)
            return super().send(request)

    with pytest.raises(Interrupted, match="The task goes on: UPID:pve2"):
        api_over(Late(wire(RUNNING).answers)).do(CREATE)


def test_termination_that_got_lost_in_a_finalizer_still_ends_the_wait() -> None:
    clock = Clock()

    def lose(_now: float) -> None:
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)

    clock.ticks.append(lose)
    with pytest.raises(Interrupted, match="The task goes on"):
        api_over(wire(RUNNING), clock).do(CREATE)
    assert len(clock.pauses) == 1


def test_termination_without_a_task_takes_its_course() -> None:
    class Terminated(Exception):
        pass

    def end(_number: int, _frame: object) -> None:
        raise Terminated

    class Late(FakeWire):
        def send(self, request: Request) -> Reply:
            os.kill(os.getpid(), signal.SIGTERM)
            return Reply(None)

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Terminated):
            api_over(Late({})).do(Call("PUT", "/pools/a", {"comment": "b"}))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_task_that_only_waited_for_a_lock_is_begun_again() -> None:
    line = wire(ended(LOCK), ended("OK"), log_=log("trying to acquire lock...", f"TASK ERROR: {LOCK}"))
    assert api_over(line).do(CREATE) == TASK
    assert len(line.lines("POST")) == 2


def test_task_that_failed_on_a_lock_in_its_middle_is_not() -> None:
    line = wire(ended(LOCK), log_=log("transferred 2 GiB", "trying to acquire lock...", f"TASK ERROR: {LOCK}"))
    with pytest.raises(TaskFailed):
        api_over(line).do(CREATE)
    assert len(line.lines("POST")) == 1


def test_lock_is_not_tried_for_ever() -> None:
    line = wire(ended(LOCK), log_=log(f"TASK ERROR: {LOCK}"))
    with pytest.raises(Locked, match="held the lock all the time"):
        api_over(line, retries=2).do(CREATE)
    assert len(line.lines("POST")) == 3


def test_wait_by_name() -> None:
    api = api_over(wire(ended("OK")))
    api.wait(TASK)
    with pytest.raises(Failure, match="is not a task"):
        api.wait("UPID:x")
    with pytest.raises(Failure, match="is not a task"):
        api.log("nonsense")
