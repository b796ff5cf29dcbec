# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in over HTTPS: by token and by password, second factors, and tickets that run out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Unauthorized
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call
from ansible_collections.pvelab.proxmox.tests.integration.api_parts import (
    PASSWORD,
    SECRET,
    Certificate,
    Clock,
    api_for,
)
from ansible_collections.pvelab.proxmox.tests.integration.bad_server import Answer, BadServer, Seen, error

HOUR = 3600.0


class Realm:
    """Tickets as Proxmox VE gives them: good for two hours, renewed for themselves, forgotten when told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tickets: dict[str, float] = {}
        self.logins: list[str] = []
        self.factors: dict[str, Any] = {}
        self.code = ""

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == "/access/ticket":
            return self.login(seen.form)
        cookie = seen.headers.get("Cookie", "").removeprefix("PVEAuthCookie=")
        if not self.good(cookie):
            return Answer(401, "permission denied - invalid PVE ticket", body=b"", close=True)
        if seen.method != "GET" and seen.headers.get("CSRFPreventionToken") != f"csrf of {cookie}":
            return Answer(401, "Permission denied - invalid csrf token", body=b"", close=True)
        return Answer(data="done")

    def good(self, ticket: str) -> bool:
        return ticket in self.tickets and self.clock.now - self.tickets[ticket] < 2 * HOUR

    def login(self, form: dict[str, str]) -> Answer:
        secret = form["password"]
        if form["username"] != "root@pam":
            return error(401, "authentication failure")
        if "tfa-challenge" in form:
            self.logins.append("factor")
            good = form["tfa-challenge"] == self.challenge() and secret == self.code
            return self.ticket() if good else error(401, "authentication failure")
        self.logins.append("ticket" if secret.startswith("PVE:") else "password")
        if self.good(secret):
            return self.ticket()
        if secret != PASSWORD:
            return error(401, "authentication failure")
        if self.factors:
            return Answer(data={"ticket": self.challenge(), "NeedTFA": 1, "CSRFPreventionToken": "x"})
        return self.ticket()

    def challenge(self) -> str:
        return f"PVE:!tfa!{quote(json.dumps(self.factors, separators=(',', ':')), safe='{}[],')}:6B014FA5::sig=="

    def ticket(self) -> Answer:
        name = f"PVE:root@pam:{len(self.tickets):08X}::sig+/=="
        self.tickets[name] = self.clock.now
        return Answer(data={"ticket": name, "CSRFPreventionToken": f"csrf of {name}", "username": "root@pam"})


@pytest.fixture
def realm() -> Realm:
    return Realm()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(realm: Realm, certificate: Certificate) -> Iterator[BadServer]:
    with BadServer(realm, certificate.path, certificate.key) as serving:
        yield serving


@pytest.fixture
def reach(realm: Realm, server: BadServer, certificate: Certificate) -> Any:
    def api(**params: Any) -> Any:
        given = {"api_password": PASSWORD, **params}
        return api_for(server.host, realm.clock, api_fingerprint=[certificate.pin], **given)

    return api


def test_token_goes_with_every_request(certificate: Certificate) -> None:
    with (
        BadServer(lambda _seen: Answer(), certificate.path, certificate.key) as server,
        api_for(server.host, api_fingerprint=[certificate.pin]) as api,
    ):
        api.get("/nodes")
        api.do(Call("POST", "/pools", {"poolid": "a"}))
    assert [s.headers["Authorization"] for s in server.seen] == [f"PVEAPIToken=root@pam!ci={SECRET}"] * 2
    assert all("Cookie" not in s.headers and "CSRFPreventionToken" not in s.headers for s in server.seen)


def test_refused_token_is_asked_once(certificate: Certificate) -> None:
    refusal = Answer(401, "no such token 'ci' for user 'root@pam'", body=b"", close=True)
    with (
        BadServer(lambda _seen: refusal, certificate.path, certificate.key) as server,
        api_for(server.host, api_fingerprint=[certificate.pin]) as api,
        pytest.raises(Unauthorized, match=r"login of root@pam!ci: no such token 'ci' for user 'root@pam'\. Check"),
    ):
        api.get("/nodes")
    assert len(server.seen) == 1, "each refusal takes the node 3 s"


def test_password_logs_in_once_at_first_use(reach: Any, realm: Realm) -> None:
    with reach() as api:
        assert realm.logins == []
        assert api.get("/nodes") == "done"
        assert api.do(Call("POST", "/pools", {"poolid": "a"})) == "done"
    assert realm.logins == ["password"]


def test_wrong_password_is_told_without_it(reach: Any, realm: Realm) -> None:
    with reach(api_password="not-the-password") as api, pytest.raises(Unauthorized) as caught:
        api.get("/nodes")
    assert caught.value.status == 401 and "root@pam" in caught.value.msg
    assert "not-the-password" not in str(caught.value.result())
    assert realm.logins == ["password"]


def test_ticket_is_renewed_before_it_runs_out(reach: Any, realm: Realm) -> None:
    with reach() as api:
        for _each in range(4):
            assert api.get("/nodes") == "done"
            realm.clock.now += 1.6 * HOUR
    assert realm.logins == ["password", "ticket", "ticket", "ticket"]


def test_ticket_that_has_run_out_is_not_offered(reach: Any, realm: Realm) -> None:
    with reach() as api:
        api.get("/nodes")
        realm.clock.now += 3 * HOUR
        assert api.get("/nodes") == "done"
    assert realm.logins == ["password", "password"]


def test_forgotten_ticket_is_replaced_and_the_write_sent_again(reach: Any, realm: Realm, server: BadServer) -> None:
    with reach() as api:
        api.get("/nodes")
        realm.tickets.clear()
        assert api.do(Call("POST", "/pools", {"poolid": "a"})) == "done"
    assert realm.logins == ["password", "password"]
    assert server.requests() == ["GET /nodes", "POST /pools", "POST /pools"]


def test_password_changed_meanwhile_is_told(reach: Any, realm: Realm, server: BadServer) -> None:
    with reach() as api:
        api.get("/nodes")
        realm.tickets.clear()
        server.behave = lambda _seen: error(401, "authentication failure")
        with pytest.raises(Unauthorized):
            api.get("/nodes")
    assert len(server.seen) == 4, "the request and one login"


@pytest.mark.parametrize(
    ("factors", "otp", "sent"),
    [
        ({"totp": True}, "123456", "totp:123456"),
        ({"totp": True, "recovery": [0, 1]}, "recovery:0123-4567-89ab-cdef", "recovery:0123-4567-89ab-cdef"),
        ({"recovery": [0]}, "0123-4567-89ab-cdef", "recovery:0123-4567-89ab-cdef"),
        ({"yubico": True}, "c" * 44, "yubico:" + "c" * 44),
    ],
)
def test_second_factor(reach: Any, realm: Realm, factors: dict[str, Any], otp: str, sent: str) -> None:
    realm.factors, realm.code = factors, sent
    with reach(api_otp=otp) as api:
        assert api.get("/nodes") == "done"
    assert realm.logins == ["password", "factor"]


def test_second_factor_that_is_missing_is_asked_for(reach: Any, realm: Realm) -> None:
    realm.factors = {"totp": True, "recovery": [0]}
    with reach() as api, pytest.raises(Unauthorized, match=r"second factor \(recovery, totp\)\. Set api_otp"):
        api.get("/nodes")
    assert realm.logins == ["password"]


def test_second_factor_of_a_kind_that_the_user_has_not(reach: Any, realm: Realm) -> None:
    realm.factors = {"totp": True}
    with reach(api_otp="recovery:0123-4567-89ab-cdef") as api, pytest.raises(Unauthorized, match="no second factor of"):
        api.get("/nodes")
    assert realm.logins == ["password"]


def test_second_factor_that_is_wrong(reach: Any, realm: Realm) -> None:
    realm.factors, realm.code = {"totp": True}, "totp:123456"
    with reach(api_otp="654321") as api, pytest.raises(Unauthorized, match="authentication failure"):
        api.get("/nodes")
    assert realm.logins == ["password", "factor"]
