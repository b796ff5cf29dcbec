# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that start, watch and undo drills, with the program itself, a systemd that is none, and no node."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.lookup.program import build
from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_start
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Outcome, perform
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.modules import drill_abort, drill_info, drill_run
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    PROGRAMS,
    RUN,
    FakeNode,
    Package,
    Systemd,
    package,
    program,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(autouse=True)
def systemd(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(tmp_path, monkeypatch)
    monkeypatch.setattr(drill.deadman, "UNITS", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    # is-active says of each unit that it has ended; systemd-run keeps what it was asked to run
    text = (made.programs / "systemctl").read_text()
    answer = "is-active) for unit; do echo inactive; done; exit 3 ;;\n"
    program(made.programs / "systemctl", text.replace("is-system-running)", f"{answer}is-system-running)"))
    program(made.programs / "systemd-run", f'#!/bin/sh\necho "$*" >> {made.state}/started\n')
    yield made
    made.end()


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """The program as one file, as the role brings it."""
    build(PROGRAMS / "drill", tmp_path / "drill.pyz")
    return str(tmp_path / "drill.pyz")


def runs(folder: Path) -> list[dict[str, Any]]:
    params = {"directory": str(folder / "drills"), "supervisor": "systemd", "run": None}
    found = drill_info.read(Host(), params)
    return list(found["runs"])


def start(plan: dict[str, Any], path: str, *, check: bool) -> Outcome:
    return perform(drill_run.RESOURCE, Host(read_only=check), {"plan": plan, "program": path}, check=check)


def asked(folder: Path, path: str) -> dict[str, Any]:
    """What drill_abort is told."""
    python = drill_start.PYTHON
    return {"program": path, "directory": str(folder / "drills"), "supervisor": "systemd", "python": python}


def cut_off(drill: Package, folder: Path, name: str, undo: str | None) -> Path:
    """A run that was cut off; with ``undo``, behind its arming."""
    plan = drill.plan.from_json(wanted(folder, run=name))
    plan.home.mkdir(parents=True)
    (plan.home / "plan.json").write_text(json.dumps(wanted(folder, run=name)))
    journal = drill.journal.Journal(plan)
    journal.begin()
    journal.save()
    if undo is not None:
        drill.deadman.DeadMan(plan, undo).write()
        (plan.home / "armed").touch()
    return Path(plan.home)


@pytest.mark.parametrize("check", [True, False])
def test_a_plan_goes_through_the_program_to_systemd(
    tmp_path: Path, systemd: Systemd, archive: str, check: bool
) -> None:
    plan = wanted(tmp_path, guards={"allow": False}, program=archive)
    outcome = start(plan, archive, check=check)
    found = outcome.object or {}
    assert outcome.changed
    assert found["would"].startswith("be refused: the inventory allows it? no")
    assert "there is no fault test" in found["would"]
    here = tmp_path / "drills" / RUN
    assert here.exists() is (systemd.state / "started").exists() is not check
    if not check:
        assert json.loads((here / "plan.json").read_text()) == plan
        assert (here.stat().st_mode & 0o777, (here / "plan.json").stat().st_mode & 0o777) == (0o700, 0o600)
        asked = (systemd.state / "started").read_text()
        assert asked.endswith(f"/usr/bin/python3 {archive} run {here}/plan.json\n")
        (run,) = runs(tmp_path)
        assert (run["running"], run["because"][:24]) == (False, "It has left no journal; ")


def test_a_plan_that_is_none_is_named(tmp_path: Path, archive: str) -> None:
    plan = wanted(tmp_path)
    del plan["fault"]
    with pytest.raises(Failure, match="standard input is no plan of a drill: KeyError 'fault'"):
        start(plan, archive, check=True)


def test_a_node_that_is_silent_refuses(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = FakeNode(tmp_path)
    node.answers["/nodes/{node}/qemu"] = drill.node.Silent("no route to it")
    for name in ("MARKER", "MACHINE_ID"):
        monkeypatch.setattr(drill.guards, name, tmp_path / "id")
    (tmp_path / "id").write_text("0123\n")
    monkeypatch.setattr(drill.__main__, "Node", lambda *_args, **_more: node)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(wanted(tmp_path))))
    assert drill.__main__.look(Path("-")) == 0
    assert drill_start.foreseen(capsys.readouterr().out)["would"] == "be refused: no route to it"


def test_what_is_armed_is_undone_and_what_is_not_yet_armed_is_stopped(
    drill: Package, tmp_path: Path, systemd: Systemd, archive: str
) -> None:
    (tmp_path / "broken").touch()
    made = cut_off(drill, tmp_path, "a", f"rm -f '{tmp_path}/broken'")
    cut_off(drill, tmp_path, "b", None)
    params = asked(tmp_path, archive)
    foreseen = perform(drill_abort.RESOURCE, Host(read_only=True), params, check=True)
    assert (foreseen.changed, foreseen.object) == (True, {"undone": [], "running": [], "armed": ["a"]})
    assert (tmp_path / "broken").exists()
    outcome = perform(drill_abort.RESOURCE, Host(), params)
    assert outcome.object == {"undone": ["a"], "running": [], "armed": []}
    assert not (tmp_path / "broken").exists()
    assert not (made / "armed").exists()
    assert "stop pvelab-drill-b.service" in systemd.calls
    assert [(run["run"], run["verdict"]) for run in runs(tmp_path)] == [("b", "inconclusive"), ("a", "inconclusive")]
    again = perform(drill_abort.RESOURCE, Host(), params)
    assert (again.changed, again.steps) == (False, [])


def test_a_run_that_is_armed_and_has_lost_its_plan_is_not_passed_over(
    drill: Package, tmp_path: Path, archive: str
) -> None:
    (cut_off(drill, tmp_path, "a", "true") / "plan.json").unlink()
    with pytest.raises(Failure, match=r"ended with 1: a: .*plan\.json is no plan of a drill"):
        perform(drill_abort.RESOURCE, Host(), asked(tmp_path, archive))


def test_a_journal_that_is_none_does_not_keep_others_from_being_undone(
    drill: Package, tmp_path: Path, archive: str
) -> None:
    (tmp_path / "broken").touch()
    (cut_off(drill, tmp_path, "a", "true") / "journal.json").write_text("{")
    cut_off(drill, tmp_path, "b", f"rm -f '{tmp_path}/broken'")
    with pytest.raises(Failure, match="ended with 1: a: "):
        perform(drill_abort.RESOURCE, Host(), asked(tmp_path, archive))
    assert not (tmp_path / "broken").exists()
    assert [run["armed"] for run in runs(tmp_path)] == [False, False]
