# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that become API answers.

Everything a handler or a task worker wants to tell a client is an ``ApiError``; anything else that escapes a handler is
a fault of labnode, logged with its traceback and answered as HTTP 500.
"""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An answer other than success.

    ``message`` is the text without a trailing newline; its first line becomes the HTTP reason phrase, all of it the
    ``message`` of the JSON body. ``status`` is the HTTP status (Proxmox VE answers 500 for most refusals, missing
    objects included). ``errors`` maps parameter names to texts and is sent along for status 400.
    Raised inside a task worker, the message becomes the exit status of the task.
    """

    def __init__(self, message: str, status: int = 500, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.errors: dict[str, str] = dict(errors or {})

    def task_text(self) -> str:
        """The text a task shows for this error: HTTP status in front where one was chosen, fields behind."""
        lines = [self.message if self.status == 500 else f"{self.status} {self.message}"]
        lines += [f"{name}: {text.rstrip()}" for name, text in sorted(self.errors.items())]
        return "\n".join(lines)


class ParamError(ApiError):
    """HTTP 400 "Parameter verification failed." with a text for every parameter that is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("Parameter verification failed.", 400, errors)


class Forbidden(ApiError):
    """HTTP 403: the user is known and lacks the privilege (``Permission check failed (...)``)."""

    def __init__(self, message: str = "Permission check failed") -> None:
        super().__init__(message, 403)


class AuthError(ApiError):
    """HTTP 401: no ticket, a bad one, or bad credentials. Answered late, so that guessing is slow."""

    def __init__(self, message: str = "authentication failure") -> None:
        super().__init__(message, 401)


class NotImplementedHere(ApiError):
    """HTTP 501: the path or method does not exist, or exists in Proxmox VE and labnode does not have it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 501)
