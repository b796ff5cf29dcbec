# SPDX-License-Identifier: GPL-3.0-or-later
"""The module guests against labnode: a list is foreseen, done, and done again; order, limits and failures."""

from __future__ import annotations

import re
import signal
import threading
from typing import Any

from ansible_collections.pvelab.proxmox.tests.integration.guests_parts import BARE, clear, guests, passed, there, whole
from ansible_collections.pvelab.proxmox.tests.integration.vm_parts import everything
from ansible_collections.pvelab.proxmox.tests.lab import Lab, finished, until
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy, Seen


def named(prefix: str, count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"{prefix}{i}", **more} for i in range(count)]


def test_a_list_is_made_changed_and_removed(lab: Lab) -> None:
    task: dict[str, Any] = {
        "defaults": {**BARE, "vmid_range": [200, 299], "disks": [{"slot": "scsi0", "storage": "local", "size": "4M"}]},
        "guests": named("web", 12),
    }
    before = everything(lab)
    foreseen = passed(guests(lab, task, check=True))
    assert everything(lab) == before, "check mode wrote something"
    with Proxy(lab) as proxy:
        made = passed(guests(lab, task, port=proxy.port))
    assert made["msg"] == foreseen["msg"] == "12 guests: 12 created."
    assert [g["steps"] for g in made["guests"]] == [g["steps"] for g in foreseen["guests"]]
    assert [g["vmid"] for g in made["guests"]] == list(range(200, 212))
    assert [d["before"] for d in made["diff"]] == [d["before"] for d in foreseen["diff"]]
    lists = [s for s in proxy.seen if s.path in ("/cluster/resources", "/nodes/pve1/qemu") and s.method == "GET"]
    assert len(lists) <= 2 + 12, "guests that read back at the same time share one list"

    with Proxy(lab) as proxy:
        again = passed(guests(lab, task, port=proxy.port))
    assert (again["changed"], again["diff"]) == (False, [])
    reads = [s.path for s in proxy.seen if s.path != "/access/ticket"]
    assert len(reads) == 2 + 12, reads

    task["guests"][3]["cores"] = 2
    changed = passed(guests(lab, task))
    assert changed["msg"] == "12 guests: 11 as they were, 1 changed."
    assert changed["lines"][3] == "web3 (203): changed cores"
    task["defaults"]["state"] = "absent"
    refused = guests(lab, task)
    assert refused["failed"] and "would destroy guest 200 (web0) with scsi0" in refused["msg"]
    assert len(there(lab)) == 12
    task["defaults"]["allow_data_loss"] = True
    assert passed(guests(lab, task))["msg"] == "12 guests: 12 removed."
    whole(lab, set())


def test_guests_start_and_stop_in_order(lab: Lab) -> None:
    some: list[dict[str, Any]] = [
        {"name": "app", "depends_on": ["db"]},
        {"name": "last", "startup": {"order": 9}},
        {"name": "db", "depends_on": ["disk"], "startup": {"order": 2}},
        {"name": "disk", "startup": {"order": 1}},
    ]
    task: dict[str, Any] = {"defaults": {**BARE, "vmid_range": [300, 399], "status": "running"}, "guests": some}
    with Proxy(lab) as proxy:
        passed(guests(lab, task, port=proxy.port))
    assert power(proxy.written, "start") == [303, 302, 301, 300]
    with Proxy(lab) as proxy:
        task["defaults"] |= {"status": "stopped", "force_stop": True, "shutdown_timeout_s": 1}
        stopped = passed(guests(lab, task, port=proxy.port))
    assert stopped["msg"] == "4 guests: 4 changed."
    assert power(proxy.written, "shutdown") == [300, 301, 302, 303]
    assert passed(guests(lab, task))["changed"] is False
    clear(lab)


def power(written: list[Seen], verb: str) -> list[int]:
    found = [re.fullmatch(rf"/nodes/pve1/qemu/(\d+)/status/{verb}", s.path) for s in written]
    return [int(f[1]) for f in found if f]


def test_clones_of_an_entry_are_made_after_it(lab: Lab) -> None:
    disk = {"slot": "scsi0", "storage": "local", "size": "4M"}
    some = [*named("copy", 6, clone={"source": "seed", "full": True}), {"name": "seed", "disks": [disk]}]
    task = {"defaults": {**BARE, "vmid_range": [400, 499]}, "guests": some}
    foreseen = passed(guests(lab, task, check=True))
    assert any("there is no guest seed to clone" in w for w in foreseen["warnings"])
    made = passed(guests(lab, task))
    assert made["msg"] == "7 guests: 7 created."
    assert passed(guests(lab, task))["changed"] is False
    whole(lab, {g["name"] for g in some})
    clear(lab)


def test_what_failed_is_told_and_the_next_run_does_the_rest(lab: Lab) -> None:
    too_big = {"slot": "scsi0", "storage": "local", "size": "999999G"}
    some: list[dict[str, Any]] = [
        {"name": "good"},
        {"name": "bad", "disks": [too_big], "status": "running"},
        {"name": "behind", "depends_on": ["bad"], "status": "running"},
    ]
    task: dict[str, Any] = {"defaults": {**BARE, "vmid_range": [500, 599]}, "guests": some}
    result = guests(lab, task)
    assert result["msg"].startswith("2 of 3 guests failed: Unable to create guest 501 (bad): task qmcreate 501")
    assert "it depends on bad, which failed" in result["lines"][2]
    assert [g["changed"] for g in result["guests"]] == [True, False, True]
    some[1]["disks"] = [{**too_big, "size": "4M"}]
    rest = passed(guests(lab, task))
    assert [g["action"] for g in rest["guests"]] == ["none", "create", "update"]
    assert passed(guests(lab, task))["changed"] is False
    clear(lab)


def test_on_failure_says_what_becomes_of_the_others(lab: Lab) -> None:
    bad = {"name": "bad", "disks": [{"slot": "scsi0", "storage": "local", "size": "999999G"}]}
    task: dict[str, Any] = {
        "defaults": {**BARE, "vmid_range": [600, 699]},
        "guests": [*named("first", 2), bad, *named("later", 3)],
        "max_parallel": 1,
    }
    passed(guests(lab, {**task, "guests": named("first", 1)}))
    kept = there(lab)["first0"]
    undone = guests(lab, {**task, "on_failure": "rollback"})
    assert undone["lines"][1] == "first1 (601): created, and removed again", undone["lines"]
    assert undone["lines"][3].endswith("bad failed, and on_failure is rollback.")
    assert there(lab) == {"first0": kept}, "only what this very task has made is removed"
    stopped = guests(lab, {**task, "on_failure": "stop"})
    assert stopped["msg"].startswith("4 of 6 guests failed"), stopped["msg"]
    assert set(there(lab)) == {"first0", "first1"}
    assert guests(lab, task)["msg"].startswith("the guest failed" if len(task["guests"]) == 1 else "1 of 6 guests")
    assert len(there(lab)) == 5
    clear(lab)


def test_guests_that_are_not_listed_go_within_the_fence(lab: Lab) -> None:
    fenced = {**BARE, "tags": ["fleet"], "vmid_range": [700, 799]}
    passed(guests(lab, {"defaults": fenced, "guests": [*named("f", 3), {"name": "kept", "protection": True}]}))
    passed(guests(lab, {"defaults": BARE, "guests": [{"name": "stranger"}]}))
    task: dict[str, Any] = {
        "defaults": fenced,
        "guests": named("f", 1),
        "unlisted": {"tag": "fleet", "state": "absent"},
    }
    assert "At most 2 may be removed at once" in guests(lab, task)["msg"]
    task["unlisted"]["limit"] = 3
    before = everything(lab)
    foreseen = guests(lab, task, check=True)
    assert everything(lab) == before
    assert [line for line in foreseen["lines"] if line.endswith(": removed")] == [
        "f1 (701): removed",
        "f2 (702): removed",
    ]
    result = guests(lab, task)
    assert "guest 703 (kept) is protected. Set protection: false" in result["msg"]
    assert set(there(lab)) == {"f0", "kept", "stranger"}
    passed(guests(lab, {"guests": [{"name": "kept", "protection": False}]}))
    clear(lab)


def test_a_wrong_option_is_told_with_the_guest(lab: Lab) -> None:
    wrong = lab.module("guests", {"guests": [{"name": "a"}, {"name": "b", "status": "up"}]})
    assert wrong["msg"] == "guest b: value of status must be one of: running, stopped, paused, got: up"
    unknown = lab.module("guests", {"guests": [{"name": "a", "coers": 2}]})
    assert unknown["msg"].startswith("guest a: coers. Supported parameters include: acpi")
    secret = {"cloud_init": {"user": "me", "password": "hunter22"}}
    masked = lab.module("guests", {"guests": [{"name": "a"}], "defaults": secret}, check=True)
    assert "hunter22" not in str(masked)


def test_a_run_that_is_terminated_says_what_was_done_and_what_goes_on(lab: Lab) -> None:
    begun = threading.Event()

    def cut(seen: Seen) -> str:
        if seen.writes and seen.path == "/nodes/pve1/qemu":
            begun.set()
            return "slow"
        return ""

    task = {"defaults": {**BARE, "vmid_range": [800, 899]}, "guests": named("cut", 12), "max_parallel": 3}
    with Proxy(lab, cut) as proxy:
        process = lab.begin_module("guests", task, port=proxy.port)
        assert begun.wait(60)
        process.send_signal(signal.SIGTERM)
        result = finished(process)
    assert result["failed"] and result["msg"].endswith("The run was interrupted. Run it again for the rest.")
    made = [g for g in result["guests"] if g["changed"] or "The task goes on: UPID:" in g.get("error", "")]
    assert 1 <= len(made) < 12, result["lines"]
    until(lambda: {g["name"] for g in made} <= set(there(lab)), "what was sent is carried out")
    assert set(there(lab)) == {g["name"] for g in made}, "nothing was begun that is not told"
    assert passed(guests(lab, task))["msg"].startswith("12 guests: ")
    whole(lab, {f"cut{i}" for i in range(12)})
    clear(lab)
