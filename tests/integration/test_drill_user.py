# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills of a user, without root and without systemd: what is allowed, and whole runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.lookup.program import build
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import perform
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host as Seam
from ansible_collections.pvelab.proxmox.plugins.modules import drill_abort, drill_run
from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    PROGRAMS,
    RUN,
    FakeNode,
    Package,
    named,
    package,
    program,
    soon,
)
from ansible_collections.pvelab.proxmox.tests.integration.drill_process_parts import (
    dead_man,
    here,
    refuses,
    running,
    started,
    theirs,
    waiting,
    without_systemd,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from without_systemd(tmp_path, monkeypatch)


# the guards -------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is a host's, for a user: all below one directory."""
    marker = tmp_path / "base/etc/pvelab/drill-host"
    marker.parent.mkdir(parents=True)
    subprocess.run(["install", "-D", "-m", "0644", drill.guards.BOOT_ID, marker], check=True)
    monkeypatch.setattr(drill.guards, "STOP_FILE", tmp_path / "run/pvelab-drill.stop")
    return tmp_path / "base"


def looked(drill: Package, folder: Path, **more: Any) -> list[dict[str, Any]]:
    return list(drill.guards.look(drill.plan.from_json(theirs(folder, **more)), FakeNode()))


def test_a_host_that_is_ready(drill: Package, host: Path) -> None:
    rows = looked(drill, host.parent)
    assert drill.guards.refusal(rows) == ""
    assert [row["name"] for row in rows if "process" in row["name"]] == ["processes hold the way back"]
    assert f"as user {os.getuid()}" in named(rows, "processes hold the way back")["value"]
    assert f"below {host}" in named(rows, "the host has room")["value"]
    assert not (host.parent / "asked-systemd").exists()


@pytest.mark.parametrize("text", ["", "0" * 32, Path("/proc/sys/kernel/random/uuid").read_text()],
                         ids=["empty", "zeros", "another"])  # fmt: skip
def test_a_leave_from_before_the_boot_is_none(drill: Package, host: Path, text: str) -> None:
    (host / "etc/pvelab/drill-host").write_text(text)
    refused = drill.guards.refusal(looked(drill, host.parent))
    assert f"as the user whose guests these are: install -D -m 0644 {drill.guards.BOOT_ID} {host}/etc" in refused


def test_an_empty_machine_id_names_no_host(
    drill: Package, host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    (host / "etc/pvelab/drill-host").write_text("")
    monkeypatch.setattr(drill.guards, "BOOT_ID", tmp_path / "empty")
    assert "the host allows it? no" in drill.guards.refusal(looked(drill, tmp_path))


@pytest.mark.parametrize("radius", ["storage", "bridge", "host", "node-reboot"])
def test_what_a_user_could_not_put_back_is_refused_whatever_is_confirmed(
    drill: Package, host: Path, radius: str
) -> None:
    rows = looked(drill, host.parent, radius=radius, guards={"ceiling": "node-reboot", "confirm": "pve1"})
    assert f"no ({radius}, and a user's processes" in drill.guards.refusal(rows)


def test_a_node_that_is_the_users_own_process_can_be_put_back(drill: Package, host: Path) -> None:
    more = {"options": {"pid_file": "/srv/node.pid"}, "guards": {"confirm": "pve1"}}
    for radius, refused in (("host", False), ("node-reboot", True)):
        rows = looked(drill, host.parent, radius=radius, **more)
        assert ("the blast radius is allowed? no" in drill.guards.refusal(rows)) is refused


@pytest.mark.parametrize("place", ["run", "base/run"])
def test_an_emergency_stop_counts_on_the_host_and_below_the_base(drill: Package, host: Path, place: str) -> None:
    stop = host.parent / place / "pvelab-drill.stop"
    if place == "base/run":
        stop = host / str(drill.guards.STOP_FILE).lstrip("/")
    stop.parent.mkdir(parents=True)
    stop.touch()
    refused = drill.guards.refusal(looked(drill, host.parent))
    assert refused == f"no emergency stop? no ({stop}): when all is well again: rm {stop}"


@pytest.mark.parametrize(("text", "value"), [("echo False", "False"), ("echo broken >&2; exit 1", "broken")])
def test_a_python_that_is_too_old(drill: Package, host: Path, text: str, value: str) -> None:
    python = host.parent / "python"
    program(python, f"#!/bin/sh\n{text}\n")
    refused = drill.guards.refusal(looked(drill, host.parent, python=str(python)))
    assert f"processes hold the way back? no ({value}): name a Python of 3.11 or later as drill_python" in refused


@pytest.mark.parametrize("value", ["cron", 3])
def test_a_supervisor_that_is_none(drill: Package, tmp_path: Path, value: object) -> None:
    with pytest.raises(drill.shell.Trouble, match=f"the supervisor {value} is none of systemd, process"):
        drill.plan.from_json(theirs(tmp_path, supervisor=value))


def test_guests_without_a_control_group_are_passed_over(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = drill.plan.from_json(theirs(tmp_path))
    with started("sleep", "600") as sleeper:
        (tmp_path / "103.pid").write_text(str(sleeper.pid))
        for kind in ("guest_out_of_memory", "guest_starved"):
            with pytest.raises(drill.faults.fault.Skip, match="guest 103 has no control group of its own"):
                drill.faults.KINDS[kind](plan, FakeNode())


@pytest.mark.parametrize(
    ("group", "own"), [("qemu.slice/103.scope", True), ("user-1000.slice/session-103.scope", False)]
)
def test_a_login_is_no_guest(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, own: bool
) -> None:
    real = Path.read_text

    def read(path: Path, *args: Any, **more: Any) -> str:
        return f"0::/{group}\n" if path.name == "cgroup" else real(path, *args, **more)

    plan = drill.plan.from_json(theirs(tmp_path))
    (tmp_path / "103.pid").write_text(str(os.getpid()))
    monkeypatch.setattr(Path, "read_text", read)
    if own:
        assert drill.site.cgroup(plan, 103).name == "103.scope"
    else:
        with pytest.raises(drill.faults.fault.Skip):
            drill.site.cgroup(plan, 103)


@pytest.mark.parametrize(
    ("kind", "volume", "place"),
    [
        ({"type": "dir", "path": "/srv"}, "s:103/vm-103-disk-0.qcow2", "/srv/images/103/vm-103-disk-0.qcow2"),
        ({"type": "dir", "path": "/srv"}, "s:9000/base.raw/103/vm-103.qcow2", "/srv/images/103/vm-103.qcow2"),
        ({"type": "lvmthin", "vgname": "fast"}, "s:base-9000-disk-0/vm-103-disk-0", "/dev/fast/vm-103-disk-0"),
        ({"type": "zfspool", "pool": "tank/g"}, "s:base-9000-disk-0/vm-103-disk-0", "/dev/zvol/tank/g/vm-103-disk-0"),
        ({"type": "zfspool", "pool": "tank/g"}, "s:vm-103-disk-0", "/dev/zvol/tank/g/vm-103-disk-0"),
    ],
    ids=str,
)
def test_the_disk_of_a_linked_clone(
    drill: Package, tmp_path: Path, kind: dict[str, str], volume: str, place: str
) -> None:
    node = FakeNode(**{"/storage/s": kind, "/nodes/{node}/qemu/103/config": {"scsi0": f"{volume},size=2M"}})
    assert drill.site.disk(drill.plan.from_json(theirs(tmp_path)), node, 103) == Path(place)


# whole runs -------------------------------------------------------------------------------------------------------


def test_a_whole_drill(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(drill, tmp_path, monkeypatch)
    for name in ("systemctl", "systemd-run"):
        refuses(tmp_path, host.systemd.programs / name)
    monkeypatch.setattr(drill.guards, "BOOT_ID", tmp_path / "machine-id")
    with host.guests[101], host.guests[103]:
        data = host.run(supervisor="process", python=sys.executable)
    assert data["verdict"] == "passed", data["because"]
    assert data["undo"]["unit"].startswith("process ")
    assert (data["undo"]["fired"], data["residue"]["left"]) == (False, [])
    assert sorted(path.name for path in host.home.glob("*.process")) == []
    assert not (tmp_path / "asked-systemd").exists()


def test_a_way_back_that_dies_before_the_fault_breaks_nothing(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(drill, tmp_path, monkeypatch)
    monkeypatch.setattr(drill.guards, "BOOT_ID", tmp_path / "machine-id")
    real = drill.deadman.DeadMan.prove

    def prove(made: Any) -> float:
        (life,) = drill.process.read(made.plan.home / "timer.process")
        life.end(signal.SIGKILL, 5.0)
        return float(real(made))

    monkeypatch.setattr(drill.deadman.DeadMan, "prove", prove)
    with host.guests[101], host.guests[103]:
        data = host.run(supervisor="process", python=sys.executable)
    assert (data["verdict"], data["marks"]["inject"]) == ("aborted_preflight", None)
    assert "so nothing was broken" in data["because"]


def test_what_was_cut_off_is_undone_and_says_so(drill: Package, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    made = dead_man(drill, tmp_path)
    journal = drill.journal.Journal(made.plan)
    journal.begin()
    journal.save()
    made.arm()
    life = waiting(made, drill)
    archive = tmp_path / "drill.pyz"
    build(PROGRAMS / "drill", archive)
    params = {"program": str(archive), "directory": str(tmp_path / "drills"), "supervisor": "process"}
    outcome = perform(drill_abort.RESOURCE, Seam(), {**params, "python": sys.executable})
    assert outcome.object == {"undone": [RUN], "running": [], "armed": []}
    assert not (tmp_path / "broken").exists() and not life.alive
    assert json.loads(journal.path.read_text())["verdict"] == "inconclusive"


def test_the_module_begins_a_run_that_leaves_a_journal(drill: Package, tmp_path: Path) -> None:
    archive = tmp_path / "a place" / "drill.pyz"
    archive.parent.mkdir()
    build(PROGRAMS / "drill", archive)
    plan = theirs(tmp_path, guards={"allow": False}, program=str(archive), directory=str(tmp_path / "a place/drills"))
    home = tmp_path / "a place/drills" / RUN
    outcome = perform(drill_run.RESOURCE, Seam(), {"plan": plan, "program": str(archive)})
    assert (outcome.object or {})["unit"] == f"{home}/runner.process"
    soon(lambda: not running(home), "it has ended")
    data = json.loads((home / "journal.json").read_text())
    assert (data["verdict"], "drill_allow" in data["because"]) == ("aborted_preflight", True)
    assert (tmp_path / "base/run/pvelab-drill.lock").exists(), "the lock is the user's own"
    assert here(tmp_path / "a place") == []
