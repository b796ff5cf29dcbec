# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill that is refused: nothing is touched, nothing but its journal is left, and it says what to do."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host, hosted
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, wanted
from ansible_collections.pvelab.proxmox.tests.integration.drill_trials import loaded, program


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from loaded()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from hosted(drill, tmp_path, monkeypatch)


def another_guest(host: Host) -> None:
    host.node.guests.append({"vmid": 200, "status": "running", "qmpstatus": "running"})


def a_container(host: Host) -> None:
    host.node.answers["/nodes/{node}/lxc"] = [{"vmid": 201, "status": "running"}]


def no_tag(host: Host) -> None:
    host.node.guests[1]["tags"] = "canary"


def a_fence(host: Host) -> None:
    host.node.answers["/cluster/ha/resources"] = [{"sid": "vm:200"}]


def a_backup(host: Host) -> None:
    host.node.answers["/nodes/{node}/tasks"] = [{"type": "vzdump", "id": ""}]


def a_locked_guest(host: Host) -> None:
    host.node.guests[0]["lock"] = "backup"


def a_stop(host: Host) -> None:
    host.stop_file.touch()


def an_earlier_filler(host: Host) -> None:
    (host.folder / "pvelab-filler").touch()


Change = Callable[[Host], None]
REFUSED: dict[str, tuple[Change, str, str]] = {
    "a guest that nobody has listed": (another_guest, "not listed: 200", "list them as bystanders in drill_targets"),
    "a container that nobody has listed": (a_container, "not listed: 201", "stop them, move them away, or list them"),
    "a victim without the tag": (no_tag, "without drill-ok: 103", "add the tag drill-ok to each guest that may suffer"),
    "a fence that is armed": (a_fence, "managed: vm:200", "disarm it (ha-manager crm-command disarm-ha freeze)"),
    "a backup that runs": (a_backup, "task vzdump runs", "wait until it has ended"),
    "a guest that is locked for a backup": (a_locked_guest, "guest 101 is locked (backup)", "wait until it has ended"),
    "an emergency stop": (a_stop, "stop", "when all is well again: rm "),
    "what an earlier drill has left": (an_earlier_filler, "an earlier drill has left", "run drill_abort first"),
}


@pytest.mark.parametrize(("change", "why", "remedy"), REFUSED.values(), ids=REFUSED)
def test_nothing_is_touched_and_it_says_what_to_do(host: Host, change: Change, why: str, remedy: str) -> None:
    change(host)
    data = host.run(radius="host", guards={"confirm": "pve1"}, options={"path": str(host.folder)})
    assert data["verdict"] == "aborted_preflight"
    assert data["because"].startswith("Nothing was touched: ")
    assert why in data["because"] and remedy in data["because"], data["because"]
    untouched(host)
    assert [path.name for path in host.home.iterdir()] == ["journal.json"]
    assert [row["name"] for row in data["states"]] == ["preflight", "report"]


def untouched(host: Host) -> None:
    """Nobody was asked to change anything: no unit, no service, no guest."""
    asked = {line.removeprefix("--quiet ").split()[0] for line in host.systemd.calls.splitlines()}
    assert asked <= {"show", "is-system-running", "list-units"}
    assert (host.node.done, list(host.held.iterdir()), list((host.folder / "etc").iterdir())) == ([], [], [])


def test_a_second_drill_is_refused_before_it_looks_at_anything(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock, path = host.folder / "lock", host.folder / "plan.json"
    monkeypatch.setattr(program(), "LOCK", lock)
    path.write_text(json.dumps(wanted(host.folder)))
    monkeypatch.setattr("sys.argv", ["drill", "run", str(path)])
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert program().main() == 2
    said = capsys.readouterr().err
    assert said == f"drill: another drill runs on this host ({lock} is held); wait for it, or abort it\n"
    untouched(host)
    assert not host.home.exists()


LATER = ("a guest that nobody has listed", "a backup that runs")


@pytest.mark.parametrize(("change", "why", "remedy"), [REFUSED[name] for name in LATER], ids=LATER)
def test_what_changes_before_the_fault_is_refused_too(host: Host, change: Change, why: str, remedy: str) -> None:
    """Between the first look and the fault: the way back is armed by then, and is disarmed again."""
    host.undo = f"touch {host.folder}/rehearsed"
    real = host.node.get

    def get(path: str, **more: Any) -> Any:
        if (host.folder / "rehearsed").exists():
            (host.folder / "rehearsed").unlink()
            change(host)
        return real(path, **more)

    host.patch.setattr(host.node, "get", get)
    data = host.run(radius="host", guards={"confirm": "pve1"})
    assert (data["verdict"], data["marks"]["inject"]) == ("aborted_preflight", None)
    assert why in data["because"] and remedy in data["because"], data["because"]
    assert list(host.held.iterdir()) == [] and host.systemd.units() == []


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ({"exited": 1, "exitcode": 1, "out-data": ""}, "guest 101 does not reach 10.0.0.3 as it is, so nothing"),
        (None, "the agent of guest 101 does not tell whether it reaches 10.0.0.3: it does not run"),
    ],
    ids=["no answer", "no agent"],
)
def test_where_nobody_reaches_anybody_nothing_is_learned(host: Host, end: dict[str, Any] | None, why: str) -> None:
    real = host.node.get

    def ask(_method: str, _path: str, _body: Any = None) -> Any:
        if end is None:
            raise host.drill.shell.Trouble("it does not run")
        return {"pid": 1}

    host.patch.setattr(host.node, "ask", ask, raising=False)
    host.patch.setattr(host.node, "get", lambda path, **more: end if "exec-status" in path else real(path, **more))
    data = host.run(reach=[{"from": 101, "to": "10.0.0.3"}], limits={"answer_s": 2})
    assert (data["verdict"], data["marks"]["inject"]) == ("aborted_preflight", None)
    assert why in data["because"]
    untouched(host)
