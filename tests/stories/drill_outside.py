# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as it is seen from outside: an API that is hung or gone for a time, whose clock is not ours, and an SSH."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import PROGRAMS
from labnode.store import Store
from labnode.tls import ensure_certificate, server_context

BANNER = b"SSH-2.0-OpenSSH_10.0\r\n"


class Server:
    """Listens on a port of its own until the end. ``truth``: when it was away, from and to, as it knows itself."""

    def __init__(self) -> None:
        self.port = _bound(0)
        self.truth: list[tuple[float, float]] = []
        self._lines: list[socket.socket] = []
        self._away = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ends.set()
        self._thread.join()

    def refuse(self, seconds: float) -> None:
        """Be away for a time: nobody listens, and what was open is closed."""
        self._pause(seconds, self._away)

    def _pause(self, seconds: float, how: threading.Event) -> None:
        how.set()
        timer = threading.Timer(seconds, how.clear)
        timer.start()
        timer.join()

    def _live(self) -> None:
        while not self._ends.is_set():
            with socket.create_server(("127.0.0.1", self.port), backlog=64) as door:
                if self.truth:
                    self.truth[-1] = (self.truth[-1][0], time.monotonic())
                door.settimeout(0.01)
                while not self._ends.is_set() and not self._away.is_set():
                    with suppress(TimeoutError):
                        line, _address = door.accept()
                        self._lines.append(line)
                        threading.Thread(target=self._serve, args=(line,), daemon=True).start()
            self.truth.append((time.monotonic(), time.monotonic()))
            for line in self._lines:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
                line.close()
            self._lines.clear()
            while self._away.is_set() and not self._ends.is_set():
                self._ends.wait(0.005)

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError):
            line.sendall(BANNER)


class Api(Server):
    """One that answers requests, with the time by a clock that is ``ahead`` of ours; it may hang, too."""

    def __init__(self, folder: Path, ahead: float = 0.0) -> None:
        super().__init__()
        self.context = server_context(*ensure_certificate(Store(folder), "pve1"))
        self.ahead = ahead
        self.asked = 0
        self.hung: list[tuple[float, float]] = []
        self._hangs = threading.Event()

    def hang(self, seconds: float) -> None:
        """Answer nothing for a time, though connections are accepted."""
        began = time.monotonic()
        self._pause(seconds, self._hangs)
        self.hung.append((began, time.monotonic()))

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError):
            self._stay()
            with self.context.wrap_socket(line, server_side=True) as safe:
                self._lines.append(safe)
                while request := safe.recv(4096):
                    assert request.startswith(b"GET /api2/json/access/domains HTTP/1.1\r\n")
                    assert b"uthorization" not in request
                    self._stay()
                    self.asked += 1
                    safe.sendall(self._answer())

    def _stay(self) -> None:
        while self._hangs.is_set():
            self._ends.wait(0.005)

    def _answer(self) -> bytes:
        date = formatdate(int(time.time() + self.ahead), usegmt=True)
        body = b'{"data":[]}'
        return f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _bound(port: int) -> int:
    with socket.create_server(("127.0.0.1", port)) as door:
        return int(door.getsockname()[1])


def post(folder: Path, *probes: dict[str, Any], ends_s: float = 60.0) -> Path:
    """The file of somebody who looks, in a directory of its own."""
    path = folder / "vantage/vantage.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"name": "the controller", "probes": list(probes), "ends_s": ends_s}))
    return path


def environment() -> dict[str, str]:
    """In which Python finds the program."""
    return {**os.environ, "PYTHONPATH": str(PROGRAMS), "PYTHONDONTWRITEBYTECODE": "1"}


def program(verb: str, path: Path) -> str:
    """What the program prints."""
    done = subprocess.run(
        [sys.executable, "-m", "drill", verb, str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def looking(path: Path) -> Iterator[None]:
    """Somebody looks in a process that is nobody's child."""
    program("vantage", path)
    try:
        yield
    finally:
        program("leave", path)


def seen(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program("seen", path))
    return found
