# SPDX-License-Identifier: GPL-3.0-or-later
"""A QMP client for the few commands the lab needs; one connection a client."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from labvm.errors import LabError

POLL_S = 0.05


class Qmp:
    """A session with QEMU. Raises LabError when the socket does not answer within `timeout` seconds."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self.path = path
        self.timeout = timeout

    def __enter__(self) -> Qmp:
        deadline = time.monotonic() + self.timeout
        while True:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(self.timeout)
            try:
                link.connect(str(self.path))
                break
            except OSError as error:
                link.close()
                if time.monotonic() > deadline:
                    raise LabError(f"QEMU does not answer on '{self.path}': {error}") from None
                time.sleep(POLL_S)
        self._link = link
        self._lines = link.makefile("rb")
        self._read()
        self.ask("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._link.close()

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise LabError(f"QEMU on '{self.path}' stopped answering: {error}") from None
        if not line:
            raise LabError(f"QEMU on '{self.path}' ended: see the log beside that socket")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer's `return`; LabError with QEMU's own words when it refuses."""
        self._link.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._read()
            if "error" in message:
                raise LabError(f"QEMU refuses '{command}': {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def until(self, command: str, key: str, wanted: str, timeout: float) -> None:
        """Repeat a question until `key` of its answer is `wanted`; LabError when it fails or takes too long."""
        deadline = time.monotonic() + timeout
        while True:
            answer = self.ask(command)
            now = answer.get(key)
            if now == wanted:
                return
            if now in ("failed", "cancelled", "internal-error") or time.monotonic() > deadline:
                reason = answer.get("error-desc", "")
                raise LabError(f"QEMU: '{command}' says {key} '{now}' instead of '{wanted}' {reason}".rstrip())
            time.sleep(POLL_S)
