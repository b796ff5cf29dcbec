# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's API that is one process of a user: held, killed and started anew as it was, whatever its words are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import RUN, Package, Stands, package, soon

PROGRAM = "import os, signal, sys; print(os.getcwd(), *sys.argv[1:], file=sys.stderr, flush=True); signal.pause()"
WORDS = ["serve", "a word of several", "it's", "$HOME"]


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    (tmp_path / "drills" / RUN).mkdir(parents=True)
    return Stands(drill, tmp_path, monkeypatch)


@pytest.fixture
def number(tmp_path: Path) -> Iterator[Path]:
    """The pid file of a process that runs, and has said so in its log."""
    file, log = tmp_path / "node.pid", tmp_path / "node.log"
    with log.open("wb") as said:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, *WORDS], stderr=said, cwd=tmp_path)
    file.write_text(f"{process.pid}\n")
    soon(log.read_text, "it runs")
    yield file
    process.kill()
    process.wait()
    with suppress(ProcessLookupError, ValueError):
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_it_is_held_and_let_go_on(host: Stands, number: Path) -> None:
    fault = host.fault("control_plane_down", how="hang", pid_file=str(number))
    held, silent = fault.signs
    before = fault.looks["the node's process"]()
    assert held.test(None, 0.0) is None
    host.do(fault.inject)
    assert soon(lambda: held.test(None, 0.0), "it is held") == f"process {int(number.read_text())} is in state T"
    assert silent.name == "the node's API is silent"
    assert fault.looks["the node's process"]() != before
    for _time in range(2):
        host.do(fault.undo)
    assert soon(lambda: fault.looks["the node's process"]() == before, "it goes on")
    assert held.test(None, 0.0) is None


def test_it_is_killed_and_started_with_what_it_was_started_with(host: Stands, number: Path, tmp_path: Path) -> None:
    pid = int(number.read_text())
    fault = host.fault("control_plane_down", how="kill", pid_file=str(number))
    gone, before = fault.signs[0], fault.looks["the node's process"]()
    host.do(fault.undo)
    assert (int(number.read_text()), gone.test(None, 0.0)) == (pid, None), "what runs is not started twice"
    host.do(fault.inject)
    assert soon(lambda: gone.test(None, 0.0), "it is gone") == f"process {pid} is gone"
    assert fault.looks["the node's process"]() != before
    for _time in range(2):
        host.do(fault.undo)
        assert soon(lambda: fault.looks["the node's process"]() == before, "it runs again")
    assert int(number.read_text()) != pid
    said = soon(lambda: (lines := (tmp_path / "node.log").read_text().splitlines())[1:] and lines, "it says so")
    assert said == [" ".join([str(tmp_path), *WORDS])] * 2


def test_a_pid_file_of_nobody_is_refused_before_anything_is_touched(host: Stands, tmp_path: Path) -> None:
    (tmp_path / "node.pid").write_text("0\n")
    with pytest.raises(host.drill.shell.Trouble, match=r"node\.pid is to name the process of the node's API"):
        host.fault("control_plane_down", how="kill", pid_file=str(tmp_path / "node.pid"))
