# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to the API, whatever it is made of: one request goes out; a Reply, a Refused or a NoAnswer comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Request:
    """One request. ``path`` is below /api2/json and URL-encoded; ``file`` is streamed as the field ``filename``.

    ``tell`` is told how much of the file has gone, where somebody wants to know.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None
    timeout_s: float = 30.0
    tell: Callable[[str], None] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def writes(self) -> bool:
        """True unless it only reads."""
        return self.method != "GET"


@dataclass(frozen=True)
class Reply:
    """A success: ``data`` and what the API puts beside it (``total`` of a list, pending ``changes`` of the network)."""

    data: Any = None
    total: int | None = None
    changes: str | None = None


class Refused(Exception):
    """The API answered with an error: ``message`` and ``errors`` from the body, else from the status line."""

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = dict(errors or {})


class NoAnswer(Exception):
    """No answer came. ``sent``: the request may have left this machine, so it may have been carried out.

    ``permanent``: trying again cannot help (wrong certificate, unknown name). ``remedy`` is a sentence or "".
    """

    def __init__(self, cause: str, *, sent: bool, permanent: bool = False, remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.sent = sent
        self.permanent = permanent
        self.remedy = remedy


class MissingLibrary(Exception):
    """A Python library is not installed on the machine that runs the module."""

    def __init__(self, library: str) -> None:
        super().__init__(library)
        self.library = library


class Wire(Protocol):
    """A line to the API, logged in when it is first used."""

    @property
    def where(self) -> str:
        """What messages call it."""

    @property
    def user(self) -> str:
        """Whom its tasks belong to: "root@pam" or "root@pam!ci"."""

    @property
    def skew_s(self) -> float:
        """The node's clock minus ours, in seconds."""

    def send(self, request: Request) -> Reply:
        """Logs in first if need be. Raises Refused, NoAnswer or MissingLibrary."""

    def close(self) -> None:
        """Give the connections back."""


def form(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as Proxmox VE reads them: 1 and 0 for booleans, lists as repeated names, None left out."""
    return {name: _plain(value) for name, value in params.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value if v is not None]
    return value
