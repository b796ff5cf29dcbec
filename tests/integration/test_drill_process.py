# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back where there is no systemd: a process that waits, and then is the script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import PROGRAMS, Package, package, program, soon
from ansible_collections.pvelab.proxmox.tests.integration.drill_process_parts import (
    dead_man,
    here,
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


# processes --------------------------------------------------------------------------------------------------------


def test_a_process_is_known_by_its_number_and_by_when_it_began(drill: Package, tmp_path: Path) -> None:
    with started("sleep", "600") as sleeper:
        life = drill.process.life(sleeper.pid)
        assert (life.alive, life.held) == (True, False)
        soon(lambda: life.argv() == ["sleep", "600"], "the kernel has put its command in place")
        other = drill.process.Life(sleeper.pid, str(int(life.start) + 1))
        assert (other.alive, other.argv(), other.end(signal.SIGKILL, 5.0)) == (False, [], True)
        assert sleeper.poll() is None, "it is another one of the same number"
        (tmp_path / "file").write_text(drill.process.text(life, other))
        assert drill.process.read(tmp_path / "file") == [life, other]
        sleeper.send_signal(signal.SIGSTOP)
        soon(lambda: life.held, "it is held")
        assert not life.end(signal.SIGTERM, 0.2), "what is held does not end"
        assert life.end(signal.SIGKILL, 5.0)
        assert not life.alive
    assert life.end(signal.SIGKILL, 5.0)
    with pytest.raises(ProcessLookupError):
        drill.process.life(sleeper.pid)


def test_what_is_left_of_a_process_does_not_live(drill: Package) -> None:
    with started("true") as ended:
        soon(lambda: drill.site.state(ended.pid) == "Z", "nobody has taken note of it")
        with pytest.raises(ProcessLookupError):
            drill.process.life(ended.pid)


@pytest.mark.parametrize("text", [None, "", "41", "41 1000 1", "a b"])
def test_a_file_that_names_no_process(drill: Package, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "file").write_text(text)
    assert drill.process.read(tmp_path / "file") == []


# rehearsed --------------------------------------------------------------------------------------------------------


def test_a_rehearsal_is_the_script_in_a_process_of_its_own(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path, f"cut -d' ' -f6 /proc/$$/stat > '{tmp_path}/session'")
    made.rehearse()
    assert (made.rehearsed, made.fired(), made.left()) == (True, False, [])
    assert [line.split()[-1] for line in made.log.read_text().splitlines()] == ["rehearsal", "rehearsal"]
    assert int((tmp_path / "session").read_text()) not in (os.getsid(0), 0)
    assert sorted(path.name for path in made.plan.home.iterdir()) == ["plan.json", "undo.log", "undo.sh"]


@pytest.mark.parametrize(
    ("undo", "trouble"),
    [
        ("exit 3", "ended with 3 when it was rehearsed, so nothing was broken"),
        ("kill -KILL $$", "ended with -9 when it was rehearsed, so nothing was broken"),
        ("sleep 60", r"was not done after 0\.5 s"),
    ],
)
def test_a_rehearsal_that_fails(drill: Package, tmp_path: Path, undo: str, trouble: str) -> None:
    made = dead_man(drill, tmp_path, undo, recover_s=0.5)
    with pytest.raises(drill.shell.Trouble, match=trouble):
        made.rehearse()
    assert not made.rehearsed
    assert here(tmp_path) == [], "what hangs is ended with all that it has started"


def test_a_rehearsal_by_a_python_that_is_none(drill: Package, tmp_path: Path) -> None:
    made = drill.deadman.DeadMan(drill.plan.from_json(theirs(tmp_path, python="/none/python")), "true")
    with pytest.raises(drill.shell.Trouble, match="/none/python is not on this host"):
        made.rehearse()


# armed ------------------------------------------------------------------------------------------------------------


def test_armed_proved_and_disarmed_twice(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path)
    assert made.supervisor.name == "no process"
    due = made.arm()
    assert due == pytest.approx(time.monotonic() + 60, abs=5)
    assert made.prove() == due
    life = waiting(made, drill)
    assert (made.supervisor.name, made.left()) == (f"process {life.pid}", [f"timer.process {life.pid}"])
    assert os.getsid(life.pid) == life.pid, "nobody's Ctrl-C reaches it"
    assert {os.readlink(f"/proc/{life.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    assert made.armed_file.exists()
    for _time in range(2):
        made.disarm()
        assert (life.alive, made.left(), made.armed_file.exists()) == (False, [], False)
    assert made.script.exists(), "it may be run by hand still"
    assert not (tmp_path / "asked-systemd").exists()


def test_disarm_without_arm_does_nothing(drill: Package, tmp_path: Path) -> None:
    dead_man(drill, tmp_path).disarm()


ARM = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from drill import deadman, plan
made = deadman.DeadMan(plan.from_json(json.load(sys.stdin)), sys.argv[2])
made.write()
made.arm()
os.killpg(0, signal.SIGKILL)
"""


def test_it_undoes_the_fault_by_itself_when_who_armed_it_was_killed(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path, undo_after_s=2.0)
    (tmp_path / "broken").touch()
    argv = [sys.executable, "-c", ARM, str(PROGRAMS), f"rm -f '{tmp_path}/broken'"]
    plan = json.dumps(theirs(tmp_path, limits={"undo_after_s": 2.0}))
    done = subprocess.run(argv, input=plan, text=True, check=False, timeout=30, start_new_session=True)
    assert done.returncode == -signal.SIGKILL
    life = waiting(made, drill)
    assert life.alive and (tmp_path / "broken").exists() and not made.fired()
    soon(lambda: not (tmp_path / "broken").exists(), "the process has run the script")
    assert made.fired()
    soon(lambda: not life.alive, "it has ended")


def test_one_that_undoes_by_now_is_let_come_to_its_end(drill: Package, tmp_path: Path) -> None:
    text = f"touch '{tmp_path}/begun'; until [ -e '{tmp_path}/go' ]; do :; done; rm -f '{tmp_path}/broken'"
    made = dead_man(drill, tmp_path, text, undo_after_s=0.3)
    (tmp_path / "broken").touch()
    made.arm()
    life = waiting(made, drill)
    soon((tmp_path / "begun").exists, "the script runs")
    with pytest.raises(drill.shell.Trouble, match="would run something else"):
        made.prove()
    made.disarm()
    assert (life.alive, made.left()) == (True, [f"timer.process {life.pid}"]), "and it is told of"
    (tmp_path / "go").touch()
    soon(lambda: not (tmp_path / "broken").exists(), "it has come to its end")
    soon(lambda: made.left() == [], "it has ended")


def test_a_rehearsal_that_nobody_waits_for_is_ended_with_the_rest(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path, f"touch '{tmp_path}/begun'; sleep 600 & wait")
    rehearsal = made.plan.home / "rehearsal.process"
    argv = made.supervisor._argv(rehearsal, "rehearsal", 0.0)
    with started(*argv):
        soon((tmp_path / "begun").exists, "the script runs")
        assert made.left() == [f"rehearsal.process {drill.process.read(rehearsal)[0].pid}"]
        made.disarm()
    assert (made.left(), here(tmp_path)) == ([], [])


def test_what_lives_already_is_not_armed_again(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path)
    made.arm()
    with pytest.raises(drill.shell.Trouble, match="lives already, so nothing was broken"):
        made.arm()
    made.disarm()
    made.arm()


def test_a_process_that_never_says_who_it_is(drill: Package, tmp_path: Path) -> None:
    program(tmp_path / "python", "#!/bin/sh\nexit 0\n")
    made = drill.deadman.DeadMan(drill.plan.from_json(theirs(tmp_path, python=str(tmp_path / "python"))), "true")
    made.plan.home.mkdir(parents=True)
    with pytest.raises(drill.shell.Trouble, match=r"has not written .*timer\.process, so nothing was broken"):
        made.arm()


def test_one_that_was_killed(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path)
    made.arm()
    os.kill(waiting(made, drill).pid, signal.SIGKILL)
    soon(lambda: made.left() == [], "it is gone")
    with pytest.raises(drill.shell.Trouble, match=r"does not live .*so nothing was broken"):
        made.prove()


def test_one_that_is_held(drill: Package, tmp_path: Path) -> None:
    made = dead_man(drill, tmp_path)
    made.arm()
    life = waiting(made, drill)
    os.kill(life.pid, signal.SIGSTOP)
    soon(lambda: life.held, "it is held")
    with pytest.raises(drill.shell.Trouble, match=r"held by a signal.*so nothing was broken"):
        made.prove()
    os.kill(life.pid, signal.SIGCONT)
    soon(lambda: not life.held, "it goes on")
    made.prove()


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        ({"due": -1.0}, "would run something else"),  # it waits no more: it is the script by now
        ({"due": 90.0}, "not armed as it should be"),
        ({"script": "{folder}/other.sh"}, "would run something else"),
        ({"who": "boot"}, "would run something else"),
        ({"record": "{folder}/other.process"}, "would run something else"),
        ({"start": "1"}, "does not live"),
        ({"argv": ["sleep", "600"]}, "would run something else"),
    ],
    ids=str,
)
def test_one_that_is_not_as_it_should_be(drill: Package, tmp_path: Path, change: dict[str, Any], trouble: str) -> None:
    made = dead_man(drill, tmp_path, f"until [ -e '{tmp_path}/go' ]; do :; done")
    record = str(made.plan.home / "timer.process")
    words = {name: str(change.get(name, usual)).format(folder=tmp_path) for name, usual in
             (("record", record), ("script", made.script), ("who", "timer"))}  # fmt: skip
    due = time.monotonic() + change.get("due", 60.0)
    argv = change.get("argv") or [sys.executable, "-Ic", drill.supervisor.WAIT, *words.values(), f"{due:.3f}"]
    with started(*argv) as process:
        soon(drill.process.life(process.pid).argv, "the kernel has its words, a moment after it is started")
        soon(lambda: Path(argv[3]).exists() if len(argv) > 3 else True, "it has said who it is")
        soon(lambda: "due" not in change or change["due"] > 0 or made.log.exists(), "it is the script")
        start = change.get("start") or drill.process.life(process.pid).start
        Path(record).write_text(f"{process.pid} {start}\n")
        with pytest.raises(drill.shell.Trouble, match=trouble):
            made.prove()
