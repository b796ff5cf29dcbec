# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in to the API over HTTPS: by token, or by password with a second factor where the user has one.

proxmoxer's own password login happens in its constructor, outside the session (so past a pinned certificate), and
tells nothing but the status. Here the session asks for a login when it first needs one.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from .api_errors import Unauthorized
from .api_options import Settings
from .api_wire import Refused, Request

# A ticket lives two hours (pve-access-control AccessControl.pm); a run that lasts longer renews it in time.
RENEW_AFTER_S = 90 * 60.0

Post = Callable[[Request], Mapping[str, Any]]


@dataclass(frozen=True)
class Ticket:
    """A ticket, the token that goes with every write, and when (monotonic clock) it was given."""

    value: str
    csrf: str
    born: float


class Login(Protocol):
    """How a session proves who it is."""

    def headers(self, method: str) -> dict[str, str]:
        """What to send along with a request."""

    def ready(self, post: Post) -> None:
        """Log in where that is needed. Raises Refused."""

    def renew(self, post: Post) -> bool:
        """Whether there is another proof after one was refused. Raises Refused."""


class TokenLogin:
    """An API token is a header on every request: nothing to ask for, nothing to renew."""

    def __init__(self, settings: Settings) -> None:
        self._header = f"PVEAPIToken={settings.identity}={settings.token_secret}"

    def headers(self, method: str) -> dict[str, str]:
        """What to send along with a request."""
        return {"Authorization": self._header}

    def ready(self, post: Post) -> None:
        """A token needs no login."""

    def renew(self, post: Post) -> bool:
        """A refused token stays refused: False."""
        return False


class PasswordLogin:
    """A ticket for a password, renewed by itself, asked for once more when the node no longer knows it."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._ticket: Ticket | None = None

    def headers(self, method: str) -> dict[str, str]:
        """The ticket, and for writes the token against forged requests."""
        if self._ticket is None:
            return {}
        cookie = {"Cookie": f"PVEAuthCookie={self._ticket.value}"}
        return cookie if method == "GET" else {**cookie, "CSRFPreventionToken": self._ticket.csrf}

    def ready(self, post: Post) -> None:
        """Log in at first use, and before the ticket expires. Raises Refused."""
        if self._ticket is None:
            self._ticket = self._log_in(post)
        elif self._clock() - self._ticket.born > RENEW_AFTER_S:
            self.renew(post)

    def renew(self, post: Post) -> bool:
        """A new ticket for the old one or, if the node no longer knows that, for the password. Raises Refused."""
        old, self._ticket = self._ticket, None
        # Each refused login costs 3 s, so an old ticket is only offered while it can still be good.
        if old is not None and RENEW_AFTER_S < self._clock() - old.born < RENEW_AFTER_S * 1.3:
            try:
                self._ticket = self._ask(post, old.value)
            except Refused as refused:
                if refused.status != 401:
                    raise
        if self._ticket is None:
            self._ticket = self._log_in(post)
        return True

    def _log_in(self, post: Post) -> Ticket:
        return self._ask(post, self._settings.password or "")

    def _ask(self, post: Post, secret: str) -> Ticket:
        user = {"username": self._settings.user}
        answer = post(Request("POST", "/access/ticket", {**user, "password": secret}))
        if answer.get("NeedTFA"):
            reply = {**user, "tfa-challenge": answer.get("ticket"), "password": self._second_factor(answer)}
            answer = post(Request("POST", "/access/ticket", reply))
        return Ticket(str(answer["ticket"]), str(answer.get("CSRFPreventionToken", "")), self._clock())

    def _second_factor(self, answer: Mapping[str, Any]) -> str:
        """The answer to a challenge: "totp:123456". Raises Unauthorized when there is no answer to give."""
        kinds = second_factors(str(answer.get("ticket", "")))
        asked = f" ({', '.join(kinds)})" if kinds else ""
        otp = (self._settings.otp or "").strip()
        if not otp:
            raise Unauthorized(
                f"{self._settings.user} has a second factor{asked}. Set api_otp, or use an API token instead.",
                status=401,
            )
        kind, colon, _code = otp.partition(":")
        if colon:
            if kinds and kind not in kinds:
                raise Unauthorized(
                    f"{self._settings.user} has no second factor of the kind '{kind}'. Set api_otp to one of{asked}.",
                    status=401,
                )
            return otp
        return f"{_guess(otp)}:{otp}"


class SharedLogin:
    """One login for sessions in several threads: one asks, the others wait for its ticket."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._mine = threading.local()
        self._renewals = 0

    def headers(self, method: str) -> dict[str, str]:
        """What to send along with a request."""
        with self._lock:
            self._mine.seen = self._renewals
            return self._login.headers(method)

    def ready(self, post: Post) -> None:
        """Log in where that is needed. Raises Refused."""
        with self._lock:
            self._login.ready(post)

    def renew(self, post: Post) -> bool:
        """A new ticket, unless another thread has fetched one since this one's was sent. Raises Refused."""
        with self._lock:
            if getattr(self._mine, "seen", 0) != self._renewals:
                return True
            self._renewals += 1
            return self._login.renew(post)


def login_for(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Login:
    """The login that the options ask for."""
    return TokenLogin(settings) if settings.token_name else PasswordLogin(settings, clock)


def second_factors(ticket: str) -> list[str]:
    """The kinds of second factor that a challenge accepts.

    Its ticket is "PVE:!tfa!{JSON}:TIME::SIGNATURE" with the colons of the JSON as %3A (pve-common Ticket.pm).
    """
    found = re.search(r"!tfa!(.*?)(?::[0-9A-F]{8})?::", f"{ticket}::")
    try:
        offered = json.loads(unquote(found[1])) if found else {}
    except ValueError:
        return []
    return sorted(kind for kind, there in offered.items() if there) if isinstance(offered, dict) else []


def _guess(otp: str) -> str:
    """A Yubikey types 44 letters of its own alphabet, a recovery key has dashes, everything else is a timed code."""
    if re.fullmatch(r"[cbdefghijklnrtuv]{44}", otp):
        return "yubico"
    return "recovery" if re.fullmatch(r"[0-9a-f]{4}(-[0-9a-f]{4}){3}", otp) else "totp"
