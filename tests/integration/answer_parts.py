# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer server in a process of its own, and what the installer posts to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ansible_collections.pvelab.proxmox.tests.lab import ROOT

PROGRAM = ROOT / "roles/installer/files/answer_server.py"
LISTENING = re.compile(r"listening on (\S+) port (\d+), (https?)(?: \(certificate (\S+)\))?")


class Server:
    """The program with a directory, which is filled where rules are given. ``log`` are its lines so far."""

    def __init__(self, directory: Path, *options: str, rules: dict[str, Any] | None = None, **environment: str) -> None:
        self.directory = directory
        self.options = options
        self.environment = {**os.environ, **environment}
        self.log: list[str] = []
        if rules is not None:
            for name in ("answers", "hooks"):
                (directory / name).mkdir()
            self.rules(rules)

    def rules(self, table: Any) -> None:
        (self.directory / "answers/rules.json").write_text(json.dumps(table))

    def answer(self, name: str, text: str) -> None:
        (self.directory / "answers" / f"{name}.toml").write_text(text)

    def __enter__(self) -> Server:
        argv = [sys.executable, PROGRAM, "--directory", self.directory, "--listen", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(
            [*map(str, argv), *self.options], stderr=subprocess.PIPE, text=True, env=self.environment
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        found = LISTENING.fullmatch(self.said("listening on"))
        assert found
        self.port, self.scheme, self.fingerprint = int(found[2]), found[3], found[4]
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=20) == 0, self.log
        self.reader.join()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))
        self.process.stderr.close()

    def said(self, pattern: str, timeout_s: float = 20.0) -> str:
        """The first line of the log that the pattern is found in, as soon as it is there."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.log:
                if re.search(pattern, line):
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {pattern!r} in {self.log}")

    def connect(self, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        if self.scheme == "http":
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=trusting)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """The status and the body of one request, whose own body is JSON unless it is bytes."""
        line = self.connect()
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json; charset=utf-8"} if sent is not None else {}
        line.request(method, path, sent, {**kind, **(headers or {})})
        answer = line.getresponse()
        text = answer.read().decode()
        line.close()
        return answer.status, text

    def post(self, body: Any, path: str = "/answer", **headers: str) -> tuple[int, str]:
        return self.ask("POST", path, body, headers)


def machine(*macs: str, serial: str = "7CX1234", uuid: str = "4C4C4544-0043-5810-8031-B7C04F333232") -> dict[str, Any]:
    """What the installer posts: schema 1.0, as releases from 8.3 on have it."""
    return {
        "$schema": {"version": "1.0"},
        "product": {"fullname": "Proxmox VE", "product": "pve", "enable_btrfs": True},
        "iso": {"release": "9.1", "isorelease": "1"},
        "dmi": {
            "system": {"serial": serial, "sku": "0A1B", "uuid": uuid, "name": "PowerEdge"},
            "baseboard": {"asset_tag": "", "serial": "..CN7", "name": "0YWR7D"},
            "chassis": {"serial": serial, "sku": "", "asset_tag": ""},
        },
        "network_interfaces": [{"link": f"eno{i}", "mac": mac} for i, mac in enumerate(macs, start=1)],
    }
