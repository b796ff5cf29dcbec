# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks in a guest's configuration: waited for while their owner works, never skipped, told from forgotten ones."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Locked, TaskFailed
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import Refused, Reply
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call
from ansible_collections.pvelab.proxmox.tests.unit.plugins.module_utils.api_fakes import Clock, FakeWire, api_over

GUEST = "/nodes/pve1/qemu/100"
CHANGE = Call("PUT", f"{GUEST}/config", {"cores": 2})
START = Call("POST", f"{GUEST}/status/start")
UPID = "UPID:pve1:00000193:0007D486:6B014F83:{}:{}:root@pam:"
BACKUP = {"upid": UPID.format("vzdump", "100"), "status": "RUNNING"}
OLD = {"upid": UPID.format("vzdump", "100"), "status": "OK", "endtime": 1795248061}
HELD, FREE = Reply({"status": "running", "lock": "backup"}), Reply({"status": "running"})
REFUSED = Refused(500, "VM is locked (backup)\n")


def wire(change: Any, held: Any, tasks: Any) -> FakeWire:
    return FakeWire(
        {"PUT /nodes/pve1/qemu/100/config": change, f"GET {GUEST}/status/current": held, "GET /nodes/pve1/tasks": tasks}
    )


def test_lock_is_waited_for_while_its_task_runs() -> None:
    line = wire([REFUSED, Reply(None)], [HELD] * 20 + [FREE], Reply([BACKUP]))
    clock = Clock()
    api_over(line, clock).do(CHANGE)
    assert line.lines("PUT") == ["PUT /nodes/pve1/qemu/100/config"] * 2
    assert clock.now > 20
    assert not any("skiplock" in r.params for r in line.sent)


def test_limit_names_who_holds_the_lock() -> None:
    clock = Clock()
    line = wire(REFUSED, HELD, Reply([OLD, BACKUP]))
    with pytest.raises(Locked, match=r"VM 100 is locked \(backup\) by task vzdump 100 on pve1 of root@pam") as caught:
        api_over(line, clock, lock_timeout_s=30.0).do(CHANGE)
    assert "within 30 seconds" in caught.value.msg and "api_lock_timeout" in caught.value.msg
    assert caught.value.request == "PUT /nodes/pve1/qemu/100/config"
    assert 30 <= clock.now <= 32
    assert len(line.lines("PUT")) == 1


@pytest.mark.parametrize("tasks", [[], [OLD], [{"upid": UPID.format("qmstart", "101"), "status": "RUNNING"}]])
def test_forgotten_lock_is_told_soon_with_what_to_do(tasks: list[Any]) -> None:
    clock = Clock()
    with pytest.raises(Locked, match=r"no task is running .* on pve1 with: qm unlock 100"):
        api_over(wire(REFUSED, HELD, Reply(tasks)), clock).do(CHANGE)
    assert clock.now < 10


@pytest.mark.parametrize("kind", ["vzdump", "qmclone"])
def test_owner_may_be_a_task_of_another_name(kind: str) -> None:
    backup_of_many = {"upid": UPID.format(kind, "90" if kind == "qmclone" else "")}
    line = wire([REFUSED, Reply(None)], [HELD] * 20 + [FREE], Reply([backup_of_many]))
    api_over(line).do(CHANGE)
    assert len(line.lines("PUT")) == 2


def test_suspended_is_no_lock_that_goes_away() -> None:
    clock = Clock()
    with pytest.raises(Locked, match=r"suspended to disk\. Start it"):
        api_over(wire(Refused(500, "VM is locked (suspended)"), HELD, Reply([])), clock).do(CHANGE)
    assert clock.now == 0


def test_lock_of_another_guest_is_tried_until_the_limit() -> None:
    """A clone is refused for its source or its target; only the first is in the path."""
    clone = f"POST {GUEST}/clone"
    line = FakeWire({clone: REFUSED, f"GET {GUEST}/status/current": FREE, "GET /nodes/pve1/tasks": Reply([])})
    clock = Clock()
    with pytest.raises(Locked):
        api_over(line, clock, lock_timeout_s=10.0).do(Call("POST", f"{GUEST}/clone", {"newid": 101}))
    assert 10 <= clock.now < 12 and 5 < len(line.lines("POST")) < 15


def test_lock_that_a_task_ran_into() -> None:
    upid = UPID.format("qmstart", "100")
    path = f"/nodes/pve1/tasks/{upid.replace(':', '%3A').replace('@', '%40')}"
    failed = Reply({"status": "stopped", "exitstatus": "VM is locked (backup)"})
    line = FakeWire(
        {
            f"POST {GUEST}/status/start": Reply(upid),
            f"GET {path}/status": [failed, Reply({"status": "stopped", "exitstatus": "OK"})],
            f"GET {path}/log": Reply([{"n": 1, "t": "TASK ERROR: VM is locked (backup)"}], total=1),
            f"GET {GUEST}/status/current": [HELD, FREE],
            "GET /nodes/pve1/tasks": Reply([BACKUP]),
        }
    )
    assert api_over(line).do(START) == upid
    assert len(line.lines("POST")) == 2


def test_guest_that_vanished_meanwhile_gives_its_own_error() -> None:
    gone = Refused(500, "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist")
    line = wire([REFUSED, gone], gone, Reply([BACKUP]))
    with pytest.raises(Exception, match=r"100\.conf' does not exist") as caught:
        api_over(line).do(CHANGE)
    assert not isinstance(caught.value, TaskFailed)


def test_lock_without_a_guest_in_the_path_is_told_as_it_is() -> None:
    line = FakeWire({"POST /nodes/pve1/qemu": REFUSED})
    with pytest.raises(Locked, match=r"VM is locked \(backup\)"):
        api_over(line).do(Call("POST", "/nodes/pve1/qemu", {"vmid": 100}))
    assert len(line.sent) == 1
