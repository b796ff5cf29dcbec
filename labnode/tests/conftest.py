# SPDX-License-Identifier: GPL-3.0-or-later
"""A real `labnode serve` on a free loopback port, and a client for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import HealthCheck, settings

PASSWORD = "correct horse"
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
# How long an example takes to make or to run on a busy machine is no failure of the property.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.02)
    return value


class Client:
    """One identity over HTTPS; answers are requests' responses, ``data`` unwraps those that must succeed."""

    def __init__(self, url: str) -> None:
        self.base = f"{url}/api2/json"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = False

    def login(self, user: str = "root@pam", password: str = PASSWORD, **extra: str) -> dict[str, Any]:
        """Log in with a password and keep ticket and CSRF token."""
        answer = self.data("POST", "/access/ticket", username=user, password=password, **extra)
        self.session.cookies.set("PVEAuthCookie", answer["ticket"])
        self.session.headers["CSRFPreventionToken"] = answer["CSRFPreventionToken"]
        return dict(answer)

    def token(self, ident: str, value: str) -> Client:
        """Use an API token from now on."""
        self.session.headers["Authorization"] = f"PVEAPIToken={ident}={value}"
        return self

    def call(self, method: str, path: str, /, **params: Any) -> requests.Response:
        """One request; ``__`` in a parameter's name stands for ``-``."""
        params = {name.replace("__", "-"): value for name, value in params.items()}
        where = {("params" if method in ("GET", "DELETE") else "data"): params}
        return self.session.request(method, self.base + path, timeout=30, **where)  # type: ignore[arg-type]

    def data(self, method: str, path: str, /, **params: Any) -> Any:
        """The data of a request that must succeed."""
        answer = self.call(method, path, **params)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.reason} {answer.text}"
        return answer.json()["data"]


class Server:
    """A labnode process. ``url`` and ``port`` are known once ``start`` has returned; a restart takes the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.state = folder / "state"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> Server:
        """Start it and wait until it is ready."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD + "\n", encoding="utf-8")
        endpoint = self.state / "endpoint.json"
        endpoint.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "labnode.cli", "serve", "--listen", f"127.0.0.1:{self.port}", "--kvm", "off"]
        argv += ["--state", str(self.state), "--password-file", str(secret), "--auth-delay", "0.05"]
        argv += self.options
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        process = self.process
        until(lambda: endpoint.exists() or process.poll() is not None, "labnode is ready")
        assert process.poll() is None, (self.folder / "log").read_text()
        self.port = int(json.loads(endpoint.read_text())["url"].rpartition(":")[2])
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        return self.process.wait(timeout=30)

    def client(self) -> Client:
        """A client that has not logged in."""
        return Client(self.url)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One node for the tests of a module."""
    node = Server(tmp_path_factory.mktemp("labnode"))
    node.start()
    yield node
    assert node.end() == 0


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A node for one test, started."""
    node = Server(tmp_path).start()
    yield node
    node.end(signal.SIGKILL)


@pytest.fixture
def verbose_server(tmp_path: Path) -> Iterator[Server]:
    """A node for one test, started, that tells what it is asked."""
    node = Server(tmp_path, "--verbose").start()
    yield node
    node.end(signal.SIGKILL)


@pytest.fixture
def root(server: Server) -> Client:
    """root@pam with a ticket."""
    client = server.client()
    client.login()
    return client
