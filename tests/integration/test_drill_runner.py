# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole drill, from its guards to its verdict, with guests, a node and a systemd that are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.pvelab.proxmox.tests.integration import drill_parts
from ansible_collections.pvelab.proxmox.tests.integration.drill_host import SCHEMA, STATES, Host, guest, hosted, states
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    Package,
    named,
    package,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from hosted(drill, tmp_path, monkeypatch)


def test_a_drill_that_passes(host: Host) -> None:
    data = host.run()
    assert (data["verdict"], data["residue"]["left"]) == ("passed", [])
    assert [row["name"] for row in data["states"]] == STATES
    assert (data["host"]["pve"], data["host"]["qemu"]) == ("9.1.7", "10.1.2")
    assert all(row["ok"] for row in data["states"])
    assert (data["plan"]["inject"], data["plan"]["undo"]) == (host.inject, host.undo)
    marks = data["marks"]
    assert marks["inject"] <= marks["effect"] <= marks["detected"] <= marks["recover"] <= marks["restored"]
    assert marks["restored"] <= marks["verified"]
    assert marks["api"] is None, "the node has noticed nothing"
    ((outage,), quiet) = (guest(data, 103)["outages"], guest(data, 101)["outages"])
    assert (quiet, guest(data, 101)["role"]) == ([], "bystander")
    assert 0.4 < outage["s"] == guest(data, 103)["outage_s"] < 3
    assert abs(host.guests[103].silence() - outage["s"]) < 0.15
    for vmid in (101, 103):
        found = guest(data, vmid)["canary"]
        assert (found["checked"], found["lost"], found["corrupt"], found["boots"]) == (True, [], [], 1)
        assert found["acked"] > 10
    assert data["metrics"]["time_to_detect_s"] >= 0.35
    assert named(data["signature"], "the canary of guest 103 stands still for 0.4 s")["seen"]
    undo = data["undo"]
    assert (undo["rehearsed"], undo["fired"], undo["unit"]) == (True, False, f"pvelab-undo-{RUN}.timer")
    assert marks["inject"] < undo["due"] <= undo["armed"] + 65
    said = [line.split()[2] for line in (host.home / "undo.log").read_text().splitlines()]
    assert said == ["rehearsal", "rehearsal", "runner", "runner"]
    logs = {"inject.log", "undo.log", "undo.sh"}
    assert {row["name"] for row in data["evidence"]} == {*logs, "samples.jsonl", "acks.jsonl"}
    assert (data["plan"]["relief"], marks["relief"], guest(data, 103)["latency_ms"]["relief"]) == ("", None, None)


def test_a_fault_that_is_none_is_not_observed(host: Host) -> None:
    host.inject = "true"
    data = host.run(limits={"observe_s": 0.6})
    assert data["verdict"] == "fault_not_observed"
    assert data["because"].endswith("the canary of guest 103 stands still for 0.4 s was not seen.")
    assert named(data["signature"], "the canary of guest 103 stands still for 0.4 s")["at"] is None
    assert (data["marks"]["effect"], data["metrics"]["outage_s"], guest(data, 103)["outages"]) == (None, None, [])


def test_a_victim_that_goes_on_is_a_fault_that_is_none(host: Host) -> None:
    host.inject, host.signs = "true", (host.drill.signs.says("it says so", lambda: "yes", "yes"),)
    data = host.run()
    assert data["verdict"] == "fault_not_observed"
    assert "guest 103 went on" in data["because"]


def test_a_recovery_that_does_nothing_is_none(host: Host) -> None:
    host.undo = "true"
    data = host.run(limits={"verify_s": 0.6})
    assert data["verdict"] == "not_recovered"
    assert "the canary of guest 103 is not back" in data["because"]
    assert not states(data)["verify"]
    assert guest(data, 103)["outages"][0]["to"] is None
    assert (data["marks"]["restored"], data["metrics"]["time_to_recover_s"]) == (None, None)


def test_a_bystander_that_stands_still_refutes_it(host: Host) -> None:
    host.inject += f"; touch {host.held}/101"
    host.undo += f"; rm -f {host.held}/101"
    data = host.run()
    assert data["verdict"] == "hypothesis_refuted"
    assert data["because"].startswith("guest 101 stood still for")
    assert guest(data, 101)["outage_s"] > 0.4


def test_a_timer_that_is_faster_is_told_from_a_recovery(host: Host) -> None:
    host.signs = (*host.signs, host.drill.signs.says("never", lambda: "no", "yes"))
    data = host.run(limits={"undo_after_s": 1.5, "observe_s": 10})
    assert data["verdict"] == "recovered_by_deadman"
    assert data["undo"]["fired"]
    assert not states(data)["observe"]
    assert data["marks"]["restored"] is not None


def test_an_emergency_stop_in_the_middle_undoes_it(host: Host) -> None:
    host.inject += f"; touch {host.stop_file}"
    host.signs = (host.drill.signs.says("never", lambda: "no", "yes"),)
    data = host.run(limits={"observe_s": 20})
    assert data["verdict"] == "inconclusive"
    assert str(host.stop_file) in data["because"]
    assert list(host.held.iterdir()) == []
    assert (states(data)["observe"], states(data)["recover"], states(data)["verify"]) == (False, True, True)


def test_a_stop_before_the_fault_breaks_nothing(host: Host) -> None:
    plan = host.drill.plan.from_json(wanted(host.folder))
    runner = host.drill.runner.Runner(plan)
    runner.stop.set()
    assert runner.run() == "inconclusive"
    data = json.loads((host.home / "journal.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert "inject" not in states(data)
    assert not (host.home / "inject.log").exists()


@pytest.mark.parametrize("why", ["not allowed", "no marker", "stopped", "busy"])
def test_a_guard_that_refuses_leaves_only_a_journal(host: Host, why: str) -> None:
    if why == "no marker":
        (host.folder / "marker").unlink()
    if why == "stopped":
        host.stop_file.touch()
    if why == "busy":
        host.node.guests[1]["lock"] = "backup"
    data = host.run(guards={"allow": why != "not allowed"})
    assert data["verdict"] == "aborted_preflight"
    assert data["because"].startswith("Nothing was touched: ")
    assert states(data) == {"preflight": False, "report": True}
    assert [path.name for path in host.home.iterdir()] == ["journal.json"]
    assert "stop" not in host.systemd.calls
    assert [row["ok"] for row in data["guards"]].count(False) == 1
    assert (data["recorder"], data["undo"]["armed"], data["marks"]["inject"]) == (None, None, None)


def test_a_host_that_cannot_have_the_fault_skips_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_plan: Any, _node: Any) -> Any:
        raise host.drill.faults.fault.Skip("there is no ZFS")

    monkeypatch.setitem(host.drill.faults.KINDS, "test", none)
    data = host.run()
    assert (data["verdict"], data["because"]) == ("skipped", "It cannot run here: there is no ZFS")


def test_a_guest_that_is_locked_at_the_last_moment(host: Host) -> None:
    host.undo = f"touch {host.folder}/rehearsed"
    lock = host.folder / "rehearsed"
    node = host.node
    real = node.get
    node.get = lambda path, **more: (  # type: ignore[method-assign]
        [{"type": "vzdump", "id": "103"}] if path.endswith("/tasks") and lock.exists() else real(path, **more)
    )
    data = host.run()
    assert data["verdict"] == "aborted_preflight"
    assert "task vzdump 103 runs" in data["because"]
    assert states(data)["arm"] is False
    assert "inject" not in states(data)


def test_what_the_node_shows_first_is_the_first_effect(host: Host) -> None:
    def shown(seen: Any, _since: float) -> str | None:
        host.node.guests[1]["qmpstatus"] = "io-error"
        return "it is" if seen.status.get(103) == "io-error" else None

    host.harmless()
    host.signs = (host.drill.signs.Sign("the node calls it io-error", shown),)
    data = host.run()
    assert data["verdict"] == "passed"
    assert data["marks"]["inject"] < data["marks"]["effect"] == data["marks"]["api"] <= data["marks"]["detected"]
    assert data["metrics"]["blind_s"] == 0


def test_a_guest_that_is_not_heard(host: Host) -> None:
    (host.held / "101").touch()
    data = host.run(limits={"answer_s": 0.25})
    assert data["verdict"] == "aborted_preflight"
    assert "the canary of guest 101 was not heard three times in 0.5 s" in data["because"]
    assert "arm" not in states(data)


def test_a_guest_that_is_heard_late(host: Host) -> None:
    looked, silent = host.drill.proofs.deaf, host.held / "101"
    silent.touch()
    seen: list[str] = []

    def deaf(*args: Any) -> str:
        seen.append(looked(*args))
        silent.unlink(missing_ok=True)
        return seen[-1]

    host.patch.setattr(host.drill.proofs, "deaf", deaf)
    host.harmless()
    assert host.run()["verdict"] == "passed"
    assert "guest 101 was not heard" in seen[0]
    assert seen[-1] == ""


def test_a_way_back_that_fails_when_it_is_rehearsed(host: Host) -> None:
    host.undo = "false"
    data = host.run()
    assert data["verdict"] == "aborted_preflight"
    assert "when it was rehearsed, so nothing was broken" in data["because"]
    assert list(host.held.iterdir()) == []


def test_a_rehearsal_that_changes_something(host: Host) -> None:
    host.harmless()
    host.undo = f"touch {host.folder}/pvelab-filler"
    data = host.run(options={"path": str(host.folder)})
    assert data["verdict"] == "not_recovered"
    assert "pvelab-filler (was not there)" in data["because"]
    assert "inject" not in states(data)


def test_what_is_left_behind_is_no_recovery(host: Host) -> None:
    host.harmless()
    host.inject = f"touch {host.folder}/pvelab-filler"
    data = host.run(options={"path": str(host.folder)})
    assert data["verdict"] == "not_recovered"
    assert data["residue"]["left"] == [f"fillers: {host.folder}/pvelab-filler (was not there)"]
    assert states(data)["verify"]


def test_a_fault_that_cannot_be_made_proves_nothing_and_is_undone(host: Host) -> None:
    host.inject += "; echo no such thing >&2; false"
    data = host.run()
    assert data["verdict"] == "inconclusive"
    assert "ended with 1: no such thing" in data["because"]
    assert list(host.held.iterdir()) == []
    assert "observe" not in states(data)


def test_a_timer_that_is_gone_right_before_the_fault(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = host.drill.deadman.DeadMan.prove
    host.signs = ()

    def prove(deadman: Any) -> float:
        if deadman.armed_file.exists() and host.node.answers.pop("armed", False):
            raise host.drill.shell.Trouble("the timer is not armed as it should be")
        host.node.answers["armed"] = True
        return float(real(deadman))

    monkeypatch.setattr(host.drill.deadman.DeadMan, "prove", prove)
    data = host.run()
    assert data["verdict"] == "aborted_preflight"
    assert "the timer is not armed as it should be" in data["because"]
    assert data["marks"]["inject"] is None
    assert not (host.home / "inject.log").exists()


def test_an_error_of_its_own_is_undone_too(host: Host) -> None:
    def broken() -> str:
        raise LookupError("what nobody has thought of")

    host.signs = (host.drill.signs.says("never", broken, "x"),)
    data = host.run()
    assert (data["verdict"], data["because"]) == ("fault_not_observed", "The fault did not show: never was not seen.")
    assert list(host.held.iterdir()) == []
    (row,) = [row for row in data["states"] if row["name"] == "observe"]
    assert (row["ok"], row["text"]) == (False, "LookupError: what nobody has thought of")


def test_a_way_back_that_fails_is_no_pass_even_if_all_is_well(host: Host) -> None:
    host.undo = f"[ ! -e {host.held}/103 ] || {{ rm {host.held}/103; false; }}"
    data = host.run()
    assert data["verdict"] == "inconclusive"
    assert "the way back ended with 1" in data["because"]


def test_a_write_that_was_acknowledged_and_is_not_there(host: Host) -> None:
    host.harmless()
    host.guests[103].lies = True
    data = host.run()
    assert data["verdict"] == "not_recovered"
    found = guest(data, 103)["canary"]
    assert len(found["lost"]) == found["rpo_records"] >= 5
    assert found["rpo_s"] > 0.1
    assert guest(data, 101)["canary"]["lost"] == []


def test_a_disk_that_cannot_be_read_proves_nothing(host: Host) -> None:
    host.harmless()
    host.node.answers["/nodes/{node}/qemu/103/config"] = {"scsi0": "local:103/none.raw"}
    data = host.run()
    assert data["verdict"] == "inconclusive"
    assert "the disk of guest 103" in data["because"]
    assert (guest(data, 103)["canary"]["checked"], guest(data, 101)["canary"]["checked"]) == (False, True)


def test_a_host_that_cannot_be_disarmed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = host.drill.deadman.DeadMan.disarm

    def disarm(deadman: Any) -> None:
        real(deadman)
        raise host.drill.shell.Trouble("systemd does not answer")

    monkeypatch.setattr(host.drill.deadman.DeadMan, "disarm", disarm)
    data = host.run()
    assert (data["verdict"], states(data)["disarm"]) == ("not_recovered", False)
    assert "it could not be disarmed: systemd does not answer" in data["because"]


def test_a_bystander_that_is_started_anew_is_disturbed_however_quick_it_is_back(host: Host) -> None:
    host.slows()
    real = drill_parts.ack_line
    boots = {True: "11111111", False: "0a1b2c3d"}
    anew = host.held / "slow"
    host.patch.setattr(drill_parts, "ack_line", lambda seq: real(seq).replace(boots[False], boots[anew.exists()]))
    host.eased, host.relief = (), ""
    data = host.run(limits={"observe_s": 2})
    assert data["verdict"] == "hypothesis_refuted"
    assert data["because"] == "guest 101 was started anew, which was not to be."
