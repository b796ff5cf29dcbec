# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's embedded node: start it, find it again, stop it, remove what it has. And what the demo prints with."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from labnode.machine.places import socket_root

USUAL_PORT = 8006
READY_S = 60.0
STOP_S = 120.0
WORKERS = ("qemu-system", "qemu-img", "qemu-nbd", "vde_", "swtpm", "socat")
HELD = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class NodeError(Exception):
    """The node did not start or stop; one sentence."""


@dataclass(frozen=True)
class Member:
    """A process, told from a later one with the same id."""

    process: psutil.Process

    def kill_if_alive(self) -> None:
        with suppress(psutil.NoSuchProcess):
            if self.process.is_running():
                self.process.kill()


def processes_below(pid: int) -> list[Member]:
    """What a process has started, and what that has started."""
    try:
        return [Member(child) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Node:
    """labnode with its state in `state`; the demo's password and the node's pid are in `state`/demo."""

    def __init__(self, state: Path, program: Path, logs: Path) -> None:
        self.state = state
        self.program = program
        self.log = logs / "labnode.log"
        self.own = state / "demo"
        self.drills = Path(os.path.realpath(state)) / "drill"

    @property
    def endpoint(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.state / "endpoint.json").read_text(encoding="utf-8"))
        return found

    @property
    def url(self) -> str:
        return self.endpoint["url"]

    @property
    def certificate(self) -> Path:
        return self.state / "etc/nodes" / self.endpoint["node"] / "pve-ssl.pem"

    @property
    def password(self) -> str:
        return (self.own / "password").read_text(encoding="utf-8").strip()

    def exists(self) -> bool:
        return self.state.exists()

    def running(self) -> bool:
        """Whether the node that the demo started earlier is still there, and answers."""
        process = self._process()
        if process is None:
            return False
        try:
            host, _, port = self.url.removeprefix("https://").rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5):
                return True
        except (OSError, KeyError, ValueError):
            return False

    def _process(self) -> psutil.Process | None:
        """By its id and by what it is: ids are used again."""
        try:
            process = psutil.Process(int((self.own / "pid").read_text(encoding="utf-8")))
            return process if str(self.state) in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def start(self) -> str:
        """Start it on the usual port, or on a free one; what there is to say about it. Raises NodeError.

        What an interrupted run left behind is removed first, with the guests that it may have left running.
        """
        said = []
        if self.exists():
            self.stop(gently=False)
            self.remove()
            said.append("what an earlier run left is removed")
        self.own.mkdir(parents=True, mode=0o700)
        password = self.own / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(12) + "\n", encoding="utf-8")
        if taken(USUAL_PORT) or not self._launched(USUAL_PORT, password):
            said.append(f"port {USUAL_PORT} is taken, so a free one is used")
            self._launch(0, password)
        return "; ".join([f"up at {self.url}", *said])

    def _launched(self, port: int, password: Path) -> bool:
        """False when somebody took the port after it was looked at."""
        try:
            self._launch(port, password)
        except NodeError as error:
            if "Address already in use" in str(error):
                return False
            raise
        return True

    def _launch(self, port: int, password: Path) -> None:
        command = [str(self.program), "serve", "--listen", f"127.0.0.1:{port}", "--state", str(self.state)]
        command += ["--node", "pve1", "--password-file", str(password), "--kvm", os.environ.get("KVM", "auto")]
        (self.state / "endpoint.json").unlink(missing_ok=True)
        with self.log.open("ab") as log, signals_held():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.state,
            )
            (self.own / "pid").write_text(str(process.pid), encoding="utf-8")
        deadline = time.monotonic() + READY_S
        while not (self.state / "endpoint.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise NodeError(f"the embedded node did not start: {lines[-1] if lines else 'it said nothing'}")
            time.sleep(0.05)

    def stop(self, *, gently: bool = True) -> None:
        """End the node and its guests; also guests whose node was killed. Raises NodeError after two minutes.

        Gently, the guests are shut down; a guest that is still booting takes its time over that.
        """
        self._kill_drills()
        process = self._process()
        if (
            gently
            and process is None
            and (self.state / "etc").exists()
            and (self.own / "password").exists()
            and self._orphans()
        ):
            self._launch(0, self.own / "password")  # it finds its guests again, and stops them when it is told to end
            process = self._process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)
                if not gently:
                    self._kill_orphans("qemu-system")
                try:
                    process.wait(STOP_S)
                except psutil.TimeoutExpired:
                    process.kill()
                    self._kill_orphans()
                    raise NodeError(
                        f"the node (process {process.pid}) did not end in {STOP_S:.0f} s; it was killed"
                    ) from None
        self._kill_orphans()

    def _orphans(self) -> list[psutil.Process]:
        """Processes of this user that work on files below the state (guests, switches, TPMs), and playbooks on it."""
        found = []
        places = {str(self.state), str(socket_root(self.state / "run"))}
        for process in psutil.process_iter(["name", "cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if (process.info["name"] or "").startswith(WORKERS):
                if any(f"{place}/" in line for place in places):
                    found.append(process)
            elif "ansible-playbook" in line and self._is_for_us(process):
                found.append(process)
        return found

    def _is_for_us(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("LAB_STATE") == str(self.state)
        except psutil.Error:
            return False

    def drills_running(self) -> list[psutil.Process]:
        """What a failure drill has left under way: a runner and who keeps it, a way back that waits, what undoes."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            inside = any(f"{self.drills}/" in word for word in process.info["cmdline"] or [])
            if inside and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        return found

    def _kill_drills(self) -> None:
        """The one that keeps a runner undoes what a runner leaves, so whatever comes after them has to go, too."""
        deadline = time.monotonic() + 10
        while (left := self.drills_running()) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)

    def _kill_orphans(self, kind: str = "") -> None:
        orphans = [process for process in self._orphans() if process.info["name"].startswith(kind)]
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=10)

    def remove(self) -> None:
        """Everything it has on disk."""
        sockets = socket_root(self.state / "run")
        shutil.rmtree(self.state, ignore_errors=True)
        if not sockets.is_relative_to(self.state):
            shutil.rmtree(sockets, ignore_errors=True)


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@contextmanager
def signals_held() -> Iterator[None]:
    """Nobody interrupts between the start of a process and the note of its id."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda got, _frame: came.append(got)) for number in HELD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])


class Note:
    """What came of a step, and whether it went as it should."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.well = True

    def __call__(self, text: str, *, well: bool = True) -> None:
        self.said.append(text)
        self.well = self.well and well


class Show:
    """Lines for a person: steps with what came of them and how long they took."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out
        self.colour = out.isatty() and "NO_COLOR" not in os.environ

    def line(self, text: str) -> None:
        with suppress(BrokenPipeError, OSError):  # nobody reads any more; what has to be done is done all the same
            print(text, file=self.out, flush=True)

    def text(self, text: str) -> None:
        for line in text.rstrip("\n").splitlines():
            self.line(line)

    def detail(self, task: str, item: str) -> None:
        self.line(f"    {self._paint('33', '+')} {task}{': ' if item else ''}{item}")

    @contextmanager
    def step(self, title: str) -> Iterator[Note]:
        """Announce, do, and tell the outcome that the body hands over."""
        begun = time.monotonic()
        note = Note()
        self.line(f"{self._paint('1', title)} …")
        yield note
        mark = self._paint("32", "✓") if note.well else self._paint("33", "!")
        self.line(f"  {mark} {'; '.join(note.said) or 'done'} ({time.monotonic() - begun:.0f} s)")

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text


if __name__ == "__main__":
    sys.exit("this is a part of tools/demo.py")
