# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock that a dead job has left, and a guest whose kernel is dead, on a node that runs, with its QEMU."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_node import VMID, World, do, looks, made, run
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    FakeNode,
    Package,
    package,
    program,
    soon,
    wanted,
)
from ansible_collections.pvelab.proxmox.tests.lab import Lab


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def world(drill: Package, lab: Lab, tmp_path: Path) -> Iterator[World]:
    yield from made(drill, lab, tmp_path)


# a lock -----------------------------------------------------------------------------------------------------------


def test_a_lock_that_nobody_holds_keeps_the_node_from_a_guest_until_it_is_taken_away(world: World) -> None:
    fault = world.fault("stuck_lock")
    assert fault.targets == (f"lock of guest {VMID} (snapshot)",)
    refused, held, obeys = fault.signs[0], *fault.eased
    before, config = looks(fault), world.node.qemu(VMID).config.get()
    assert (refused.test(None, 0.0), held.test(None, 0.0)) == (None, None)
    assert world.node.qemu(VMID).config.get() == config, "the order that is tried changes nothing"
    assert do(fault.undo) == f"guest {VMID} is not locked by this drill\n"
    assert looks(fault) == before
    do(fault.inject)
    assert world.node.qemu(VMID).config.get()["lock"] == "snapshot"
    refused, obeys = world.fault("stuck_lock").signs[0], world.fault("stuck_lock").eased[1]
    assert refused.test(None, 0.0) == "VM is locked (snapshot)"
    assert obeys.test(None, 0.0) is None
    with pytest.raises(world.drill.shell.Trouble, match=rf"guest {VMID} is locked \(snapshot\)"):
        fault.whole()
    assert looks(fault) != before
    world.node.storage("local").content.post(vmid=VMID, filename=f"vm-{VMID}-disk-7.raw", size="1M")
    do(fault.relief)
    left = f"local:{VMID}/vm-{VMID}-disk-7.raw"
    assert held.test(None, 0.0) == f"no task and no process held it; volumes that nothing refers to: {left}"
    obeys = world.fault("stuck_lock").eased[1]
    assert obeys.test(None, 0.0) == "its description was set to what it is"
    fault.whole()
    for _time in range(2):
        do(fault.undo)
        assert world.node.qemu(VMID).config.get() == config
    assert looks(fault)["volumes"] == sorted([*before["volumes"], left]), "it is named, and left to be looked at"


def test_an_order_is_not_repeated_ten_times_a_second(world: World) -> None:
    refused = world.fault("stuck_lock").signs[0]
    assert refused.test(None, 0.0) is None
    do(world.fault("stuck_lock").inject)
    assert refused.test(None, 0.0) is None
    assert soon(lambda: refused.test(None, 0.0), "it is tried again") == "VM is locked (snapshot)"


def test_the_undo_alone_unlocks_it_and_no_other_lock(world: World) -> None:
    fault = world.fault("stuck_lock", lock="backup")
    do(fault.inject)
    do(fault.undo)
    assert "lock" not in world.node.qemu(VMID).config.get()
    do(fault.inject)
    conf = world.conf(VMID)
    conf.write_text(conf.read_text().replace("lock: backup", "lock: migrate"))
    assert do(fault.undo) == f"guest {VMID} is not locked (backup) any more\n"
    do(fault.undo)
    assert world.node.qemu(VMID).config.get()["lock"] == "migrate", "what somebody else has locked stays so"


def test_a_lock_is_not_taken_away_below_what_holds_it(world: World) -> None:
    fault = world.fault("stuck_lock")
    do(fault.inject)
    program(world.folder / "vzdump", "#!/bin/sh\nsleep 600 & trap 'kill $!' TERM; wait\n")
    with subprocess.Popen([world.folder / "vzdump", str(VMID)]) as worker:
        code, said = run(fault.relief)
        worker.terminate()
    assert code == 2
    assert f"guest {VMID} stays locked: process {worker.pid} (" in said and "wait until that has ended" in said
    assert world.node.qemu(VMID).config.get()["lock"] == "snapshot"
    do(fault.undo)
    assert "lock" not in world.node.qemu(VMID).config.get()


@pytest.mark.parametrize(
    ("row", "holds"),
    [
        ({"id": str(VMID), "type": "qmsnapshot"}, True),
        ({"id": str(VMID), "type": "qmsnapshot", "status": "RUNNING"}, True),
        ({"id": "", "type": "vzdump"}, True),
        ({"id": "", "type": "aptupdate"}, False),
        ({"id": "103", "type": "vzdump"}, False),
        ({"id": str(VMID), "type": "vzdump", "status": "OK", "endtime": 5}, False),
    ],
)
def test_a_task_that_may_hold_a_lock(drill: Package, row: dict[str, Any], holds: bool) -> None:
    node = FakeNode(**{"/nodes/{node}/tasks": [{"upid": "UPID:x", **row}]})
    assert drill.locks.holders(node, VMID) == (["task UPID:x"] if holds else [])


def test_where_there_is_qm_it_is_asked(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, folder = tmp_path / "lock", tmp_path / "bin"
    folder.mkdir()
    program(
        folder / "qm",
        f'#!/bin/sh\ncase "$*" in\n"set {VMID} --lock rollback") echo rollback > {state} ;;\n'
        f'"unlock {VMID}") [ -e {state}.sticks ] || rm {state} ;;\n*) exit 64 ;;\nesac\n',
    )
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    class Node(FakeNode):
        def get(self, path: str, **params: Any) -> Any:
            if path.endswith("/config"):
                return {"lock": state.read_text().strip()} if state.exists() else {}
            return [] if path.endswith("/snapshot") else super().get(path, **params)

    node = Node(**{"/nodes/{node}/storage": []})
    plan = drill.plan.from_json(wanted(tmp_path, victims=[VMID]))
    plan.home.mkdir(parents=True)
    do(drill.locks.how(plan, VMID, "rollback"))
    assert drill.locks.of(node, VMID) == "rollback"
    state.with_name("lock.sticks").touch()
    with pytest.raises(drill.shell.Trouble, match=rf"still locked \(rollback\); unlock it by hand: qm unlock {VMID}"):
        drill.locks.release(plan, node, VMID)
    state.with_name("lock.sticks").unlink()
    assert "nothing refers to: none" in drill.locks.release(plan, node, VMID)
    assert drill.locks.of(node, VMID) == ""


def test_a_guest_that_cannot_be_locked_here(drill: Package, tmp_path: Path) -> None:
    def fault(**options: Any) -> Any:
        data = {**wanted(tmp_path), "fault": {"kind": "stuck_lock", "options": options}}
        data["places"]["conf"] = f"{tmp_path}/{{vmid}}.conf"
        return drill.faults.prepare(drill.plan.from_json(data), FakeNode())

    with pytest.raises(drill.shell.Trouble, match=r"no qm on this host and no .*/103\.conf, .* conf in drill_places"):
        fault()
    with pytest.raises(drill.shell.Trouble, match=r"lock .* is create, and none of backup, clone"):
        fault(lock="create")


def test_a_configuration_loses_its_lock_and_nothing_else(drill: Package, tmp_path: Path) -> None:
    plan = drill.plan.from_json({**wanted(tmp_path), "places": {"conf": f"{tmp_path}/{{vmid}}.conf"}})
    conf = tmp_path / "103.conf"
    text = "#lock: snapshot\nname: a\nlock: migrate\n[one]\nlock: snapshot\nname: a\n"
    conf.write_text(f"lock: snapshot\n{text}")
    drill.locks.clear(plan, 103, "snapshot")
    assert conf.read_text() == text


def test_a_whole_drill_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data = world.whole(monkeypatch, "stuck_lock")
    assert (data["verdict"], data["residue"]["left"]) == ("passed", []), data["because"]
    assert all(row["ok"] for row in data["states"])
    assert {row["name"]: row["evidence"] for row in data["signature"]} == {
        f"the node takes no order for guest {VMID}": "VM is locked (snapshot)",
        f"guest {VMID} goes on": data["signature"][1]["evidence"],
        f"nothing held the lock of guest {VMID}": (
            "no task and no process held it; volumes that nothing refers to: none"
        ),
        f"the node takes orders for guest {VMID} again": "its description was set to what it is",
    }
    assert f"unlocked-{VMID}.txt" in [row["name"] for row in data["evidence"]]
    assert {"locks", "volumes"} <= set(data["residue"]["checked"])


def test_what_acts_does_not_know(drill: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(wanted(tmp_path)))
    (tmp_path / "token").write_text("a@b!c=d\n")
    assert drill.acts.main(["burn", str(path)]) == 2
    assert capsys.readouterr().err == "drill: drill.acts knows no burn\n"


# a kernel ---------------------------------------------------------------------------------------------------------


def test_a_guest_whose_agent_is_silent_is_not_crashed_and_one_that_was_is_reset(world: World) -> None:
    with pytest.raises(world.drill.shell.Trouble, match=rf"guest {VMID} has no agent .* guest agent is not running"):
        world.fault("guest_panic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.drill.node.Node, "ask", lambda *_none: {"result": {}})
        fault = world.fault("guest_panic")
    # The node takes the order as it is written, and hands it to an agent that is not there.
    assert "answers 500 QEMU guest agent is not running" in do(fault.inject)
    before = world.node.qemu(VMID).status.current.get()["pid"]
    for resets in (1, 1):
        do(fault.undo)
        tasks = [row["status"] for row in world.node.tasks.get(typefilter="qmreset", vmid=VMID)]
        assert tasks == ["OK"] * resets
    current = world.node.qemu(VMID).status.current.get()
    assert (current["pid"], current["qmpstatus"]) == (before, "running")
