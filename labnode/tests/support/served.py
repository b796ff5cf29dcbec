# SPDX-License-Identifier: GPL-3.0-or-later
"""``labnode serve`` as a process of its own that a test may kill, and its API over HTTPS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

BIN = Path(sys.executable).parent / "labnode"
PASSWORD = "correct horse"


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """The first true value of ``condition``; AssertionError naming ``what`` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.02)
    return value


class Served:
    """One labnode process over one state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.session = requests.Session()
        self.session.trust_env = False

    def __enter__(self) -> Served:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def end(self) -> None:
        """Leave no process: stop labnode, and what of its guests that did not stop."""
        if self.process and self.process.poll() is None:
            self.stop()
        for path in self.state.glob("run/[0-9]*"):
            if pid := self.pid(int(path.name)):
                os.kill(pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it and log in."""
        password, endpoint = self.folder / "password", self.state / "endpoint.json"
        password.write_text(PASSWORD + "\n", encoding="utf-8")
        endpoint.unlink(missing_ok=True)
        argv = [BIN, "serve", "--listen", "127.0.0.1:0", "--state", self.state, "--password-file", password]
        with (self.folder / "labnode.log").open("ab") as log:
            self.process = subprocess.Popen([*argv, "--kvm", "off", "--auth-delay", "0"], stdout=log, stderr=log)
        until(lambda: endpoint.exists() or self.process.poll() is not None, "labnode is ready")
        assert self.process.poll() is None, self.log()
        self.url = json.loads(endpoint.read_text(encoding="utf-8"))["url"] + "/api2/json"
        self.session.verify = str(self._certificate())
        ticket = self.call("POST", "/access/ticket", username="root@pam", password=PASSWORD)
        self.session.cookies.set("PVEAuthCookie", ticket["ticket"])
        self.session.headers["CSRFPreventionToken"] = ticket["CSRFPreventionToken"]

    def _certificate(self) -> Path:
        return next(path for path in self.state.rglob("*.pem") if "BEGIN CERTIFICATE" in path.read_text())

    def log(self) -> str:
        """What labnode said on its standard streams."""
        return (self.folder / "labnode.log").read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL, as a crash would have it."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def call(self, method: str, path: str, /, **params: Any) -> Any:
        """The data of an answer; AssertionError with the message for anything but 200."""
        where = "params" if method in ("GET", "DELETE") else "data"
        full = path if path.startswith("/") else f"/nodes/pve1/qemu/{path}".rstrip("/")
        fields = {key.replace("__", "-"): value for key, value in params.items()}
        answer = self.session.request(
            method, self.url + full, timeout=90, headers={"Connection": "close"}, **{where: fields}
        )
        assert answer.status_code == 200, f"{method} {full}: {answer.status_code} {answer.text}"
        return answer.json()["data"]

    def wait(self, upid: str, timeout_s: float = 90.0) -> str:
        """The exit status of a task."""
        path = f"/nodes/pve1/tasks/{upid}/status"
        return until(lambda: self.call("GET", path).get("exitstatus"), f"task {upid} ends", timeout_s)

    def done(self, method: str, path: str, /, **params: Any) -> str:
        """The exit status of the task that a method starts; where it is not OK, what the task said is printed."""
        upid = self.call(method, path, **params)
        status = self.wait(upid)
        if status != "OK":
            print(*(line["t"] for line in self.call("GET", f"/nodes/pve1/tasks/{upid}/log")), sep="\n")
        return status

    def pid(self, vmid: int) -> int | None:
        """The guest's QEMU as its pid file and /proc have it."""
        try:
            pid = int((self.state / f"run/{vmid}/qemu.pid").read_text())
            running = b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if running else None
