# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as gpg exports them: every way to write them down is the same key, and what is cut or foreign is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import openpgp
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure

# Two keys that gpg made for this file, with what it says of them.
PROXMOX, OTHER = "AD24D7B42451A2DEA7C137829261B78C70E120AB", "D3FAE38834D77EECE790D25362625DC7708FEAEF"
KEYS = {
    PROXMOX: """
        mDMEawHKSBYJKwYBBAHaRw8BAQdAmqG/pRJG1aErFekwBEIG6c3jS8ZY9ZLSYMC9pZ7MUvG0EHByb3htb3hAbGFiLnRlc3SIkAQT
        FggAOBYhBK0k17QkUaLep8E3gpJht4xw4SCrBQJrAcpIAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEJJht4xw4SCrpn0A
        /jrN6o6Ogkt2Ky70ZGjjBMHD4MvsAhpLiMcsbqQ/SgsLAP9Nx0Ydifl5fMX01quJsG1ypB4vSDlcsI6gfUYu1PgYBg==
    """,
    OTHER: """
        mDMEawHKSBYJKwYBBAHaRw8BAQdAc+AErOcMzBmEb+E96lc4hSP2VOmPvB16Rvu/gWtmxrO0Dm90aGVyQGxhYi50ZXN0iJAEExYI
        ADgWIQTT+uOINNd+7OeQ0lNiYl3HcI/q7wUCawHKSAIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRBiYl3HcI/q78/1AQDz
        8hS0pVdY0o/83OKMIrHRFE0l7WEtVKdzN4CY9WQqTQD/fSAJg6jW42BfBFbi/HcFBZj8BkWZgoHA004BKV1RVwQ=
    """,
}
BYTES = {name: base64.b64decode("".join(text.split())) for name, text in KEYS.items()}


@pytest.mark.parametrize("name", KEYS)
def test_the_fingerprint_is_gpgs(name: str) -> None:
    assert openpgp.fingerprints(BYTES[name]) == [name]


@pytest.mark.parametrize("name", KEYS)
def test_all_forms_are_the_same_key(name: str) -> None:
    armour = openpgp.armored(BYTES[name])
    forms = [KEYS[name], armour, f"Comment before\n\n{armour}", base64.b64encode(armour.encode()).decode()]
    assert [openpgp.binary(form) for form in forms] == [BYTES[name]] * len(forms)


def test_armour_is_gpgs() -> None:
    assert openpgp.armored(BYTES[PROXMOX]).endswith("\n=fnGa\n-----END PGP PUBLIC KEY BLOCK-----\n")


def test_several_keys_in_one_file() -> None:
    both = openpgp.armored(BYTES[PROXMOX]) + openpgp.armored(BYTES[OTHER])
    assert openpgp.fingerprints(openpgp.binary(both)) == [PROXMOX, OTHER]


@pytest.mark.parametrize("size", [1, 191, 192, 8383, 8384, 65535])
def test_every_length_of_a_packet(size: int) -> None:
    body = b"\x04" + bytes(size - 1)
    wanted = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
    if size < 192:
        length = bytes([size])
    elif size < 8384:
        length = bytes([192 + ((size - 192) >> 8), (size - 192) & 0xFF])
    else:
        length = b"\xff" + size.to_bytes(4, "big")
    forms = [b"\xc6" + length + body, b"\x9a" + size.to_bytes(4, "big") + body, b"\x9b" + body]
    assert [openpgp.fingerprints(form) for form in forms] == [[wanted]] * 3


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="no public key"):
        openpgp.fingerprints(openpgp.binary(text))


@given(st.integers(1, len(BYTES[PROXMOX]) - 1))
def test_what_is_cut_short_is_refused_or_still_the_key(size: int) -> None:
    try:
        assert openpgp.fingerprints(BYTES[PROXMOX][:size]) == [PROXMOX]
    except Failure as failure:
        assert failure.msg == openpgp.NO_KEY


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_refused(data: bytes) -> None:
    try:
        assert openpgp.fingerprints(data)
    except Failure:
        return


def test_one_unwanted_key_spoils_a_keyring() -> None:
    both = BYTES[PROXMOX] + BYTES[OTHER]
    assert openpgp.accepted(both, [PROXMOX.lower(), OTHER]) == [PROXMOX, OTHER]
    assert openpgp.accepted(both, []) == [PROXMOX, OTHER]
    with pytest.raises(Failure, match=f"{OTHER}, and {PROXMOX} is wanted"):
        openpgp.accepted(both, [PROXMOX])
