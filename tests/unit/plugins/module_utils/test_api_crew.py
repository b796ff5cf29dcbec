# SPDX-License-Identifier: GPL-3.0-or-later
"""Views of one cluster that share what they read: how old it may be, who waits for whom, one login for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_crew import Crew
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Held, Interrupted, Locked
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_login import Post, SharedLogin
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.fleet import Job, Schedule, Window
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure


class Node:
    """Counts what it is asked for; ``fails`` are raised by the next writes or reads, one each."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.fails: list[Failure] = []
        self.now = 0.0

    def crew(self) -> Crew:
        return Crew(lambda _bell, read_only: Part(self), lambda: None, self.clock)

    def clock(self) -> float:
        self.now += 1
        return self.now


class Part:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.warnings: list[str] = []
        self.busy: Callable[[], None] = lambda: None

    def get(self, path: str, /, **params: Any) -> Any:
        self.node.asked.append(path)
        if self.node.fails:
            raise self.node.fails.pop()
        return self.node.answers[path]

    def do(self, step: Call) -> Any:
        self.node.asked.append(f"{step.method} {step.path}")
        if self.node.fails:
            raise self.node.fails.pop()
        return None

    def wait(self, task: str, timeout_s: float | None = None) -> None:
        self.node.asked.append(task)


CONFIG = "/nodes/pve1/qemu/100/pending"
START = Call("POST", "/nodes/pve1/qemu/100/status/start")


def test_nobody_asks_for_what_another_view_has_read_until_it_has_written_itself() -> None:
    node = Node({CONFIG: [], "/nodes": []})
    crew = node.crew()
    gate = crew.gate(Schedule([Job("a"), Job("b")], Window(4, 4)))
    crew.looking().get(CONFIG)
    first, second = (crew.working(name, gate, 100.0) for name in "ab")
    first.get(CONFIG)
    first.get("/nodes")
    assert node.asked == [CONFIG, "/nodes"]
    first.do(START)
    first.get(CONFIG)
    first.get("/nodes")
    second.get(CONFIG)
    assert node.asked == [CONFIG, "/nodes", f"POST {START.path}", CONFIG], "which nodes there are does not change"


def test_what_is_too_old_is_read_again() -> None:
    node = Node({CONFIG: []})
    crew = node.crew()
    crew.looking().get(CONFIG)
    node.now += 50
    gate = crew.gate(Schedule([Job("a")], Window(4, 4)))
    crew.working("a", gate, 60.0).get(CONFIG)
    assert len(node.asked) == 1
    crew.working("a", gate, 10.0).get(CONFIG)
    assert len(node.asked) == 2


def test_an_answer_that_failed_is_asked_for_again() -> None:
    node = Node({CONFIG: [1]})
    node.fails = [Failure("no.")]
    view = node.crew().looking()
    with pytest.raises(Failure, match="no"):
        view.get(CONFIG)
    assert view.get(CONFIG) == [1]


def test_a_list_tells_how_guests_run() -> None:
    rows = [{"vmid": 100, "status": "stopped"}, {"vmid": 101, "status": "running", "qmpstatus": "paused"}]
    node = Node({"/nodes/pve1/qemu": rows, "/nodes/pve1/qemu/101/status/current": {"status": "running"}})
    view = node.crew().looking()
    view.get("/nodes/pve1/qemu")
    assert view.get("/nodes/pve1/qemu/100/status/current") == rows[0]
    view.get("/nodes/pve1/qemu/101/status/current")
    assert node.asked == ["/nodes/pve1/qemu", "/nodes/pve1/qemu/101/status/current"], "it may be paused"
    full = Node(node.answers).crew().looking()
    full.get("/nodes/pve1/qemu", full=1)
    assert full.get("/nodes/pve1/qemu/101/status/current") == rows[1]


def test_who_wants_the_same_waits_for_one_answer() -> None:
    here, go = threading.Event(), threading.Event()

    class Slow(Part):
        def get(self, path: str, /, **params: Any) -> Any:
            here.set()
            assert go.wait(30)
            return super().get(path, **params)

    node = Node({CONFIG: [7]})
    crew = Crew(lambda _bell, read_only: Slow(node), lambda: None, node.clock)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(crew.looking().get(CONFIG))) for _each in range(5)]
    for thread in threads:
        thread.start()
    assert here.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert (answers, node.asked) == ([[7]] * 5, [CONFIG])


def test_a_step_without_a_lock_is_sent_again_and_less_goes_on() -> None:
    node = Node({})
    node.fails = [Locked("can't lock file 'x' - got timeout.") for _each in range(2)]
    crew = node.crew()
    schedule = Schedule([Job("a")], Window(8, 8))
    crew.working("a", crew.gate(schedule), 0.0).do(START)
    assert len(node.asked) == 3
    assert schedule.window.size == 2
    for last in (Locked("VM is locked (backup)."), Held("VM 100 is locked (backup), and was not released.")):
        node.asked.clear()
        node.fails = [last, last]
        with pytest.raises(Locked):
            crew.working("a", crew.gate(schedule), 0.0).do(START)
        assert len(node.asked) == 1, "what has been waited for is not tried again"


def test_ids_that_others_had_are_remembered() -> None:
    node = Node({})
    node.fails = [Failure("unable to create VM 200 - VM 200 already exists on node 'pve1'.")]
    crew = node.crew()
    view = crew.working("a", crew.gate(Schedule([Job("a")], Window(8, 8))), 0.0)
    with pytest.raises(Failure, match="already exists"):
        view.do(Call("POST", "/nodes/pve1/qemu", {"vmid": 200}))
    assert view.refused == {200}


def test_nothing_is_begun_once_the_bell_has_rung() -> None:
    node = Node({})
    crew = node.crew()
    crew.bell.ring()
    with pytest.raises(Interrupted, match="before this was begun"):
        crew.working("a", crew.gate(Schedule([Job("a")], Window(8, 8))), 0.0).do(START)
    assert node.asked == []


def test_one_thread_renews_a_ticket_for_all() -> None:
    class Login:
        renewed = 0

        def headers(self, method: str) -> dict[str, str]:
            return {"ticket": str(self.renewed)}

        def ready(self, post: Post) -> None:
            return None

        def renew(self, post: Post) -> bool:
            self.renewed += 1
            return True

    inner = Login()
    shared = SharedLogin(inner)
    together = threading.Barrier(4)

    def refused() -> None:
        shared.headers("GET")
        together.wait(30)
        assert shared.renew(lambda request: {})

    threads = [threading.Thread(target=refused) for _each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert inner.renewed == 1
