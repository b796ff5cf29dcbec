# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch of the role guest_watch as a process, and a receiver of what it tells."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab, until

PROGRAMS = ROOT / "roles/guest_watch/files"


class Receiver:
    """A webhook on loopback that keeps what is posted; ``refuses`` lets it answer 503."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refuses = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.refuses:
                    receiver.messages.append(json.loads(body))
                    receiver.headers.append(dict(self.headers))
                self.send_response(503 if receiver.refuses else 204)
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Receiver:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def events(self, key: str) -> list[str]:
        return [message["event"] for message in self.messages if message["key"] == key]

    def told(self, key: str, *events: str) -> dict[str, Any]:
        """Wait until exactly these have been told of a key, in this order; the last message."""
        until(lambda: self.events(key) == list(events), f"{key}: {events}", 30.0)
        return [message for message in self.messages if message["key"] == key][-1]


class MailServer:
    """A mail server on loopback that takes one letter."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.receivers: list[str] = []
        self.letter = b""
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self) -> MailServer:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.thread.join(10)
        self.listener.close()

    def subject(self) -> str:
        return str(message_from_bytes(self.letter, policy=policy.default)["Subject"])

    def _serve(self) -> None:
        connection, _address = self.listener.accept()
        with connection, connection.makefile("rwb") as line:
            self._say(line, "220 ready")
            while (command := line.readline().decode().strip()).upper() != "QUIT":
                if command.upper().startswith("RCPT TO:"):
                    self.receivers.append(command[8:].strip(" <>"))
                if command.upper() == "DATA":
                    self._say(line, "354 go on")
                    while (text := line.readline()) != b".\r\n":
                        self.letter += text
                self._say(line, "250 fine")
            self._say(line, "221 bye")

    @staticmethod
    def _say(line: IO[bytes], text: str) -> None:
        line.write(f"{text}\r\n".encode())
        line.flush()


class Watch:
    """The program with a directory of its own, against a labnode."""

    def __init__(self, folder: Path, lab: Lab, secret: str, **more: Any) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.textfile = folder / "watch.prom"
        self.token = folder / "token"
        self.token.write_text(f"root@pam!watch={secret}\n")
        (folder / "state").mkdir(exist_ok=True)
        self.settings: dict[str, Any] = {
            "api_url": lab.url,
            "node": lab.node,
            "host": "host1",
            "fingerprints": [lab.fingerprint],
            "token_file": str(self.token),
            "state_directory": str(folder / "state"),
            "textfile": str(self.textfile),
            "interval_s": 0.2,
            **more,
        }
        self.config.write_text(json.dumps(self.settings))
        self.environment = {**os.environ, "PYTHONPATH": str(PROGRAMS), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._argv(), stderr=log, env=self.environment)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0, self.log()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self.kill() if kind else self.stop()

    def once(self) -> tuple[int, str]:
        done = subprocess.run(
            [*self._argv(), "--once"], capture_output=True, text=True, check=False, env=self.environment, timeout=60
        )
        return done.returncode, done.stdout

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def number(self, sample: str) -> Callable[[], float | None]:
        """What the file for Prometheus says of a sample now; None where it says nothing."""

        def read() -> float | None:
            lines = self.textfile.read_text().splitlines() if self.textfile.exists() else []
            found = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == sample]
            return float(found[0]) if found else None

        return read

    def _argv(self) -> list[str]:
        return [sys.executable, "-m", "guest_watch", str(self.config)]
