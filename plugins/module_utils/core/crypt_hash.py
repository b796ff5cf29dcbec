# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-512 hashes of passwords as crypt(5) has them ("$6$salt$…").

After the specification "Unix crypt using SHA-256 and SHA-512", which is in the public domain. Python has had no crypt
since 3.13, and a host has nothing else that is everywhere.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha512

ROUNDS = 5000
_LETTERS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_OURS = re.compile(r"\$6\$([./0-9A-Za-z]{1,16})\$[./0-9A-Za-z]{86}")


def hashed(password: str, salt: str) -> str:
    """The hash of a password; ``salt`` is 1 to 16 letters, digits, dots or slashes."""
    secret, grain = password.encode(), salt.encode()
    digest = _first(secret, grain)
    long_secret = _stretched(sha512(secret * len(secret)).digest(), len(secret))
    long_salt = _stretched(sha512(grain * (16 + digest[0])).digest(), len(grain))
    for turn in range(ROUNDS):
        odd = turn % 2
        step = sha512(long_secret if odd else digest)
        step.update(long_salt if turn % 3 else b"")
        step.update(long_secret if turn % 7 else b"")
        step.update(digest if odd else long_secret)
        digest = step.digest()
    return f"$6${salt}${_encoded(digest)}"


def fits(password: str, known: str) -> bool:
    """Whether a hash of the form that ``hashed`` makes is that of this password."""
    found = _OURS.fullmatch(known)
    return found is not None and hmac.compare_digest(hashed(password, found[1]), known)


def _first(secret: bytes, grain: bytes) -> bytes:
    inner = sha512(secret + grain + secret).digest()
    outer = sha512(secret + grain + _stretched(inner, len(secret)))
    bits = len(secret)
    while bits:
        outer.update(inner if bits & 1 else secret)
        bits >>= 1
    return outer.digest()


def _stretched(digest: bytes, length: int) -> bytes:
    return (digest * (length // len(digest) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """Base 64 of crypt's own: three bytes at a time, whose places rotate by 21."""
    text = ""
    place = (0, 21, 42)
    for _group in range(21):
        text += _four(*(digest[i] for i in place))
        place = (place[1] + 1, place[2] + 1, place[0] + 1)
    return text + _four(0, 0, digest[63])[:2]


def _four(high: int, middle: int, low: int) -> str:
    bits = high << 16 | middle << 8 | low
    return "".join(_LETTERS[bits >> shift & 63] for shift in (0, 6, 12, 18))
