# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer server over real HTTP and HTTPS: each machine gets its own answer, and nobody else gets anything."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.answer_parts import Server, machine

ONE, TWO, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
UUID = "4c4c4544-0043-5810-8031-b7c04f333232"
RULES = {"pve1": {"macs": [ONE]}, "pve2": {"macs": [TWO]}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, rules=RULES)
    for name in RULES:
        made.answer(name, f'# {name}\n[global]\nroot-password = "secret of {name}"\n')
    with made:
        yield made


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("certificate")
    path, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*argv, "-keyout", key, "-out", path, "-subj", "/CN=x"], check=True, capture_output=True)
    return path, key


def test_each_machine_gets_its_own_answer_and_others_none(server: Server) -> None:
    assert server.post(machine(OTHER, ONE.upper()))[1].startswith("# pve1\n")
    assert server.post(machine(TWO))[1].startswith("# pve2\n")
    status, text = server.post(machine(OTHER))
    assert (status, "secret" in text) == (404, False)
    assert OTHER in server.said("no rule fits it") and "7CX1234" in server.said("no rule fits it")
    assert "gave pve1 its answer" in server.said("pve1")
    assert not [line for line in server.log if "secret" in line]


def test_the_answer_is_toml_that_nobody_keeps(server: Server) -> None:
    line = server.connect()
    line.request("POST", "/answer", json.dumps(machine(ONE)), {"Accept": "application/json, application/toml;q=0.5"})
    answer = line.getresponse()
    assert answer.headers["Content-Type"] == "application/toml"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Python" not in answer.headers["Server"]
    line.close()


CASES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("serial", {"serial": "7CX1234"}, machine(OTHER), True),
    ("uuid, in whatever letters", {"uuid": UUID}, machine(OTHER), True),
    ("serial and uuid", {"serial": "7CX1234", "uuid": UUID}, machine(), True),
    ("serial of another", {"serial": "7CX1234", "uuid": UUID}, machine(serial="X"), False),
    ("card put into another machine", {"macs": [ONE], "uuid": UUID}, machine(ONE, uuid="x"), False),
    ("machine with another card", {"macs": [ONE], "uuid": UUID}, machine(TWO), False),
    ("one of two cards", {"macs": [ONE, OTHER]}, machine(TWO, OTHER), True),
    ("no mark at all", {"once": True}, machine(ONE), False),
]


@pytest.mark.parametrize(("rule", "posted", "given"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_everything_that_a_rule_says_must_be_true(
    server: Server, rule: dict[str, Any], posted: dict[str, Any], given: bool
) -> None:
    server.rules({"pve1": rule})
    assert server.post(posted)[0] == (200 if given else 404)


def test_a_machine_that_could_be_two_gets_nothing(server: Server) -> None:
    server.rules({"pve1": {"macs": [ONE]}, "pve2": {"serial": "7CX1234"}})
    assert server.post(machine(ONE))[0] == 404
    server.said("it could be pve1 or pve2")


def test_https_with_the_fingerprint_that_is_told(tmp_path: Path, certificate: tuple[str, str]) -> None:
    made = Server(tmp_path, "--certificate", certificate[0], "--key", certificate[1], rules=RULES)
    made.answer("pve1", "# pve1\n")
    with made:
        line = made.connect()
        line.connect()
        assert isinstance(line.sock, ssl.SSLSocket)
        shown = hashlib.sha256(line.sock.getpeercert(binary_form=True) or b"").hexdigest().upper()
        assert made.fingerprint == ":".join(shown[i : i + 2] for i in range(0, 64, 2))
        line.close()
        assert made.post(machine(ONE)) == (200, "# pve1\n")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain = http.client.HTTPConnection("127.0.0.1", made.port, timeout=10)
            plain.request("POST", "/answer", json.dumps(machine(ONE)))
            plain.getresponse()
        made.said("the connection ended: SSLError")
        assert made.post(machine(ONE)) == (200, "# pve1\n")


def test_who_shakes_hands_slowly_keeps_nobody_waiting(tmp_path: Path, certificate: tuple[str, str]) -> None:
    made = Server(tmp_path, "--certificate", certificate[0], "--key", certificate[1], rules=RULES)
    made.answer("pve1", "# pve1\n")
    with made, ExitStack() as silent:
        for _none in range(24):
            silent.enter_context(socket.create_connection(("127.0.0.1", made.port), timeout=10))
        assert made.post(machine(ONE)) == (200, "# pve1\n")


def test_an_answer_is_given_only_once_until_it_is_another(server: Server) -> None:
    server.rules({"pve1": {"macs": [ONE], "once": True}})
    with ThreadPoolExecutor(16) as together:
        statuses = list(together.map(lambda _n: server.post(machine(ONE))[0], range(16)))
    assert sorted(statuses) == [200] + [404] * 15
    server.said("was given already, and is given only once")
    server.answer("pve1", "# another\n")
    assert server.post(machine(ONE)) == (200, "# another\n")
    assert server.post(machine(ONE))[0] == 404
    (server.directory / "served/pve1").unlink()
    assert server.post(machine(ONE))[0] == 200


def test_an_answer_expires(server: Server) -> None:
    server.rules({"pve1": {"macs": [ONE], "expires": "2001-01-01T00:00:00+00:00"}})
    assert server.post(machine(ONE))[0] == 404
    server.said("the answer of pve1 has expired")
    server.rules({"pve1": {"macs": [ONE], "expires": "2999-01-01T00:00:00+00:00"}})
    assert server.post(machine(ONE))[0] == 200


def test_many_at_once_each_get_their_own(server: Server) -> None:
    macs = [f"52:54:00:00:01:{i:02x}" for i in range(40)]
    server.rules({f"n{i}": {"macs": [mac]} for i, mac in enumerate(macs)})
    for i in range(40):
        server.answer(f"n{i}", f"# {i}\n")
    with ThreadPoolExecutor(40) as together:
        found = list(together.map(lambda mac: server.post(machine(mac)), macs))
    assert found == [(200, f"# {i}\n") for i in range(40)]


BAD: list[tuple[str, bytes, int]] = [
    ("nothing", b"", 400),
    ("no JSON", b"name=pve1", 400),
    ("no UTF-8", b"\xff\xfe{}", 400),
    ("a list", b"[]", 400),
    ("very deep", b"[" * 100_000, 400),
    ("nothing in it", b"{}", 404),
    ("wrong kinds", b'{"network_interfaces": {"mac": 1}, "dmi": []}', 404),
    ("wrong kinds inside", b'{"network_interfaces": [1, {"mac": 2}, {}], "dmi": {"system": 3}}', 404),
    ("a serial with a line of a log in it", json.dumps(machine(serial="x\n127.0.0.1 gave pve1")).encode(), 404),
]


@pytest.mark.parametrize(("body", "status"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_no_installer_posts_gets_nothing(server: Server, body: bytes, status: int) -> None:
    server.rules({"pve1": {"macs": [ONE]}, "pve2": {"serial": "", "uuid": ""}})
    assert server.post(body)[0] == status
    server.said(rf"\b{status}: ")
    assert not [line for line in server.log if line.startswith("127.0.0.1 gave")]
    assert server.post(machine(ONE))[0] == 200


RAW: list[tuple[str, bytes, bytes]] = [
    ("no length", b"POST /answer HTTP/1.1\r\n\r\n", b"HTTP/1.1 411 "),
    ("chunks", b"POST /answer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 411 "),
    ("less than nothing", b"POST /answer HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 411 "),
    ("too much", b"POST /answer HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", b"HTTP/1.1 413 "),
    ("an early end", b"POST /answer HTTP/1.1\r\nContent-Length: 99\r\n\r\n{}", b"HTTP/1.1 400 "),
    ("no HTTP", b"\x16\x03\x01\x00\xa5\r\n\r\n", b""),
    ("a long line", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414 "),
    ("many headers", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 "),
    ("another verb", b"DELETE /answer HTTP/1.1\r\n\r\n", b"HTTP/1.1 501 "),
    ("a way out", b"GET /hooks/../rules.json HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
    ("a hidden way out", b"GET /hooks/..%2frules.json HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
    ("an answer by its name", b"GET /answers/pve1.toml HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
]


@pytest.mark.parametrize(("sent", "starts"), [r[1:] for r in RAW], ids=[r[0] for r in RAW])
def test_malformed_requests_are_refused_and_the_server_goes_on(server: Server, sent: bytes, starts: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        got = line.makefile("rb").read()
    assert got.startswith(starts) and b"secret" not in got
    assert server.post(machine(ONE))[0] == 200


def test_only_the_given_address_is_listened_on(server: Server) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=10)


def test_rules_that_cannot_be_trusted_give_nothing(server: Server) -> None:
    for table in ([], {"../x": {"macs": [ONE]}}, {"pve1": [ONE]}):
        server.rules(table)
        assert server.post(machine(ONE))[0] == 503
    (server.directory / "answers/rules.json").write_text("{")
    assert server.post(machine(ONE))[0] == 503
    server.said("rules.json cannot be read")
    server.rules({"pve9": {"macs": [ONE]}})
    assert server.post(machine(ONE))[0] == 404
    server.said("the answer of pve9 cannot be read")


def test_a_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"lab:s3cret").hexdigest()
    made = Server(tmp_path, "--token-sha256", digest, rules=RULES)
    made.answer("pve1", "# pve1\n")
    with made:
        assert made.post(machine(ONE), Authorization="Bearer lab:s3cret") == (200, "# pve1\n")
        assert made.post(machine(ONE))[0] == 404
        assert made.post(machine(ONE), Authorization="Bearer lab:other")[0] == 404
        made.said("the token is missing or wrong")


def test_hooks_and_reports(server: Server) -> None:
    (server.directory / "hooks/pve1").write_text("#!/bin/sh\n")
    assert server.ask("GET", "/hooks/pve1") == (200, "#!/bin/sh\n")
    assert server.ask("GET", "/hooks/pve2")[0] == 404
    assert server.ask("GET", "/hooks/pve3")[0] == 404
    # The webhook after the installation spells its keys with dashes.
    posted = machine(ONE)
    posted["network-interfaces"] = [{"name": "eno1", "mac": ONE, "is-management": True}]
    del posted["network_interfaces"]
    posted["ssh-public-host-keys"] = {"ed25519": "ssh-ed25519 AAAA root@pve1"}
    assert server.post(posted, "/installed") == (200, "")
    assert server.post(machine(ONE), "/first-boot")[0] == 200
    assert server.post(machine(OTHER), "/installed")[0] == 404
    report = server.directory / "reports/pve1.installed.json"
    assert json.loads(report.read_text()) == posted
    assert report.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in report.parent.iterdir()) == ["pve1.first-boot.json", "pve1.installed.json"]


def test_systemd_is_told_when_it_listens(tmp_path: Path) -> None:
    folder = tmp_path / "answers-of-mine"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(20)
        with Server(folder, rules=RULES, NOTIFY_SOCKET=str(tmp_path / "notify")):
            assert line.recv(64) == b"READY=1"
