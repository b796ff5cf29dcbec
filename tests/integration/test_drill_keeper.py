# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner where there is no systemd, and the process that keeps it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import PROGRAMS, RUN, Package, package, soon
from ansible_collections.pvelab.proxmox.tests.integration.drill_process_parts import running, theirs, without_systemd


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from without_systemd(tmp_path, monkeypatch)


STAND_IN = """
import pathlib, signal, sys, time
verb, plan = sys.argv[1], pathlib.Path(sys.argv[2])
home = plan.parent
print(verb, flush=True)
if verb == "close":
    (home / "closed").touch()
    sys.exit(0)
ended = []
signal.signal(signal.SIGTERM, lambda *_none: ended.append(1))
(home / "runs").touch()
while not ended and not (home / "end").exists():
    time.sleep(0.02)
(home / ("was-told" if ended else "came-to-its-end")).touch()
"""


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The directory of a run that has begun, by a program that only waits for its end."""
    (tmp_path / "drill.py").write_text(STAND_IN)
    home = tmp_path / "drills" / RUN
    home.mkdir(parents=True)
    (home / "plan.json").write_text(json.dumps(theirs(tmp_path)))
    done = begin(home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    soon((home / "runs").exists, "the runner runs")
    return home


def begin(home: Path) -> subprocess.CompletedProcess[str]:
    """As the module does: it waits for all that could still write."""
    argv = [sys.executable, "-m", "drill", "begin", str(home / "plan.json")]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, cwd=PROGRAMS)


def keeper_and_runner(drill: Package, home: Path) -> Any:
    found = drill.process.read(home / "runner.process")
    assert len(found) == 2
    return found


def test_a_run_begins_in_a_session_of_its_own_and_is_closed_when_it_ends(drill: Package, begun: Path) -> None:
    keeper, runner = keeper_and_runner(drill, begun)
    assert running(begun)
    assert {os.getsid(life.pid) for life in (keeper, runner)} == {keeper.pid}
    assert psutil.Process(keeper.pid).ppid() != os.getpid()
    again = begin(begun)
    assert (again.returncode, again.stderr.startswith(f"drill: {RUN} runs already")) == (2, True)
    (begun / "end").touch()
    soon((begun / "closed").exists, "it is closed")
    soon(lambda: not running(begun), "nothing runs")
    assert (begun / "came-to-its-end").exists()
    assert (begun / "runner.out").read_text() == "run\nclose\n"


def test_a_run_that_is_told_to_end_is_waited_for(drill: Package, begun: Path) -> None:
    drill.supervisor.stop(begun)
    assert (begun / "was-told").exists() and (begun / "closed").exists()
    assert not any(life.alive for life in keeper_and_runner(drill, begun))
    assert not running(begun)
    drill.supervisor.stop(begun)


def test_a_runner_that_dies_is_closed(drill: Package, begun: Path) -> None:
    keeper, runner = keeper_and_runner(drill, begun)
    os.kill(runner.pid, signal.SIGKILL)
    soon((begun / "closed").exists, "it is closed")
    soon(lambda: not keeper.alive, "nobody is left")
    assert not (begun / "was-told").exists()


def test_a_runner_whose_keeper_dies_is_told_to_end_by_itself(drill: Package, begun: Path) -> None:
    keeper, runner = keeper_and_runner(drill, begun)
    os.kill(keeper.pid, signal.SIGKILL)
    soon(lambda: not keeper.alive, "its keeper is gone")
    assert runner.alive and running(begun)
    drill.supervisor.stop(begun)
    assert (begun / "was-told").exists() and not runner.alive


def test_a_runner_that_does_not_end_is_trouble(drill: Package, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill.supervisor, "STOP_S", 0.3)
    keeper, _runner = keeper_and_runner(drill, begun)
    os.kill(keeper.pid, signal.SIGSTOP)
    with pytest.raises(drill.shell.Trouble, match=rf"the runner of {RUN} \(process {keeper.pid}\) did not end within"):
        drill.supervisor.stop(begun)


def test_a_terminal_that_is_closed_ends_nothing(drill: Package, begun: Path) -> None:
    for life in keeper_and_runner(drill, begun):
        os.kill(life.pid, signal.SIGHUP)
    (begun / "end").touch()
    soon((begun / "closed").exists, "it is closed")
    assert (begun / "came-to-its-end").exists()


def test_a_run_that_cannot_begin_says_why(drill: Package, tmp_path: Path) -> None:
    home = tmp_path / "drills" / RUN
    home.mkdir(parents=True)
    (home / "plan.json").write_text(json.dumps(theirs(tmp_path, python="/none/python")))
    done = begin(home)
    assert (done.returncode, f"did not begin; {home}/runner.out says why" in done.stderr) == (2, True)
    assert "/none/python" in (home / "runner.out").read_text()
    assert not running(home)
    drill.supervisor.stop(home)
