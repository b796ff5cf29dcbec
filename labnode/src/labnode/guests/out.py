# SPDX-License-Identifier: GPL-3.0-or-later
"""Where work on guests tells what it does, and on whose behalf it is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

logger = logging.getLogger(__name__)


class Out(Protocol):
    """Takes the words of work: a task's log, or nowhere."""

    def log(self, line: str) -> None:
        """One more line."""

    def warn(self, line: str) -> None:
        """One more line that is a warning."""


class Quiet:
    """Takes words that nobody reads, except in labnode's own log."""

    def log(self, line: str) -> None:
        """For the debug log."""
        logger.debug("%s", line)

    def warn(self, line: str) -> None:
        """For the log."""
        logger.warning("%s", line)


QUIET = Quiet()


class Who(Protocol):
    """The user a request comes from (a request context is one)."""

    @property
    def user(self) -> str:
        """The full user id."""

    @property
    def is_root(self) -> bool:
        """Whether this is root@pam itself, not a token of it."""

    def may(self, path: str, privs: Iterable[str], *, any_of: bool = False) -> bool:
        """Whether the user holds the privileges on the path."""

    def check(self, path: str, privs: Iterable[str], *, any_of: bool = False) -> None:
        """As ``may``, raising ``Forbidden``."""
