# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role has the host do beside a run: look, have guests run again, and undo what was cut off."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_agents import Agents
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


def test_what_it_has_put_into_a_guest_is_taken_away_too(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Agents(drill, tmp_path)
    monkeypatch.setattr(drill.__main__, "Node", lambda *_args, **_more: made)
    known = {"canaries": {"101": {"by": "agent", "directory": str(tmp_path)}}}
    run = armed(drill, tmp_path, "true", **known)
    ring = tmp_path / f"pvelab-canary-{RUN}"
    ring.write_text("something")
    made.dumb.set()
    assert drill.__main__.undo(run / "plan.json") == 0
    assert f"guests: {ring} may still be in guest 101" in capsys.readouterr().err
    made.dumb.clear()
    (run / "journal.json").write_text('{"verdict": null}')
    assert drill.__main__.undo(run / "plan.json") == 0
    assert not ring.exists()


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


# asking the node --------------------------------------------------------------------------------------------------

MONITOR = "/nodes/{node}/qemu/103/monitor"
UPID = "UPID:pve1:000003E8:00000000:5F2C9D8A:qmconfig:103:root@pam!drill:"


class Answers:
    """The real client over a connection that is none: ``answers`` in their order, ``asked`` what was sent for them."""

    def __init__(self, drill: Package, folder: Path, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str, Mapping[str, Any] | None]]()
        monkeypatch.setattr(drill.node.Node, "_exchange", self._exchange)
        self.node = drill.node.Node(wanted(folder)["api"], "pve1", timeout_s=1)

    def _exchange(self, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
        self.asked.append((method, target, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_line_of_shell_asks_the_node_what_it_says(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = home(tmp_path)
    node = Answers(drill, tmp_path, monkeypatch, "", {"memory": "96"})
    line = drill.plan.read(made / "plan.json").ask("POST", MONITOR, command="balloon 72", note="a=b 'c'")
    python, program, *words = shlex.split(line)
    assert (python, program) == ("/usr/bin/python3", str(tmp_path / "drill.py"))
    for argv in (words, ["ask", str(made / "plan.json"), "GET", "/nodes/{node}/qemu/103/config", "current=1"]):
        monkeypatch.setattr(sys, "argv", ["drill", *argv])
        assert drill.__main__.main() == 0
    assert node.asked == [
        ("POST", "/api2/json/nodes/pve1/qemu/103/monitor", {"command": "balloon 72", "note": "a=b 'c'"}),
        ("GET", "/api2/json/nodes/pve1/qemu/103/config?current=1", None),
    ]
    assert capsys.readouterr().out == '""\n{"memory": "96"}\n'


def test_a_node_that_refuses_fails_the_line(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = home(tmp_path)
    node = Answers(drill, tmp_path, monkeypatch, OSError("answers 403 Permission check failed"))
    monkeypatch.setattr(sys, "argv", ["drill", "ask", str(made / "plan.json"), "POST", MONITOR, "command=balloon 72"])
    assert drill.__main__.main() == 2
    assert "answers 403 Permission check failed" in capsys.readouterr().err
    assert len(node.asked) == 1, "what changes something is not sent twice"


@pytest.mark.parametrize("end", ["OK", "WARNINGS: 1"])
def test_a_task_is_waited_for(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    node = Answers(
        *(drill, tmp_path, monkeypatch),
        *(UPID, {"status": "running"}, {"status": "stopped", "exitstatus": end}),
    )
    assert node.node.do("POST", "/nodes/{node}/qemu/103/config", {"cpuunits": 500}, within_s=5) == end
    assert [asked[0] for asked in node.asked] == ["POST", "GET", "GET"]
    assert node.asked[1][1].endswith(f"/tasks/{UPID}/status")


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ([], "ended with: job errors$"),
        (
            [{"n": 1, "t": "INFO: a"}, {"n": 2, "t": "ERROR: Backup of VM 103 failed - got timeout"}],
            "ended with: job errors; ERROR: Backup of VM 103 failed - got timeout$",
        ),
        (OSError("answers 500"), "ended with: job errors$"),
    ],
)
def test_a_task_that_fails_is_told_of_in_its_own_words(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Any, says: str
) -> None:
    node = Answers(drill, tmp_path, monkeypatch, UPID, {"status": "stopped", "exitstatus": "job errors"}, log)
    with pytest.raises(drill.shell.Trouble, match=f"POST /nodes/{{node}}/vzdump {says}"):
        node.node.do("POST", "/nodes/{node}/vzdump", {"vmid": 103}, within_s=5)
    assert node.asked[-1][1].endswith(f"/tasks/{UPID}/log?limit=500")


def test_a_task_that_does_not_end(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Answers(drill, tmp_path, monkeypatch, UPID, {"status": "running"})
    with pytest.raises(drill.shell.Trouble, match=r"POST /x was not done after -1 s"):
        node.node.do("POST", "/x", {}, within_s=-1)
    assert node.answers == []


def test_what_is_no_task_is_the_answer(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Answers(drill, tmp_path, monkeypatch, None, {"a": 1}, UPID, {"status": "stopped", "exitstatus": "OK"})
    assert node.node.do("PUT", "/x", {"balloon": 64}, within_s=1) is None
    assert node.node.do("GET", "/x", {"full": 1}, within_s=1) == {"a": 1}
    assert node.node.task("POST", "/x", within_s=1) == "OK"
    assert node.asked[:2] == [("PUT", "/api2/json/x", {"balloon": 64}), ("GET", "/api2/json/x?full=1", None)]
