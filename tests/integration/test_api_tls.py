# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the API seam trusts: pins, authorities, and what the environment may and may not change about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Unreachable
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.tests.integration.api_parts import PASSWORD, Certificate, api_for
from ansible_collections.pvelab.proxmox.tests.integration.bad_server import Answer, BadServer, Seen

VERSION = {"version": "9.1.7", "release": "9.1"}


def behave(seen: Seen) -> Answer:
    if seen.path == "/access/ticket":
        return Answer(data={"ticket": "PVE:root@pam:1::x", "CSRFPreventionToken": "1:y", "username": "root@pam"})
    return Answer(data=VERSION)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture
def server(certificate: Certificate) -> Iterator[BadServer]:
    with BadServer(behave, certificate.path, certificate.key) as serving:
        yield serving


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_pin_is_enough(server: BadServer, certificate: Certificate) -> None:
    with api_for(server.host, api_fingerprint=[certificate.pin]) as api:
        assert api.version() == (9, 1, 7)


def test_plain_hex_and_several_pins(server: BadServer, certificate: Certificate, other: Certificate) -> None:
    pins = [other.pin, certificate.pin.replace(":", "").lower()]
    with api_for(server.host, api_fingerprint=pins) as api:
        assert api.version() == (9, 1, 7)


def test_wrong_pin_names_both_and_sends_nothing(
    server: BadServer, certificate: Certificate, other: Certificate
) -> None:
    with (
        api_for(server.host, api_password=PASSWORD, api_fingerprint=[other.pin]) as api,
        pytest.raises(Unreachable) as caught,
    ):
        api.do(Call("POST", "/pools", {"poolid": "a"}))
    assert certificate.pin in caught.value.msg and other.pin in caught.value.msg
    assert "set api_fingerprint to the new one" in caught.value.msg
    assert server.seen == [], "neither the password nor the request reached the other side"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("trust", ["pin", "unchecked"])
def test_bundle_of_the_environment_does_not_turn_checking_on(
    server: BadServer, certificate: Certificate, other: Certificate, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.path))
    options = {"api_fingerprint": [certificate.pin]} if trust == "pin" else {"validate_certs": False}
    with api_for(server.host, api_password=PASSWORD, **options) as api:
        assert api.version() == (9, 1, 7)


def test_unknown_authority_is_refused_by_default(server: BadServer) -> None:
    with api_for(server.host) as api, pytest.raises(Unreachable, match="is not trusted: self-signed") as caught:
        api.version()
    assert "api_fingerprint" in caught.value.msg and "ca_path" in caught.value.msg
    assert server.seen == []


def test_ca_path_is_trusted(server: BadServer, certificate: Certificate) -> None:
    with api_for(server.host, ca_path=str(certificate.path)) as api:
        assert api.version() == (9, 1, 7)


def test_ca_path_goes_before_the_environment(
    server: BadServer, certificate: Certificate, other: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.path))
    with api_for(server.host, ca_path=str(certificate.path)) as api:
        assert api.version() == (9, 1, 7)


def test_bundle_of_the_environment_is_trusted(
    server: BadServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    with api_for(server.host) as api:
        assert api.version() == (9, 1, 7)


def test_name_in_the_certificate_counts(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    # The certificate is for 127.0.0.1 and localhost.
    with BadServer(behave, certificate.path, certificate.key, address="127.0.0.2") as server:
        with (
            api_for(server.host, ca_path=str(certificate.path)) as api,
            pytest.raises(Unreachable, match=r"is not trusted: IP address mismatch"),
        ):
            api.version()
        assert server.seen == []


def test_ca_path_that_is_not_there(server: BadServer, tmp_path: Path) -> None:
    with (
        api_for(server.host, ca_path=str(tmp_path / "none.pem")) as api,
        pytest.raises(Failure, match=r"no certificates can be read from .*none\.pem.*pve-root-ca\.pem"),
    ):
        api.version()


def test_proxy_is_not_used_for_loopback(
    server: BadServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with api_for(server.host, api_fingerprint=[certificate.pin]) as api:
        assert api.version() == (9, 1, 7)


def test_proxy_that_is_down_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:hush@127.0.0.1:9")
    with api_for("192.0.2.1:8006", api_retries=0) as api, pytest.raises(Unreachable) as caught:
        api.version()
    assert "the proxy 127.0.0.1:9 of HTTPS_PROXY cannot be used" in caught.value.msg
    assert "NO_PROXY" in caught.value.msg and "hush" not in caught.value.msg


def test_secrets_are_in_no_log_and_no_repr(
    server: BadServer, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("proxmoxer.core").setLevel(logging.DEBUG)
    with (
        caplog.at_level(logging.DEBUG),
        api_for(server.host, api_password=PASSWORD, api_fingerprint=[certificate.pin]) as api,
    ):
        api.do(Call("POST", "/access/users", {"userid": "a@pve", "password": "another-secret"}))
        shown = f"{api!r} {api._options!r}"
    assert any(s.form.get("password") == PASSWORD for s in server.seen)
    assert PASSWORD not in caplog.text + shown and "another-secret" not in caplog.text
