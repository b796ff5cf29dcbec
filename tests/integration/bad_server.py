# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTPS server on loopback that misbehaves as told: it cuts connections, keeps silent, answers with any status."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

CUT = "cut"
"""An answer: close the connection instead of answering."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: tuple[str, int]

    @property
    def form(self) -> dict[str, str]:
        return {k: v[-1] for k, v in parse_qs(self.body.decode(), keep_blank_values=True).items()}


@dataclass(frozen=True)
class Answer:
    """One answer. ``data`` becomes a JSON body {"data": …} unless ``body`` is given; ``close`` ends the connection."""

    status: int = 200
    reason: str = "OK"
    data: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False


def error(status: int, message: str, errors: dict[str, str] | None = None) -> Answer:
    """An error as Proxmox VE sends it: one line as the reason, everything in the body, and the connection closed."""
    extra: dict[str, Any] = {"message": f"{message}\n", **({"errors": errors} if errors else {})}
    return Answer(status, message.splitlines()[0], extra=extra, close=True)


Behaviour = Callable[[Seen], Answer | str | None]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not like the certificate goes away; that is what many tests are about."""


class BadServer:
    """Serves with a certificate until closed. ``behave`` decides on each request; ``seen`` is all that arrived.

    An answer may also be CUT, or None: no answer until the server closes.
    """

    def __init__(
        self, behave: Behaviour, certificate: Path, key: Path, *, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.behave = behave
        self.seen: list[Seen] = []
        self._closing = threading.Event()
        trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trust.load_cert_chain(certificate, key)
        self._server = _Quiet((address, port), self._handler())
        self._server.socket = trust.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> BadServer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        address, port = self._server.server_address[:2]
        return f"{address!s}:{port}"

    def requests(self) -> list[str]:
        """What arrived, as "METHOD /path", without logins."""
        return [f"{s.method} {s.path}" for s in self.seen if s.path != "/access/ticket"]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 0.5
            # Headers and body in one segment: else each answer waits 40 ms for an acknowledgement.
            wbufsize = 1 << 16

            def _serve(self) -> None:
                parts = urlsplit(self.path.removeprefix("/api2/json"))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = Seen(
                    self.command, parts.path, parse_qs(parts.query), dict(self.headers), body, self.client_address
                )
                outer.seen.append(seen)
                answer = outer.behave(seen)
                if answer is None:
                    outer._closing.wait(30)
                if not isinstance(answer, Answer):
                    self.close_connection = True
                    self.connection.close()
                    return
                payload = answer.body
                if payload is None:
                    payload = json.dumps({"data": answer.data, **answer.extra}).encode()
                self.send_response(answer.status, answer.reason)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                if answer.close:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_DELETE = _serve

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on the terminal."""

        return Handler
