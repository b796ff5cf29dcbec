# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role has the host do beside a run: look, have guests run again, and undo what was cut off."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    FakeNode,
    Package,
    Systemd,
    package,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def node(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    made = FakeNode(tmp_path)
    monkeypatch.setattr(drill.__main__, "Node", lambda *_args, **_more: made)
    return made


@pytest.fixture(autouse=True)
def systemd(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(tmp_path, monkeypatch)
    monkeypatch.setattr(drill.deadman, "UNITS", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    yield made
    made.end()


def home(folder: Path, **more: Any) -> Path:
    """A run's directory with its plan."""
    made = folder / "drills" / str(more.get("run", RUN))
    made.mkdir(parents=True)
    (made / "plan.json").write_text(json.dumps(wanted(folder, **more)))
    return made


def armed(drill: Package, folder: Path, undo: str, **more: Any) -> Path:
    """A run that was cut off behind its injection."""
    made = home(folder, **more)
    plan = drill.plan.read(made / "plan.json")
    journal = drill.journal.Journal(plan)
    journal.begin()
    journal.save()
    deadman = drill.deadman.DeadMan(plan, undo)
    deadman.write()
    deadman.arm()
    return made


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ({"status": "stopped", "qmpstatus": None}, "start"),
        ({"qmpstatus": "stopped", "status": "stopped"}, "start"),
        ({"qmpstatus": "io-error"}, "resume"),
        ({"qmpstatus": "paused"}, "resume"),
        ({"qmpstatus": "internal-error"}, "reset"),
        ({"qmpstatus": "guest-panicked"}, "reset"),
    ],
)
def test_a_guest_gets_what_its_state_asks_for(
    drill: Package, node: FakeNode, tmp_path: Path, state: dict[str, Any], asked: str
) -> None:
    node.guests[1].update(state)
    real = node.task

    def task(method: str, path: str, *, within_s: float) -> str:
        node.guests[1].update(status="running", qmpstatus="running")
        return real(method, path, within_s=within_s)

    node.task = task  # type: ignore[method-assign]
    assert drill.__main__.restore(home(tmp_path) / "plan.json", [101, 103]) == 0
    assert node.done == [("POST", f"/nodes/{{node}}/qemu/103/status/{asked}")]


def test_guests_that_run_get_nothing(drill: Package, node: FakeNode, tmp_path: Path) -> None:
    assert drill.__main__.restore(home(tmp_path) / "plan.json", [101, 103]) == 0
    assert node.done == []


def test_a_guest_that_does_not_run_again(
    drill: Package, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill.__main__, "RESTORE_S", 0.1)
    node.guests[1].update(qmpstatus="io-error")
    path = home(tmp_path) / "plan.json"
    with pytest.raises(drill.shell.Trouble, match=r"guest 103 did not run again after 0\.1 s: guest 103 is io-error"):
        drill.__main__.restore(path, [101, 103])
    node.answers["/nodes/{node}/qemu"] = drill.node.Silent("no route")
    with pytest.raises(drill.shell.Trouble, match=r"guest 101, 103 did not run again after .*: no route"):
        drill.__main__.restore(path, [101, 103])


def test_what_was_cut_off_is_undone_and_says_so(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    (tmp_path / "broken").touch()
    made = armed(drill, tmp_path, f"rm -f '{tmp_path}/broken'")
    for _time in range(2):
        assert drill.__main__.abort(tmp_path / "drills") == 0
        assert not (tmp_path / "broken").exists()
        assert systemd.units() == []
    data = json.loads((made / "journal.json").read_text())
    assert (data["verdict"], data["because"][:14]) == ("inconclusive", "It was cut off")
    assert "began" in (made / "undo.log").read_text()


def test_one_that_cannot_be_undone_stays_armed_and_does_not_keep_others_from_it(
    drill: Package, tmp_path: Path, systemd: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").touch()
    first = armed(drill, tmp_path, "false", run="20260101T000000Z-first")
    armed(drill, tmp_path, f"rm -f '{tmp_path}/broken'", run="20260102T000000Z-second")
    assert drill.__main__.abort(tmp_path / "drills") == 1
    assert not (tmp_path / "broken").exists()
    assert "20260101T000000Z-first: the way back ended with 1" in capsys.readouterr().err
    assert (first / "armed").exists()
    assert "pvelab-undo-20260101T000000Z-first.timer" in systemd.units()


def test_a_run_that_has_ended_is_left_alone(drill: Package, tmp_path: Path, systemd: Systemd) -> None:
    made = home(tmp_path)
    (made / "journal.json").write_text('{"verdict": "passed"}')
    assert drill.__main__.abort(tmp_path / "drills") == 0
    assert json.loads((made / "journal.json").read_text()) == {"verdict": "passed"}
    assert systemd.calls == ""


def test_a_run_that_has_a_verdict_and_is_armed_still_is_undone(
    drill: Package, tmp_path: Path, systemd: Systemd
) -> None:
    (tmp_path / "broken").touch()
    made = armed(drill, tmp_path, f"rm -f '{tmp_path}/broken'")
    (made / "journal.json").write_text('{"verdict": "not_recovered"}')
    assert drill.__main__.abort(tmp_path / "drills") == 0
    assert not (tmp_path / "broken").exists()
    assert systemd.units() == []
    assert json.loads((made / "journal.json").read_text()) == {"verdict": "not_recovered"}


def test_a_look_says_everything_and_changes_nothing(
    drill: Package, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = drill.faults.fault.Fault(("guest 103",), "break", "mend", (drill.signs.silent(),))
    monkeypatch.setitem(drill.faults.KINDS, "test", lambda _plan, _node: fault)
    monkeypatch.setattr(drill.guards, "MARKER", tmp_path / "no-marker")
    path = home(tmp_path) / "plan.json"
    assert drill.__main__.look(path) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["targets"], found["inject"], found["undo"]) == (["guest 103"], "break", "mend")
    assert (found["signs"], found["skipped"]) == (["the node's API is silent"], "")
    assert "the host allows it? no" in found["refused"]
    assert [file.name for file in path.parent.iterdir()] == ["plan.json"]


def test_a_second_drill_on_the_same_host(
    drill: Package, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drill.__main__, "LOCK", tmp_path / "lock")
    path = home(tmp_path) / "plan.json"
    with (tmp_path / "lock").open("w") as lock:
        drill.__main__.fcntl.flock(lock, drill.__main__.fcntl.LOCK_EX)
        monkeypatch.setattr(sys, "argv", ["drill", "run", str(path)])
        assert drill.__main__.main() == 2
    assert "another drill runs on this host" in capsys.readouterr().err
    assert not (path.parent / "journal.json").exists()
