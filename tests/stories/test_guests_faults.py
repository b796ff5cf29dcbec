# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets over a bad network and on a busy node: everything converges or is named, and nothing is made twice."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.guests_parts import BARE, clear, guests, passed, there, whole
from ansible_collections.pvelab.proxmox.tests.lab import Lab, until
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy, Seen

BUSY = "500 can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout"
NETWORK = ("before", "after", "slow", "595 Connection refused", "599 Too many redirections", "after 599 Read timeout")
NODE = {True: (BUSY,), False: ("500 got timeout", BUSY)}
FLEET = 25
SHARE = 0.05


class Faults:
    """Five of a hundred requests go wrong, each in its own way. Which ones is fixed by the seed, not by when they come:
    by method, path and how often it was asked for.
    """

    def __init__(self, seed: int, kinds: tuple[str, ...] = NETWORK) -> None:
        self.seed = seed
        self.kinds = kinds
        self.happened: Counter[str] = Counter()
        self._count: Counter[Seen] = Counter()

    def __call__(self, seen: Seen) -> str:
        if seen.path == "/access/ticket":
            return ""
        path = re.sub(r"UPID:[^/]+?:(qm\w+):(\d+):.*", r"\1-\2", seen.path.replace("%3A", ":"))
        same = Seen(seen.method, path)
        self._count[same] += 1
        dice = random.Random(f"{self.seed} {seen.method} {path} {self._count[same]}")
        if dice.random() >= SHARE:
            return ""
        kind = dice.choice((*self.kinds, *NODE[seen.writes]))
        self.happened[kind] += 1
        return kind


def task(first: int, **more: Any) -> dict[str, Any]:
    some = [{"name": f"f{first}-{i}"} for i in range(FLEET)]
    return {"defaults": {**BARE, "vmid_range": [first, first + 99], **more}, "guests": some}


def names(wanted: dict[str, Any]) -> set[str]:
    return {g["name"] for g in wanted["guests"]}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fleet_is_made_changed_and_removed_under_faults(lab: Lab, seed: int) -> None:
    wanted = task(1000 * seed)
    happened: Counter[str] = Counter()
    for step in ({}, {"cores": 2}, {"state": "absent"}):
        wanted["defaults"] |= step
        faults = Faults(seed)
        with Proxy(lab, faults, outage=0) as proxy:
            result = guests(lab, wanted, port=proxy.port, api_timeout=5)
        happened += faults.happened
        assert {g["name"] for g in result["guests"]} == names(wanted)
        wrong = [g for g in result["guests"] if g.get("error") and not g["error"].startswith("Unable to")]
        assert wrong == [], "what did not converge is named"
        # With a good line the next run finds nothing to do but what was named.
        rest = passed(guests(lab, wanted))
        named = {g["name"] for g in result["guests"] if g.get("error")}
        assert {g["name"] for g in rest["guests"] if g["changed"]} <= named
        whole(lab, set() if step.get("state") else names(wanted))
    assert len(happened) >= 5, happened
    assert there(lab) == {}


def test_the_answer_to_every_fifth_creation_gets_lost(lab: Lab) -> None:
    """None of these guests is made a second time, and the run itself finds out what became of each."""
    wanted = task(5000)
    seen: Counter[str] = Counter()

    def cut(request: Seen) -> str:
        if not (request.writes and request.path == "/nodes/pve1/qemu"):
            return ""
        seen["POST"] += 1
        return "after" if seen["POST"] % 5 == 0 else ""

    with Proxy(lab, cut, outage=0) as proxy:
        result = passed(guests(lab, wanted, port=proxy.port))
    assert result["msg"] == f"{FLEET} guests: {FLEET} created."
    assert seen["POST"] == FLEET
    assert sum("found the task that POST" in w for w in result["warnings"]) == FLEET // 5
    whole(lab, names(wanted))
    clear(lab)


def test_a_clone_that_was_never_begun_is_not_taken_for_another_one(lab: Lab) -> None:
    """Its request got lost while others of the same source were under way, whose tasks bear the same id and user."""
    passed(guests(lab, {"guests": [{"vmid": 100, "name": "seed", **BARE}]}))
    wanted = task(6000, clone={"source": "seed"})
    seen: Counter[str] = Counter()

    def cut(request: Seen) -> str:
        if not (request.writes and request.path.endswith("/clone")):
            return ""
        seen["POST"] += 1
        return "before" if seen["POST"] == 3 else "late"

    with Proxy(lab, cut, outage=0) as proxy:
        result = passed(guests(lab, wanted, port=proxy.port))
    assert seen["POST"] == FLEET + 1, "it was sent once more, and no other was"
    assert not any("found the task" in w for w in result["warnings"]), result["warnings"]
    whole(lab, names(wanted))
    clear(lab)


def test_a_busy_node_is_asked_for_less(lab: Lab) -> None:
    """Every fourth creation gets no lock in time. Each is sent again, and none is made twice."""
    wanted = task(7000)
    lock = threading.Lock()
    refused: Counter[str] = Counter()
    recent: list[bool] = []

    def cut(request: Seen) -> str:
        if not (request.writes and request.path == "/nodes/pve1/qemu"):
            return ""
        with lock:
            busy = len(recent) % 4 == 3
            recent.append(busy)
            refused["busy"] += busy
        return BUSY if busy else ""

    with Proxy(lab, cut, outage=0) as proxy:
        passed(guests(lab, wanted, port=proxy.port))
    assert refused["busy"] >= FLEET // 4
    whole(lab, names(wanted))
    clear(lab)


@pytest.mark.parametrize(("ends", "failed"), [("WARNINGS: 1", 0), ("something broke", 3)])
def test_tasks_that_end_badly_are_named(lab: Lab, ends: str, failed: int) -> None:
    wanted = task(8000)
    hit = {f"qmcreate:{8000 + i}:" for i in (3, 5, 7)}

    def cut(request: Seen) -> str:
        path = request.path.replace("%3A", ":")
        return f"exit {ends}" if path.endswith("/status") and any(h in path for h in hit) else ""

    with Proxy(lab, cut) as proxy:
        result = guests(lab, wanted, port=proxy.port)
    errors = [g for g in result["guests"] if g.get("error")]
    assert len(errors) == failed
    assert all("task qmcreate 800" in g["error"] and "something broke" in g["error"] for g in errors)
    assert passed(guests(lab, wanted))["changed"] is False, "nothing is left to do, whatever the task was said to be"
    whole(lab, names(wanted))
    clear(lab)


def test_the_node_restarts_its_api_in_the_middle(lab: Lab) -> None:
    wanted = task(9000, disks=[{"slot": "scsi0", "storage": "local", "size": "4M"}])
    reached = threading.Event()
    seen: Counter[str] = Counter()

    def cut(request: Seen) -> str:
        seen["POST"] += request.writes
        if seen["POST"] == FLEET // 2:
            reached.set()
        return ""

    results: list[dict[str, Any]] = []
    with Proxy(lab, cut) as proxy:
        run = threading.Thread(target=lambda: results.append(lab.module("guests", wanted, port=proxy.port)))
        run.start()
        assert reached.wait(60)
        lab.kill()
        lab.start()
        run.join(240)
    (result,) = results
    unnamed = [g for g in result["guests"] if not g["changed"] and not g.get("error") and g["action"] != "none"]
    assert unnamed == []
    passed(guests(lab, wanted))
    assert passed(guests(lab, wanted))["changed"] is False
    # A node that dies while it makes a guest may leave the empty placeholder of an id that was then not used.
    node = lab.api().nodes("pve1")
    for half in [row for row in node.qemu.get() if row.get("lock") == "create"]:
        assert "scsi0" not in node.qemu(half["vmid"]).config.get(), "no more than a placeholder"
        node.qemu(half["vmid"]).delete(skiplock=1)
    until(lambda: len(node.qemu.get()) == FLEET, "no placeholder is left")
    whole(lab, names(wanted))
    clear(lab)
