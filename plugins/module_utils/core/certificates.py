# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that sign themselves, as openssl(1) makes and shows them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from .state import State
from .steps import Failure, Run

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def names(given: Sequence[str]) -> list[str]:
    """ "192.0.2.1" → "IP:192.0.2.1", "host.example.com" → "DNS:host.example.com"; sorted. Raises Failure."""
    if not given:
        raise Failure("names is empty. Give the addresses or names under which the server is asked.")
    return sorted({_tagged(name) for name in given})


def _tagged(name: str) -> str:
    try:
        return f"IP:{ip_address(name)}"
    except ValueError:
        pass
    if not _NAME.fullmatch(name):
        raise Failure(f"{name!r} is neither an address nor the name of a host. Correct it in names.")
    return f"DNS:{name.lower()}"


def parse(text: str) -> State:
    """What ``openssl x509 -noout -sha256 -fingerprint -ext subjectAltName -checkend 0`` shows."""
    fingerprint = re.search(r"(?im)^sha256 Fingerprint=(\S+)$", text)
    shown = re.search(r"(?m)^X509v3 Subject Alternative Name:.*\n\s*(.+)$", text)
    words = [word.strip().partition(":") for word in shown[1].split(",")] if shown else []
    return {
        "fingerprint": fingerprint[1] if fingerprint else "",
        "names": names([value for _kind, _colon, value in words]) if words else [],
        "valid": "Certificate will not expire" in text,
    }


def make(path: str, key: str, tagged: Sequence[str], days: int) -> list[Run]:
    """Make a key that only its owner reads, and a certificate of it."""
    subject = tagged[0].partition(":")[2]
    argv = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"),
        *("-keyout", key, "-out", path, "-days", str(days), "-subj", f"/CN={subject[:64]}"),
        *("-addext", f"subjectAltName={','.join(tagged)}"),
    )
    return [Run(argv, label="make the key and the certificate"), Run(("chmod", "600", key), label="close the key")]
