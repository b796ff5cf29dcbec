# SPDX-License-Identifier: GPL-3.0-or-later
"""Password hashes, signed tickets, CSRF tokens and time-based one-time passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import struct
import time
from urllib.parse import parse_qs, urlparse

TICKET_LIFE = 7200
_CLOCK_SKEW = 300
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


def hash_password(password: str) -> str:
    """A salted scrypt hash as one word."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT["n"], r=_SCRYPT["r"], p=_SCRYPT["p"])
    return f"$scrypt${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def password_matches(password: str, hashed: str) -> bool:
    """Whether the password belongs to the hash; False for a hash of another make."""
    parts = hashed.split("$")
    if len(parts) != 4 or parts[1] != "scrypt":
        return False
    salt, want = base64.b64decode(parts[2]), base64.b64decode(parts[3])
    got = hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT["n"], r=_SCRYPT["r"], p=_SCRYPT["p"])
    return hmac.compare_digest(got, want)


class PasswordMemory:
    """``password_matches`` that works out a hash once: a client logs in for each of its requests or tasks, and a hash
    is made to be slow. What is kept is a digest under a key that only this process has, and only of what was right.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}

    def matches(self, password: str, hashed: str) -> bool:
        """Whether the password belongs to the hash."""
        digest = hmac.new(self._key, password.encode(), hashlib.sha256).digest()
        if hmac.compare_digest(self._right.get(hashed, b""), digest):
            return True
        right = password_matches(password, hashed)
        if right:
            self._right[hashed] = digest
        return right


def _sign(key: bytes, text: str) -> str:
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def make_ticket(key: bytes, content: str, bound_to: str = "") -> str:
    """``PVE:CONTENT:TIME::SIGNATURE``; ``bound_to`` is signed along but not contained (the user of a TFA challenge)."""
    plain = f"PVE:{content}:{int(time.time()):08X}"
    return f"{plain}::{_sign(key, plain + bound_to)}"


def read_ticket(key: bytes, ticket: str, bound_to: str = "", life: int = TICKET_LIFE) -> str | None:
    """The content of a ticket whose signature and age (at most ``life`` seconds) are good, else None."""
    plain, _, signature = ticket.partition("::")
    if not hmac.compare_digest(_sign(key, plain + bound_to).encode(), signature.encode()):
        return None
    head, _, stamp = plain.rpartition(":")
    age = time.time() - int(stamp, 16)
    return head.removeprefix("PVE:") if -_CLOCK_SKEW <= age <= life else None


def make_csrf(key: bytes, user: str) -> str:
    """A token that shows a request was made on purpose: ``TIME:SIGNATURE``."""
    stamp = f"{int(time.time()):08X}"
    return f"{stamp}:{_sign(key, f'csrf:{stamp}:{user}')}"


def csrf_matches(key: bytes, user: str, token: str, life: int = TICKET_LIFE) -> bool:
    """Whether a CSRF token belongs to the user and is at most ``life`` seconds old."""
    stamp, _, signature = token.partition(":")
    if not hmac.compare_digest(_sign(key, f"csrf:{stamp}:{user}").encode(), signature.encode()):
        return False
    return -_CLOCK_SKEW <= time.time() - int(stamp, 16) <= life


def new_token_value() -> str:
    """A random API token value in the shape of a UUID."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def hash_token(value: str) -> str:
    """What is kept of a token value; it is random, so a plain digest is enough."""
    return hashlib.sha256(value.encode()).hexdigest()


def totp_code(url: str, when: float) -> str:
    """The code an ``otpauth://totp/...`` URL yields at a time (RFC 6238). ValueError for a bad URL."""
    return _hotp(url, int(when // _totp_number(url, "period", 30)))


def totp_step(url: str, code: str, when: float, last: int = -1) -> int | None:
    """The time step (of now, one before or one after) that a code belongs to and that is newer than ``last``, else
    None."""
    now = int(when // _totp_number(url, "period", 30))
    for step in (now - 1, now, now + 1):
        if step > last and hmac.compare_digest(_hotp(url, step).encode(), code.encode()):
            return step
    return None


def _totp_number(url: str, name: str, default: int) -> int:
    return int(parse_qs(urlparse(url).query).get(name, [str(default)])[0])


def _hotp(url: str, step: int) -> str:
    query = parse_qs(urlparse(url).query)
    if "secret" not in query:
        raise ValueError("the otpauth URL has no secret")
    secret = query["secret"][0].upper().rstrip("=")
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    algorithm = query.get("algorithm", ["SHA1"])[0].lower()
    digits = _totp_number(url, "digits", 6)
    digest = hmac.new(key, struct.pack(">Q", step), algorithm).digest()
    offset = digest[-1] & 0x0F
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)
