# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: users, tokens, tickets and permissions, kept under STATE/etc.

Files: ``etc/user.cfg`` (users, groups, roles, ACLs, pools), and mode 0600 under ``etc/priv``: ``authkey`` (signs
tickets), ``shadow.cfg`` (password hashes), ``token.cfg`` (token digests), ``tfa.cfg`` (second factors).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from labnode.access import permissions as perms
from labnode.access import secrets as sec
from labnode.access import usercfg
from labnode.errors import ApiError, AuthError, Forbidden
from labnode.store import Store

USER_CFG = "etc/user.cfg"
SHADOW = "etc/priv/shadow.cfg"
TOKENS = "etc/priv/token.cfg"
TFA = "etc/priv/tfa.cfg"
KEY = "etc/priv/authkey"
REALMS = ("pam", "pve")


class Auth:
    """Users and permissions. Everything that changes them goes through ``change`` or the methods here."""

    def __init__(self, store: Store, delay: float = 3.0) -> None:
        self.store = store
        self.delay = delay
        self.cfg = usercfg.UserCfg()
        self._key = b""
        self._passwords = sec.PasswordMemory()

    def load(self, root_password: str | None) -> None:
        """Read the files; make the signing key where there is none; set root's password where one is given."""
        self.cfg = usercfg.parse(self.store.read(USER_CFG))
        key = self.store.read(KEY).strip()
        if not key:
            key = secrets.token_hex(32)
            self.store.write(KEY, key + "\n", 0o600)
        self._key = bytes.fromhex(key)
        if root_password is not None and not self._password_good("root@pam", root_password):
            self.set_password("root@pam", root_password)

    def save(self) -> None:
        """Make changes of ``cfg`` durable; when that fails they are forgotten, so that memory and disk agree."""
        try:
            self.store.write(USER_CFG, usercfg.render(self.cfg))
        except ApiError:
            self.cfg = usercfg.parse(self.store.read(USER_CFG))
            raise

    @contextlib.contextmanager
    def editing(self) -> Iterator[usercfg.UserCfg]:
        """A copy of the users to change; it takes effect and is made durable when the block ends without an error."""
        draft = copy.deepcopy(self.cfg)
        yield draft
        self.store.write(USER_CFG, usercfg.render(draft))
        self.cfg = draft

    # permissions ----------------------------------------------------------------------------------------------------

    def permissions(self, user: str, path: str) -> dict[str, bool]:
        """Privileges on an ACL path and whether each propagates."""
        return perms.permissions(self.cfg, user, perms.normalize_path(path))

    def may(self, user: str, path: str, privs: Iterable[str], *, any_of: bool = False) -> bool:
        """Whether the user holds all (or any) of the privileges on the ACL path."""
        held = self.permissions(user, path)
        return (any if any_of else all)(priv in held for priv in privs)

    def check(self, user: str, path: str, privs: Iterable[str], *, any_of: bool = False) -> None:
        """As ``may``, raising ``Forbidden`` with Proxmox VE's text."""
        wanted = list(privs)
        if self.may(user, path, wanted, any_of=any_of):
            return
        held = self.permissions(user, path)
        missing = "|".join(wanted) if any_of else next(priv for priv in wanted if priv not in held)
        raise Forbidden(f"Permission check failed ({path}, {missing})")

    # identity -------------------------------------------------------------------------------------------------------

    def check_enabled(self, user: str) -> None:
        """Raises AuthError when the user does not exist, is disabled or has expired."""
        info = self.cfg.users.get(user)
        if info is None or not info.enable or (info.expire and info.expire < time.time()):
            raise AuthError()

    def ticket_user(self, ticket: str) -> str | None:
        """The user of a good ticket, None otherwise (also for the half ticket of a pending second factor)."""
        user = sec.read_ticket(self._key, ticket)
        return user if user and not user.startswith("!tfa!") else None

    def csrf_good(self, user: str, token: str) -> bool:
        """Whether the CSRF token is the user's."""
        return sec.csrf_matches(self._key, user, token)

    def token_user(self, text: str) -> str | None:
        """The full token id of ``USER@REALM!NAME=VALUE`` when the value is right and nothing has expired, else None."""
        ident, _, value = text.partition("=")
        user, name = perms.split_token(ident)
        token = self.cfg.users[user].tokens.get(name or "") if user in self.cfg.users else None
        if token is None or (token.expire and token.expire < time.time()):
            return None
        if not secrets.compare_digest(self._secrets(TOKENS).get(ident, ""), sec.hash_token(value)):
            return None
        self.check_enabled(user)
        return ident

    async def login(self, user: str, password: str, otp: str | None, challenge: str | None) -> dict[str, Any]:
        """The answer of ``POST /access/ticket``. AuthError for anything wrong.

        With a second factor the first answer holds a half ticket and NeedTFA; the second call hands that in as
        ``tfa-challenge`` and ``totp:CODE`` or ``recovery:KEY`` as the password. ``otp`` does both at once.
        """
        self.check_enabled(user)
        if challenge is not None:
            self._second_factor(user, password, challenge)
            return self._full_ticket(user)
        if self.ticket_user(password) != user and not await asyncio.to_thread(self._password_good, user, password):
            raise AuthError()
        factors = self.tfa(user)
        if not any(entry["enable"] for entry in factors):
            return self._full_ticket(user)
        if otp:
            self._check_code(user, otp if ":" in otp else f"totp:{otp}")
            return self._full_ticket(user)
        half = sec.make_ticket(self._key, "!tfa!" + quote(json.dumps(self._challenge(user)), safe=""), user)
        return {"username": user, "ticket": half, "CSRFPreventionToken": sec.make_csrf(self._key, user), "NeedTFA": 1}

    def _full_ticket(self, user: str) -> dict[str, Any]:
        top = {path.strip("/").split("/")[0]: path for path in perms.TOP_PATHS if path != "/access/groups"}
        caps = {area or "dc": self.permissions(user, path) for area, path in top.items()}
        return {
            "username": user,
            "ticket": sec.make_ticket(self._key, user),
            "CSRFPreventionToken": sec.make_csrf(self._key, user),
            "cap": {area: dict.fromkeys(sorted(held), 1) for area, held in caps.items()},
        }

    # passwords and token values -------------------------------------------------------------------------------------

    def _secrets(self, rel: str) -> dict[str, str]:
        pairs = (line.partition(" ") for line in self.store.read(rel).splitlines())
        return {name: value for name, _, value in pairs}

    def _set_secret(self, rel: str, name: str, value: str | None) -> None:
        known = self._secrets(rel)
        known.pop(name, None)
        if value is not None:
            known[name] = value
        self.store.write(rel, "".join(f"{key} {text}\n" for key, text in sorted(known.items())), 0o600)

    def _password_good(self, user: str, password: str) -> bool:
        return self._passwords.matches(password, self._secrets(SHADOW).get(user, ""))

    def set_password(self, user: str, password: str | None) -> None:
        """Set (or with None forget) the password of a user."""
        self._set_secret(SHADOW, user, None if password is None else sec.hash_password(password))

    def new_token_value(self, ident: str) -> str:
        """A fresh value for a token; only its digest is kept."""
        value = sec.new_token_value()
        self._set_secret(TOKENS, ident, sec.hash_token(value))
        return value

    def forget_token(self, ident: str) -> None:
        """Drop the value of a token and what was granted to it."""
        self._set_secret(TOKENS, ident, None)
        self.cfg.drop_acl("token", ident)

    async def verify_password(self, user: str, password: str) -> None:
        """AuthError unless this is the user's password."""
        if not await asyncio.to_thread(self._password_good, user, password):
            raise AuthError()

    # second factors -------------------------------------------------------------------------------------------------

    def _tfa_all(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = json.loads(self.store.read(TFA) or "{}")
        return found

    def tfa(self, user: str) -> list[dict[str, Any]]:
        """Second factors of a user: dicts with id, type (totp, recovery), description, created, enable and the
        secret."""
        return self._tfa_all().get(user, [])

    def set_tfa(self, user: str, entries: list[dict[str, Any]]) -> None:
        """Replace the second factors of a user."""
        known = self._tfa_all()
        known.pop(user, None)
        if entries:
            known[user] = entries
        self.store.write(TFA, json.dumps(known, indent=1, sort_keys=True) + "\n", 0o600)

    def _challenge(self, user: str) -> dict[str, Any]:
        active = [entry for entry in self.tfa(user) if entry["enable"]]
        keys = [n for e in active if e["type"] == "recovery" for n, k in enumerate(e["keys"]) if k]
        return {"totp": any(entry["type"] == "totp" for entry in active), "recovery": keys}

    def _second_factor(self, user: str, response: str, challenge: str) -> None:
        content = sec.read_ticket(self._key, challenge, user)
        if content is None or not content.startswith("!tfa!"):
            raise AuthError()
        json.loads(unquote(content.removeprefix("!tfa!")))
        self._check_code(user, response)

    def _check_code(self, user: str, response: str) -> None:
        kind, _, code = response.partition(":")
        entries = self.tfa(user)
        for entry in entries:
            if entry["enable"] and entry["type"] == kind and _use_factor(entry, code):
                self.set_tfa(user, entries)
                return
        raise AuthError()


def _use_factor(entry: dict[str, Any], code: str) -> bool:
    """Whether the code fits; marks it as used so that it does not fit again."""
    if entry["type"] == "totp":
        step = sec.totp_step(entry["url"], code, time.time(), entry.get("last", -1))
        if step is not None:
            entry["last"] = step
        return step is not None
    digest = sec.hash_token(code)
    if digest not in entry["keys"]:
        return False
    entry["keys"][entry["keys"].index(digest)] = None
    return True


def check_realm(userid: str) -> None:
    """Raises ApiError when the realm of a user id does not exist."""
    realm = userid.rpartition("@")[2]
    if realm not in REALMS:
        raise ApiError(f"domain '{realm}' does not exist")
