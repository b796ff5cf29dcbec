# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys of OpenPGP as far as a package repository needs them: reading, fingerprints, armour. Pure.

Facts: RFC 4880, sections 4.2 (packets), 6 (armour) and 12.2 (fingerprints); RFC 9580 for keys of version 6.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import textwrap

from .steps import Failure

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_PUBLIC_KEY = 6
NO_KEY = "what was given as the key is no public key of OpenPGP."


def binary(text: str) -> bytes:
    """The packets of a key that is armoured, or of the base64 of a file of either form. Raises Failure for others."""
    lines = [line.strip() for line in text.strip().splitlines()]
    try:
        if _BEGIN not in lines:
            packets = base64.b64decode("".join(text.split()), validate=True)
            return binary(packets.decode()) if packets.lstrip().startswith(b"-----BEGIN ") else packets
        packets = b""
        while _BEGIN in lines:
            start, end = lines.index(_BEGIN), lines.index(_END)
            packets += _block(lines[start + 1 : end])
            lines = lines[end + 1 :]
        return packets
    except (ValueError, binascii.Error):
        raise Failure(NO_KEY) from None


def _block(lines: list[str]) -> bytes:
    """Headers end with an empty line; a line that begins with "=" is the checksum."""
    body = lines[lines.index("") + 1 :] if "" in lines else lines
    return base64.b64decode("".join(line for line in body if not line.startswith("=")), validate=True)


def armored(packets: bytes) -> str:
    """The text that apt takes as a file whose name ends with ".asc"."""
    lines = textwrap.wrap(base64.b64encode(packets).decode(), 64)
    check = base64.b64encode(_crc24(packets).to_bytes(3, "big")).decode()
    return "\n".join([_BEGIN, "", *lines, f"={check}", _END]) + "\n"


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _bit in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc & 0xFFFFFF


def fingerprints(packets: bytes) -> list[str]:
    """The fingerprints of the primary keys, in capitals and in their order. Raises Failure where there is none."""
    found = [_fingerprint(body) for tag, body in _packets(packets) if tag == _PUBLIC_KEY]
    if not found:
        raise Failure(NO_KEY)
    return found


def _fingerprint(body: bytes) -> str:
    if body[:1] == b"\x06":
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    if body[:1] != b"\x04":
        raise Failure(f"the key is of version {body[0] if body else 0}; apt takes versions 4 and 6.")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, body) of each packet. Raises Failure for what is cut short or no packet."""
    found, at = [], 0
    while at < len(data):
        first = data[at]
        if not first & 0x80 or at + 1 >= len(data):
            raise Failure(NO_KEY)
        tag = first & 0x3F if first & 0x40 else (first >> 2) & 0x0F
        size, at = _new_length(data, at + 1) if first & 0x40 else _old_length(data, at + 1, first & 3)
        if at + size > len(data):
            raise Failure(NO_KEY)
        found.append((tag, data[at : at + size]))
        at += size
    return found


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 192:
        return data[at], at + 1
    if data[at] == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    if data[at] >= 224:
        raise Failure(NO_KEY)
    return ((data[at] - 192) << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192, at + 2


def _old_length(data: bytes, at: int, kind: int) -> tuple[int, int]:
    if kind == 3:
        return len(data) - at, at
    width = 1 << kind
    return int.from_bytes(data[at : at + width], "big"), at + width


def spelled(fingerprint: str) -> str:
    """A fingerprint as somebody wrote it, without spaces and colons, in capitals."""
    return "".join(c for c in fingerprint.upper() if c not in " :\t")


def accepted(packets: bytes, wanted: list[str]) -> list[str]:
    """The fingerprints of a keyring. Raises Failure where one of them is none of ``wanted`` (empty: any is taken).

    One unwanted key among several would be trusted like the others, so it spoils the whole.
    """
    found = fingerprints(packets)
    others = [f for f in found if f not in {spelled(w) for w in wanted}]
    if wanted and others:
        raise Failure(
            f"the key has the fingerprint {', '.join(others)}, and {', '.join(spelled(w) for w in wanted)} is wanted. "
            "Do not trust it before you know why."
        )
    return found
