# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: users, tokens, tickets and permissions."""

from __future__ import annotations

from collections.abc import Iterable

from labnode.errors import Forbidden
from labnode.store import Store


class Auth:
    """Users and permissions over etc/user.cfg."""

    def __init__(self, store: Store, delay: float = 3.0) -> None:
        self.store = store
        self.delay = delay

    def load(self, root_password: str | None) -> None:
        """Prepare keys and the root password (its hash goes to STATE/etc/priv)."""

    def may(self, user: str, path: str, privs: Iterable[str], *, any_of: bool = False) -> bool:
        """Whether the user holds all (or any) privileges on the ACL path."""
        return user == "root@pam"

    def check(self, user: str, path: str, privs: Iterable[str], *, any_of: bool = False) -> None:
        """As ``may``, raising ``Forbidden``."""
        wanted = list(privs)
        if not self.may(user, path, wanted, any_of=any_of):
            raise Forbidden(f"Permission check failed ({path}, {'|'.join(wanted)})")
