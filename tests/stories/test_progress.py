# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback `progress` in a real run: in a terminal, in a pipe, for a machine, and when the run is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress import Progress
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call
from ansible_collections.pvelab.proxmox.tests.integration.api_parts import SECRET, Certificate, api_for
from ansible_collections.pvelab.proxmox.tests.integration.bad_server import Answer, BadServer
from ansible_collections.pvelab.proxmox.tests.lab import ROOT, until
from ansible_collections.pvelab.proxmox.tests.stories.progress_parts import (
    ERASE,
    SAID,
    SlowNode,
    Terminal,
    command,
    environment,
)

BAR = "[##########..........]"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def node(certificate: Certificate) -> Iterator[SlowNode]:
    behaviour = SlowNode()
    # A test that fails ends, too.
    limit = threading.Timer(60, behaviour.released.set)
    limit.start()
    try:
        with BadServer(behaviour, certificate.path, certificate.key) as server:
            behaviour.host = server.host
            yield behaviour
    finally:
        limit.cancel()


def test_a_terminal_has_a_bar_that_leaves_no_trace(node: SlowNode, certificate: Certificate, tmp_path: Path) -> None:
    terminal = Terminal(command(tmp_path), environment(node.host, certificate, tmp_path))
    with closing(terminal):
        terminal.read(SAID)
        node.released.set()
        terminal.read()
        assert terminal.process.wait() == 0, terminal.text
    drawn = next(part for part in terminal.text.split(ERASE) if SAID in part).split("\n")[0]
    assert drawn.startswith(f"{BAR} 0:") and "3 of 8 done; 2 running; 1 failed; Wait for it (localhost)" in drawn
    assert f"thing web1: qmslow 104: {SAID} ********" in drawn and "\x1b" not in drawn
    assert SECRET not in terminal.text
    screen = terminal.screen()
    assert not [line for line in screen if BAR in line or SAID in line]
    plain = [line for line in screen if line.startswith(("TASK", "changed", "PLAY RECAP")) or "goodbye" in line]
    assert [line.split(" *")[0] for line in plain] == [
        "TASK [Wait for it]", "changed: [localhost]", "TASK [Say goodbye]", '    "msg": "goodbye"', "PLAY RECAP",
    ]  # fmt: skip


def test_nothing_of_a_secret_task_but_its_name_is_shown(
    node: SlowNode, certificate: Certificate, tmp_path: Path
) -> None:
    terminal = Terminal(command(tmp_path, hidden=True), environment(node.host, certificate, tmp_path))
    with closing(terminal):
        terminal.read(f"{BAR} 0:")
        assert node.asked.wait(30)
        node.released.set()
        terminal.read()
    assert "Wait for it (localhost)" in terminal.text
    assert SAID not in terminal.text and "web1" not in terminal.text


def piped(node: SlowNode, certificate: Certificate, folder: Path, **more: str) -> subprocess.Popen[str]:
    """A run whose output is no terminal."""
    env = environment(node.host, certificate, folder, PVELAB_PROGRESS_INTERVAL="0.5", **more)
    out = subprocess.PIPE
    return subprocess.Popen(
        command(folder), stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True, env=env, cwd=ROOT
    )


def test_a_log_has_plain_lines(node: SlowNode, certificate: Certificate, tmp_path: Path) -> None:
    with piped(node, certificate, tmp_path, PYTHONUNBUFFERED="1") as run:
        assert run.stdout is not None
        told = next((line for line in run.stdout if SAID in line), "")
        node.released.set()
        rest = run.stdout.read()
    assert run.returncode == 0
    assert told.startswith("progress: running for 0:") and told.endswith("******** [31m\n"), told
    assert ": Wait for it (localhost): 3 of 8 done; 2 running; 1 failed; thing web1: qmslow 104: " in told
    assert "\x1b" not in told + rest and SECRET not in told + rest
    assert "goodbye" in rest


@pytest.mark.parametrize("callback", ["ansible.posix.json", "json"])
def test_output_for_a_machine_is_left_alone(
    node: SlowNode, certificate: Certificate, tmp_path: Path, callback: str
) -> None:
    with piped(node, certificate, tmp_path, ANSIBLE_STDOUT_CALLBACK=callback) as run:
        until(lambda: node.statuses > 5, "the task is waited for")
        node.released.set()
        said, complained = run.communicate(timeout=60)
    assert json.loads(said)["plays"][0]["tasks"][1]["hosts"]["localhost"]["msg"] == "goodbye", complained
    assert not node.asked.is_set(), "nobody watches, so the node is not asked for the log"


def test_output_for_a_machine_is_left_alone_in_a_terminal(
    node: SlowNode, certificate: Certificate, tmp_path: Path
) -> None:
    env = environment(node.host, certificate, tmp_path, ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    terminal = Terminal(command(tmp_path), env)
    with closing(terminal):
        until(lambda: node.statuses > 5, "the task is waited for")
        node.released.set()
        terminal.read()
    assert json.loads(terminal.text)["stats"]["localhost"]["ok"] == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_leaves_nothing(
    node: SlowNode, certificate: Certificate, tmp_path: Path, how: signal.Signals
) -> None:
    terminal = Terminal(command(tmp_path), environment(node.host, certificate, tmp_path))
    with closing(terminal):
        terminal.read(SAID)
        os.kill(terminal.process.pid, how)
        terminal.process.wait(30)
        if how == signal.SIGINT:
            terminal.read("interrupted")
            assert not [line for line in terminal.screen() if BAR in line]
        # The module need not end with the run that has begun it, and has nobody to tell any more.
        node.released.set()
    left = [path for path in tmp_path.rglob("*") if path.exists() and not path.is_dir()]
    assert [path for path in left if not stat.S_ISREG(path.stat().st_mode)] == []
    assert [path for path in left if "progress" in path.name and path.suffix != ".py"] == []


class Watcher(Progress):
    """Somebody who watches."""

    listens = True

    def __init__(self) -> None:
        self.texts: list[str | None] = []

    def tell(self, *, text: str | None = None, **_numbers: int | None) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("size", [1000, 12 << 20])
def test_an_upload_tells_how_much_of_it_has_gone(certificate: Certificate, tmp_path: Path, size: int) -> None:
    file = tmp_path / "disk.raw"
    with file.open("wb") as out:
        out.truncate(size)
    watcher = Watcher()
    with (
        BadServer(lambda seen: Answer(), certificate.path, certificate.key) as server,
        api_for(server.host, api_fingerprint=[certificate.pin]) as api,
    ):
        api.progress = watcher
        api.do(Call("POST", "/nodes/pve1/storage/local/upload", {"content": "import"}, file=str(file)))
        assert len(server.seen[0].body) > size
    assert watcher.texts[-1] == "100 % of 0.0 GiB sent"
    assert len(watcher.texts) > size >> 20, "a large file goes in pieces"
