# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong at the API, as types; and the one place that makes them of what came over the line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

from .api_wire import NoAnswer, Refused, Request
from .core import complaints, sight
from .core.steps import MASK, Failure


class NotFound(Failure):
    """The object asked for does not exist."""


class Taken(Failure):
    """There is an object of this id already."""


class Locked(Failure):
    """The guest is locked, or a lock could not be had in time. Nothing was done."""

    again: ClassVar[bool] = True


class Held(Locked):
    """The lock of the guest itself was waited for, and is still there. To try at once again is of no use."""

    again: ClassVar[bool] = False


class Stale(Failure):
    """The object changed between the read and the write (digest). Nothing was done."""


class NoQuorum(Failure):
    """The cluster has no quorum, so it takes no writes. Nothing was done."""


class Unauthorized(Failure):
    """The login was refused."""


class Forbidden(Failure):
    """The user or token lacks a privilege."""


class ParameterErrors(Failure):
    """Parameters were refused: ``errors`` is {option: text}."""


class Unreachable(Failure):
    """No node answered, and nothing was done."""

    again: ClassVar[bool] = True


class Unknown(Failure):
    """A write got no answer and left no trace: it may or may not have been carried out."""

    again: ClassVar[bool] = True


class TimedOut(Failure):
    """A task is still running after the time allowed for it. It goes on."""


class Interrupted(Failure):
    """The run was stopped while a task was running. The task goes on."""


class TaskFailed(Failure):
    """A task ended with an error: ``task_log`` holds the last lines of its log."""


class Scrubber:
    """Takes secrets out of texts that others wrote, error messages of a node or a library among them."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = sorted((s for s in secrets if len(s) > 3), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def refusal(refused: Refused, request: Request, user: str, scrub: Callable[[str], str] = str) -> Failure:
    """The typed Failure for an error that the API answered with."""
    errors = {option: scrub(" ".join(why.split())) for option, why in refused.errors.items()}
    cause = scrub(complaints.folded(refused.message, errors))
    kind = _kind(refused.status, f"{refused.message} {' '.join(errors.values())}", bool(errors))
    msg = f"{_cause(kind, cause, user, request)}. {_advice(kind, cause, user)}".rstrip()
    failure = kind(msg, status=refused.status, request=str(request), errors=errors or None)
    if kind in (Failure, ParameterErrors) and complaints.is_missing(failure):
        return NotFound(msg, status=refused.status, request=str(request), errors=errors or None)
    return failure


def silence(problem: NoAnswer, request: Request, scrub: Callable[[str], str] = str) -> Unreachable:
    """The Failure for a request that got no answer and was certainly not carried out."""
    return Unreachable(_sentence(scrub(problem.cause), problem.remedy), request=str(request))


def _kind(status: int, text: str, has_errors: bool) -> type[Failure]:
    by_text: tuple[tuple[bool, type[Failure]], ...] = (
        (status == 401, Unauthorized),
        (status == 403, Forbidden),
        (complaints.is_no_quorum(text), NoQuorum),
        (complaints.is_lock_timeout(text) or complaints.config_lock(text) is not None, Locked),
        (complaints.is_stale_digest(text), Stale),
        (status >= 595, Unreachable),
        (complaints.is_taken(text), Taken),
        (has_errors, ParameterErrors),
    )
    return next((kind for applies, kind in by_text if applies), Failure)


def _cause(kind: type[Failure], cause: str, user: str, request: Request) -> str:
    if kind is Unauthorized:
        return f"the node refused the login of {user}: {cause}"
    if kind is Forbidden:
        missing = re.search(r"Permission check failed \(([^,]+), ([^)]+)\)", cause)
        if missing:
            return f"{user} lacks the privilege {missing[2]} on {missing[1]}"
        unnamed = sight.unnamed(str(request)) if cause == "Permission check failed" else ""
        return f"{user} lacks the privilege {unnamed}" if unnamed else f"{user} may not: {cause}"
    return cause


def _advice(kind: type[Failure], cause: str, user: str) -> str:
    if kind is Unauthorized:
        return "Check the user with its realm, the password or token, and that neither is disabled or expired."
    special = complaints.remedy(cause)
    if kind is Forbidden and not special:
        return advice(user)
    if "property is not defined in schema" in cause:
        return complaints.UNKNOWN_OPTION
    if "hotplug problem" in cause:
        return "Other options of the request may have been applied; restart the guest to apply this one."
    return special


def advice(user: str) -> str:
    """What to do about a privilege that a user or token lacks."""
    who = f"the token '{user}'" if "!" in user else f"the user '{user}'"
    hint = " A token with privilege separation starts with no rights of its own." if "!" in user else ""
    return f"Give {who} a role that has it with pveum acl modify.{hint}"


def _sentence(cause: str, advice: str) -> str:
    return f"{cause.rstrip('.')}. {advice}".rstrip()
