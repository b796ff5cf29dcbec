# SPDX-License-Identifier: GPL-3.0-or-later
"""The node through its own API, with a token: what it says of its guests, and the few things that are asked of it."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from .shell import Trouble

# How much of a failed task's log is searched for its errors.
LOG_LINES = 500


class Silent(Trouble):
    """The node does not answer, or not with what was asked; which may be the drill's own doing."""


class Node:
    """The API of one node. One connection, made anew where it broke; not for two threads at once.

    ``api``: url, token_file, fingerprints (SHA-256 of certificates; else the system's authorities, or ca_file).
    """

    def __init__(self, api: Mapping[str, Any], node: str, *, timeout_s: float = 10.0) -> None:
        parts = urlsplit(str(api["url"]))
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 8006
        self.node, self.timeout_s, self.token_file = node, timeout_s, Path(str(api["token_file"]))
        self.pins = {str(pin).replace(":", "").lower() for pin in api.get("fingerprints") or ()}
        self.context = ssl.create_default_context(cafile=api.get("ca_file") or None)
        if self.pins:
            # the pin says more than a name and an authority would
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self._connection: http.client.HTTPSConnection | None = None

    def get(self, path: str, **params: Any) -> Any:
        """The data of a GET. Raises Silent."""
        return self.ask("GET", path + (f"?{urlencode(params)}" if params else ""))

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The data of an answer; ``{node}`` in the path is this node. Raises Silent with the node's own words."""
        target = "/api2/json" + path.replace("{node}", self.node)
        for again in (True, False):
            fresh = self._connection is None
            try:
                return self._exchange(method, target, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                # the node closes connections that were idle; only a read may be sent twice
                if fresh or not again or method != "GET":
                    what = error if str(error) else type(error).__name__
                    raise Silent(f"{method} https://{self.host}:{self.port}{target}: {what}") from error
        raise AssertionError("unreachable")

    def _exchange(self, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
        if method != "GET":
            self.close()
        connection = self._connection or self._connect()
        headers = {"Authorization": f"PVEAPIToken={self.token_file.read_text(encoding='utf-8').strip()}"}
        form = urlencode(body, doseq=True) if body is not None else None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, target, body=form, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            detail = data.decode(errors="replace").strip()[:300]
            raise OSError(f"answers {answer.status} {answer.reason} {detail}".strip())
        return json.loads(data)["data"]

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s, context=self.context)
        connection.connect()
        if self.pins:
            certificate = bytes(connection.sock.getpeercert(binary_form=True) or b"")
            found = hashlib.sha256(certificate).hexdigest()
            if found not in self.pins:
                connection.close()
                raise OSError(f"has another certificate than the one that is pinned: {found}")
        self._connection = connection
        return connection

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def task(self, method: str, path: str, *, within_s: float) -> str:
        """Ask for something that the node does as a task, and wait for its end; its exit status ("OK").

        Raises Silent where it does not answer, Trouble where the task fails or takes longer."""
        return str(self.do(method, path, {}, within_s=within_s))

    def do(self, method: str, path: str, body: Mapping[str, Any], *, within_s: float) -> Any:
        """Ask for something, and where the node makes a task of it, wait for its end; the task's exit status, or else
        the data of the answer. Raises as ``task`` does."""
        if method == "GET":
            return self.get(path, **body)
        found = self.ask(method, path, body)
        if not str(found).startswith("UPID:"):
            return found
        ends = time.monotonic() + within_s
        while True:
            now = self.get(f"/nodes/{{node}}/tasks/{found}/status")
            if now.get("status") == "stopped":
                status = str(now.get("exitstatus"))
                if status != "OK" and not status.startswith("WARNINGS"):
                    raise Trouble(f"{method} {path} ended with: {status}{self._errors(found, status)}")
                return status
            if time.monotonic() > ends:
                raise Trouble(f"{method} {path} was not done after {within_s:g} s")
            time.sleep(0.2)

    def _errors(self, upid: str, status: str) -> str:
        """What the log of a task that failed says of why, beyond its exit status: vzdump's is only "job errors"."""
        try:
            rows = self.get(f"/nodes/{{node}}/tasks/{upid}/log", limit=LOG_LINES)
        except Silent:
            return ""
        lines = [str(row["t"]).strip() for row in rows]
        said = [line for line in lines if line.startswith("ERROR:") and status not in line]
        return "".join(f"; {line}" for line in said[:3])
