# SPDX-License-Identifier: GPL-3.0-or-later
"""A run whose host goes down in the middle, runner and all, and goes on after the boot."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    FakeNode,
    Package,
    Systemd,
    package,
    program,
    soon,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(drill, tmp_path, monkeypatch)
    # The guest stands still from the fault on, until the next boot lets it go.
    made.inject = f"touch {made.held}/103; kill -KILL $PPID"
    made.reboots = True
    made.signs = (drill.signs.Sign("guest 103 is back", lambda seen, _since: _back(seen)),)
    with made.guests[101], made.guests[103]:
        yield made
    made.systemd.end()


def _back(seen: Any) -> str | None:
    acks = seen.heard[103].acks
    return f"write {acks[-1].seq}" if acks and time.monotonic() - acks[-1].at < 0.2 else None


def goes_down(host: Host, **more: Any) -> float:
    """Begin a run in a process of its own, and wait until it is gone: by the run's clock, not later than then."""
    pid = os.fork()
    if not pid:
        try:
            host.drill.runner.Runner(host.drill.plan.from_json(wanted(host.folder, **more))).run()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    return float(host.drill.clock.now())


def comes_up(host: Host, **more: Any) -> dict[str, Any]:
    """The boot, which takes its time, and what the run says in the end."""
    left = json.loads((host.home / "handover.json").read_text())
    soon(lambda: time.time() > left["wall"] + 0.8, "the host has been away for longer than a stall")
    for unit in (*host.systemd.state.glob("pvelab*.timer"), *host.systemd.state.glob("pvelab*.service")):
        unit.unlink()
    (host.held / "103").unlink()
    return host.ended(host.drill.runner.Runner(host.drill.plan.from_json(wanted(host.folder, **more))).resume())


def test_it_goes_on_where_it_was(host: Host) -> None:
    alone = {"bystanders": []}
    gone = goes_down(host, **alone)
    left = json.loads((host.home / "handover.json").read_text())
    assert json.loads((host.home / "journal.json").read_text())["verdict"] is None
    data = comes_up(host, **alone)
    assert data["verdict"] == "passed", data["because"]
    assert not (host.home / "handover.json").exists()
    assert [row["name"] for row in data["states"]] == [
        *("preflight", "baseline", "arm", "observe", "recover", "verify", "disarm", "report")
    ]
    assert data["marks"]["inject"] <= left["at"] + 0.01 < data["marks"]["verified"]
    (victim,) = [row for row in data["guests"] if row["vmid"] == 103]
    ((outage,), heard) = (victim["outages"], victim["canary"])
    assert outage["from"] <= gone + 0.01 < outage["to"], "one outage, from before the boot until after it"
    assert (heard["checked"], heard["lost"], heard["corrupt"]) == (True, [], [])
    assert host.systemd.units() == []


def test_what_was_acknowledged_before_the_boot_has_to_be_on_the_disk_after_it(host: Host) -> None:
    host.guests[103].lies = True
    goes_down(host)
    host.guests[103].lies = False
    data = comes_up(host)
    assert data["verdict"] == "not_recovered"
    (victim,) = [row for row in data["guests"] if row["vmid"] == 103]
    assert len(victim["canary"]["lost"]) > 3


def test_the_clock_goes_on_by_the_wall_clock_and_never_back(drill: Package, tmp_path: Path) -> None:
    drill.handover.leave(tmp_path, {"began": 5.0})
    path = tmp_path / "handover.json"
    left = json.loads(path.read_text())
    for away, passed in ((100.0, 100.0), (-3600.0, 0.0)):
        path.write_text(json.dumps({**left, "wall": time.time() - away}))
        assert drill.handover.pending(tmp_path)
        assert drill.handover.take(tmp_path)["began"] == 5.0
        assert abs(drill.clock.now() - left["at"] - passed) < 5
        assert not drill.handover.pending(tmp_path)
    drill.clock.go_on(time.monotonic(), time.time())
    with pytest.raises(drill.shell.Trouble, match=r"handover.json says nothing to go on from: FileNotFoundError"):
        drill.handover.take(tmp_path)


def test_a_host_that_does_not_go_down(host: Host) -> None:
    host.inject = f"touch {host.held}/103"
    data = host.run(limits={"observe_s": 1})
    assert "did not go down within 1 s" in str(data["states"])
    assert data["verdict"] == "fault_not_observed"
    assert not (host.home / "handover.json").exists()


# the fault ----------------------------------------------------------------------------------------------------------


def node(tmp_path: Path, **configs: dict[str, Any]) -> FakeNode:
    made = FakeNode(tmp_path)
    for vmid, config in configs.items():
        made.answers[f"/nodes/{{node}}/qemu/{vmid[1:]}/config"] = config
    return made


def test_guests_that_start_with_the_host_are_waited_for_in_their_order(drill: Package, tmp_path: Path) -> None:
    data = {**wanted(tmp_path), "fault": {"kind": "reboot", "options": {"how": "crash"}}, "victims": [101, 102, 103]}
    plan = drill.plan.from_json({**data, "bystanders": []})
    made = node(
        tmp_path,
        n101={"onboot": 1, "startup": "up=20"},
        n102={"onboot": 0, "startup": "order=1"},
        n103={"onboot": 1, "startup": "order=2,up=5"},
    )
    fault = drill.faults.prepare(plan, made)
    assert fault.reboots and fault.outage
    names = [sign.name for sign in fault.signs]
    assert names[1:4] == [
        "guest 103 is back by itself",
        "guest 101 is back by itself",
        "guests were started in their order: 103, 101",
    ]
    assert fault.inject.splitlines()[-1] == f"sync --data {plan.home}/acks.jsonl; echo b > /proc/sysrq-trigger"
    assert "103 101" in fault.inject and "restore" in fault.undo
    recorder = drill.recorder.Recorder(plan)
    assert [sign.test(recorder, 0.0) for sign in fault.signs] == [None] * 5, "nothing has happened"
    # After the boot the node need not answer: who is waited for was written down.
    plan.home.mkdir(parents=True)
    (plan.home / "autostart.txt").write_text("103 101\n")
    (plan.home / "boot-id.txt").write_text("another\n")
    again = drill.faults.prepare(plan, None)
    assert [sign.name for sign in again.signs] == names
    assert "instead of another" in again.signs[0].test(recorder, 0.0)


def test_a_reboot_that_could_prove_nothing_is_refused(drill: Package, tmp_path: Path) -> None:
    data = {**wanted(tmp_path), "fault": {"kind": "reboot", "options": {}}}
    with pytest.raises(drill.shell.Trouble, match="no victim has onboot: 1"):
        drill.faults.prepare(drill.plan.from_json(data), node(tmp_path, n103={"onboot": 0}))
    data["fault"]["options"] = {"how": "hard"}
    with pytest.raises(drill.shell.Trouble, match="clean, crash; the drill's option how is hard"):
        drill.faults.prepare(drill.plan.from_json(data), node(tmp_path, n103={"onboot": 1}))


# who does it at the boot ---------------------------------------------------------------------------------------------


@pytest.fixture
def at_boot(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plan of a run that is armed, on a host whose Python and whose systemd-run only say what they are to do."""
    Systemd(tmp_path, monkeypatch)
    for name in ("python", "programs/systemd-run"):
        program(tmp_path / name, f'#!/bin/sh\necho "$(basename "$0")" "$@" >> {tmp_path}/said\n')
    plan = drill.plan.from_json({**wanted(tmp_path), "python": str(tmp_path / "python")})
    plan.home.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    plan.undo_script.write_text(f'echo "undo $1" >> {tmp_path}/said\n')
    return plan


def said(plan: Any) -> list[str]:
    path = plan.directory.parent / "said"
    return path.read_text().splitlines() if path.exists() else []


def boots(drill: Package, plan: Any) -> None:
    """Do what the unit says that the boot starts."""
    held = drill.supervisor.Systemd(plan, plan.directory.parent / "etc")
    held._arm_boot()
    (line,) = [line for line in held.boot_unit.read_text().splitlines() if line.startswith("ExecStart")]
    assert subprocess.run(shlex.split(line.partition("=")[2]), check=False).returncode == 0


@pytest.mark.parametrize("code", [0, 1], ids=["in a unit apart", "where there can be none"])
def test_a_run_that_was_cut_off_is_undone_at_the_boot(drill: Package, at_boot: Any, code: int) -> None:
    """Apart, because it takes the boot's own unit away: a unit whose file is gone is ended after 90 s."""
    folder = at_boot.directory.parent
    does = 'for last; do :; done; exec /bin/sh -c "$last"' if code == 0 else f"exit {code}"
    program(folder / "programs/systemd-run", f'#!/bin/sh\necho "$@" >> {folder}/apart\n{does}\n')
    boots(drill, at_boot)
    assert said(at_boot) == ["undo boot", f"python {at_boot.program} undo {at_boot.file}"]
    assert f"--unit=pvelab-undo-{at_boot.run} --property=OOMScoreAdjust=-1000" in (folder / "apart").read_text()
    assert "--collect" not in (folder / "apart").read_text(), "one that fails stays to be seen"


def test_a_run_that_has_made_the_boot_goes_on_and_is_not_undone(drill: Package, at_boot: Any) -> None:
    drill.handover.leave(at_boot.home, {})
    boots(drill, at_boot)
    assert said(at_boot) == [f"python {at_boot.program} begin {at_boot.file}"]
    at_boot.file.write_text(json.dumps(wanted(at_boot.directory.parent)))
    main = importlib.import_module("drill.__main__")
    main.begin(at_boot.file)
    words = said(at_boot)[-1].split()
    assert words[0] == "systemd-run" and words[-2:] == ["resume", str(at_boot.file)]
    assert f"--unit=pvelab-drill-{at_boot.run}.service" in words
    assert f"close {at_boot.file}" in said(at_boot)[-1], "what ends it without its knowledge ends the fault, too"
    # Whoever closes it while the host goes down leaves it alone; where the host stays up it forgets the boot.
    state = at_boot.directory.parent / "units/running"
    state.write_text("stopping\n")
    main.close(at_boot.file)
    assert drill.handover.pending(at_boot.home)
    state.write_text("running\n")
    main.close(at_boot.file)
    assert not drill.handover.pending(at_boot.home)
    main.begin(at_boot.file)
    assert said(at_boot)[-1].split()[-2:] == ["run", str(at_boot.file)]
