# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller for tests: as much of AWX's API as the modules of awx.awx ask for, on loopback, in memory.

What it does not know it refuses, unlike AWX: fields, filters, associations and paths. Which fields there are is a fact
of AWX 24.6 (awx/api/serializers.py); awx_rules.py has what they may hold.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible_collections.pvelab.proxmox.tests.stories.awx_objects import Objects, Wrong

TOKEN = "a token of the test"
VERSION = "24.6.1"


class Controller:
    """Serves between ``with`` and its end. ``writes`` are the requests that changed something, as "POST /api/v2/…"."""

    def __init__(self, playbooks: list[str]) -> None:
        self.objects = Objects(playbooks)
        self.writes: list[str] = []
        self.refused: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._lock = threading.Lock()

    def __enter__(self) -> Controller:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """How the modules find it."""
        host = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"CONTROLLER_HOST": host, "CONTROLLER_OAUTH_TOKEN": TOKEN}

    def answer(self, method: str, target: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Status and JSON for a request."""
        url = urlsplit(target)
        filters = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        with self._lock:
            try:
                found = self.objects.answer(method, url.path, filters, body)
            except Wrong as wrong:
                self.refused.append(f"{method} {target}: {wrong.said}")
                return wrong.status, wrong.said
            if method != "GET":
                self.writes.append(f"{method} {url.path}")
            return found


def handler(controller: Controller) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._say(401, {"detail": "Authentication credentials were not provided."})
                return
            self._say(*controller.answer(self.command, self.path, json.loads(text or b"{}")))

        def _say(self, status: int, said: Any) -> None:
            text = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", VERSION)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = _do

        def log_message(self, *_arguments: Any) -> None:
            """Tests look at what was asked, and standard error is theirs."""

    return Handler
