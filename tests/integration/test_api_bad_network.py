# SPDX-License-Identifier: GPL-3.0-or-later
"""The API seam against a node that cuts connections, keeps silent and answers in the wrong way.

What counts is how often each request arrives: reads are repeated, a write never is unless it cannot have been done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Unknown, Unreachable
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.tests.integration.api_parts import SECRET, Certificate, Clock, api_for, upid
from ansible_collections.pvelab.proxmox.tests.integration.bad_server import (
    CUT,
    Answer,
    BadServer,
    Behaviour,
    Seen,
    error,
)

CREATE = Call("POST", "/nodes/pve1/qemu", {"vmid": 100, "name": "web1"})
NODES = [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}]
Start = Callable[[Behaviour], BadServer]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def serve(certificate: Certificate) -> Iterator[Start]:
    servers: list[BadServer] = []

    def start(behave: Behaviour) -> BadServer:
        servers.append(BadServer(behave, certificate.path, certificate.key))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def reach(certificate: Certificate) -> Callable[..., Any]:
    return lambda server, *args, **more: api_for(server.host, *args, api_fingerprint=[certificate.pin], **more)


class Node:
    """A node with a few guests: creating one starts a task. ``trouble`` decides what happens to the writes."""

    def __init__(self, trouble: Callable[[Node, Seen], Answer | str | None]) -> None:
        self.trouble = trouble
        self.tasks: list[str] = []
        self.writes = 0

    def create(self, *, user: str = "root@pam!ci", ago: int = 0) -> str:
        self.tasks.append(upid("qmcreate", "100", int(time.time()) - ago, user=user, pid=len(self.tasks) + 1))
        return self.tasks[-1]

    def __call__(self, seen: Seen) -> Answer | str | None:
        if seen.method != "GET":
            self.writes += 1
            return self.trouble(self, seen)
        if seen.path == "/nodes":
            return Answer(data=NODES)
        if seen.path == "/nodes/pve1/tasks":
            return Answer(data=[{"upid": t, "status": "RUNNING"} for t in self.tasks])
        if seen.path.endswith("/status"):
            return Answer(data={"status": "stopped", "exitstatus": "OK"})
        return Answer(data=[])


def test_read_is_repeated_after_cuts(serve: Start, reach: Any) -> None:
    answers = iter([CUT, CUT, Answer(data=NODES)])
    server = serve(lambda _seen: next(answers))
    with reach(server) as api:
        assert api.get("/nodes") == NODES
    assert server.requests() == ["GET /nodes"] * 3


def test_read_gives_up_after_its_retries(serve: Start, reach: Any) -> None:
    server = serve(lambda _seen: CUT)
    clock = Clock()
    with reach(server, clock, api_retries=2) as api, pytest.raises(Unreachable, match="cut the connection") as caught:
        api.get("/nodes")
    assert caught.value.request == "GET /nodes"
    assert server.requests() == ["GET /nodes"] * 3
    assert clock.pauses == [0.5, 1.0]


def test_silence_is_not_waited_out(serve: Start, reach: Any) -> None:
    answers = iter([None, Answer(data=NODES)])
    server = serve(lambda _seen: next(answers))
    with reach(server, api_timeout=1) as api:
        assert api.get("/nodes") == NODES


@pytest.mark.parametrize("status", [502, 503, 504, 595, 596, 599])
def test_read_is_repeated_after_a_gateway_error(serve: Start, reach: Any, status: int) -> None:
    answers = iter([error(status, "try later"), Answer(data=NODES)])
    server = serve(lambda seen: Answer(data=NODES) if seen.path == "/nodes" else next(answers))
    with reach(server) as api:
        assert api.get("/nodes/pve1/qemu") == NODES


def test_connection_that_idled_is_not_used_again(serve: Start, reach: Any) -> None:
    server = serve(lambda _seen: Answer(data=[]))
    clock = Clock()
    with reach(server, clock) as api:
        for moment in (0.0, 1.0, 6.0):
            clock.now += moment
            api.do(Call("PUT", "/pools", {"poolid": "a"}))
    first, second, third = (s.connection for s in server.seen)
    assert first == second != third


def test_create_cut_after_it_was_done_is_found(serve: Start, reach: Any) -> None:
    def trouble(node: Node, _seen: Seen) -> str:
        node.create()
        return CUT

    node = Node(trouble)
    with reach(serve(node)) as api:
        assert api.do(CREATE) == node.tasks[0]
        assert len(api.warnings) == 1 and node.tasks[0] in api.warnings[0]
    assert node.writes == 1


@pytest.mark.parametrize("status", [502, 504, 596, 597, 599])
def test_create_lost_between_the_nodes_is_found(serve: Start, reach: Any, status: int) -> None:
    def trouble(node: Node, _seen: Seen) -> Answer:
        node.create()
        return error(status, "connection timed out")

    node = Node(trouble)
    with reach(serve(node)) as api:
        assert api.do(CREATE) == node.tasks[0]
    assert node.writes == 1


def test_create_that_answers_too_late_is_found(serve: Start, certificate: Certificate) -> None:
    def trouble(node: Node, _seen: Seen) -> None:
        node.create()

    node = Node(trouble)
    server = serve(node)
    with api_for(server.host, api_fingerprint=[certificate.pin]) as api:
        request = api._request(CREATE)
        assert request.timeout_s == 120.0, "a write has more time than a read"
        assert (
            api._send(type(request)(request.method, request.path, request.params, timeout_s=0.5)).data == node.tasks[0]
        )
    assert node.writes == 1


@pytest.mark.parametrize(("answer", "patience_s"), [(CUT, 15), (error(599, "Connection timed out"), 35)])
def test_create_lost_before_it_was_done_is_not_sent_again(
    serve: Start, reach: Any, answer: Answer | str, patience_s: float
) -> None:
    node = Node(lambda _node, _seen: answer)
    # A task of another user, and an old one of ours: neither is the trace of this request.
    node.create(user="root@pam")
    node.create(ago=600)
    clock = Clock()
    with (
        reach(serve(node), clock) as api,
        pytest.raises(Unknown, match="not known whether POST /nodes/pve1/qemu") as caught,
    ):
        api.do(CREATE)
    assert "no task of it on pve1" in caught.value.msg
    assert node.writes == 1
    assert patience_s <= sum(clock.pauses) < patience_s + 3


def test_own_earlier_task_is_not_taken_for_the_lost_one(serve: Start, reach: Any) -> None:
    answers: list[Callable[[Node], Answer | str]] = [lambda node: Answer(data=node.create()), lambda _node: CUT]
    node = Node(lambda node, _seen: answers[node.writes - 1](node))
    with reach(serve(node)) as api:
        api.do(CREATE)
        with pytest.raises(Unknown):
            api.do(CREATE)
    assert node.writes == 2


def test_write_without_a_task_is_not_sent_again(serve: Start, reach: Any) -> None:
    server = serve(lambda _seen: CUT)
    with reach(server) as api, pytest.raises(Unknown, match="not known whether POST /pools was carried out"):
        api.do(Call("POST", "/pools", {"poolid": "a"}))
    assert server.requests() == ["POST /pools"]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"),
        (500, "cfs-lock 'storage-local' error: got lock request timeout"),
        (500, "cluster not ready - no quorum?"),
        (503, "Service Unavailable"),
        (595, "Connection refused"),
    ],
)
def test_write_that_was_not_begun_is_sent_again(serve: Start, reach: Any, status: int, text: str) -> None:
    answers: list[Callable[[Node], Answer]] = [
        lambda _node: error(status, text),
        lambda node: Answer(data=node.create()),
    ]
    node = Node(lambda node, _seen: answers[node.writes - 1](node))
    with reach(serve(node)) as api:
        assert api.do(CREATE) == node.tasks[0]
    assert node.writes == 2


def test_a_timeout_that_is_no_lock_is_not_sent_again(serve: Start, reach: Any) -> None:
    node = Node(lambda _node, _seen: error(500, "VM 100 qmp command 'query-status' failed - got timeout"))
    with reach(serve(node)) as api, pytest.raises(Failure, match="qmp command"):
        api.do(CREATE)
    assert node.writes == 1


@pytest.mark.parametrize(
    "answer",
    [
        error(596, "tls_process_server_certificate: certificate verify failed"),
        error(500, "hostname lookup 'pve1.lan' failed - failed to get address info"),
        error(400, "Parameter verification failed.", {"node": "invalid format - not a node name"}),
        error(595, "Connection timed out"),
    ],
)
def test_wrong_node_is_named_and_not_taken_for_something_else(serve: Start, reach: Any, answer: Answer) -> None:
    node = Node(lambda _node, _seen: answer)
    with reach(serve(node)) as api, pytest.raises(Failure, match=r"no node 'pve1\.lan'; the cluster has pve1, pve2"):
        api.do(Call("POST", "/nodes/pve1.lan/qemu", {"vmid": 100}))
    assert node.writes == 1


def test_node_that_is_offline_is_named(serve: Start, reach: Any) -> None:
    node = Node(lambda _node, _seen: error(595, "No route to host"))
    with reach(serve(node)) as api, pytest.raises(Unreachable, match="the node 'pve2' is offline"):
        api.do(Call("POST", "/nodes/pve2/qemu/100/status/start"))
    assert node.writes == 1


def test_next_host_is_tried_when_one_is_down(serve: Start, certificate: Certificate) -> None:
    node = Node(lambda node, _seen: Answer(data=node.create()))
    gone = serve(node)
    address = gone.host
    gone.close()
    server = serve(node)
    with api_for(address, api_hosts=[server.host], api_fingerprint=[certificate.pin]) as api:
        api.do(CREATE)
        assert server.host in repr(api)
    assert node.writes == 1


def test_host_that_goes_away_in_between_is_replaced(serve: Start, certificate: Certificate) -> None:
    first, second = serve(lambda _seen: Answer(data=["first"])), serve(lambda _seen: Answer(data=["second"]))
    with api_for(first.host, api_hosts=[second.host], api_fingerprint=[certificate.pin]) as api:
        assert api.get("/nodes") == ["first"]
        first.close()
        assert api.get("/nodes") == ["second"]


def test_write_that_may_have_arrived_does_not_go_to_the_next_host(serve: Start, certificate: Certificate) -> None:
    def trouble(node: Node, _seen: Seen) -> str:
        node.create()
        return CUT

    node = Node(trouble)
    first, second = serve(node), serve(node)
    with api_for(first.host, api_hosts=[second.host], api_fingerprint=[certificate.pin]) as api:
        assert api.do(CREATE) == node.tasks[0]
    assert node.writes == 1


def test_secret_that_an_error_repeats_is_masked(serve: Start, reach: Any) -> None:
    answers = [error(500, f"bad secret {SECRET}"), error(400, "No.", {"token": f"{SECRET} is bad"})]
    server = serve(lambda _seen: answers[len(server.seen) - 1])
    with reach(server) as api:
        for _each in answers:
            with pytest.raises(Failure) as caught:
                api.get("/nodes")
            assert SECRET not in str(caught.value.result()) and "********" in caught.value.msg


def test_all_hosts_down_are_all_named(certificate: Certificate, serve: Start) -> None:
    hosts = []
    for _each in range(2):
        server = serve(lambda _seen: CUT)
        hosts.append(server.host)
        server.close()
    with api_for(hosts[0], api_hosts=hosts[1:], api_retries=0) as api, pytest.raises(Unreachable) as caught:
        api.do(CREATE)
    assert all(host in caught.value.msg for host in hosts)
    assert "Connection refused" in caught.value.msg


def test_name_that_does_not_exist_is_not_tried_again() -> None:
    clock = Clock()
    with api_for("no-such-host.invalid", clock) as api, pytest.raises(Unreachable, match=r"no-such-host\.invalid:8006"):
        api.get("/nodes")
    assert clock.pauses == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(body=b"<html>hello</html>"), "not one of the Proxmox VE API"),
        (Answer(302, "Found", headers={"Location": "https://elsewhere/"}), "redirects to https://elsewhere/"),
        (Answer(500, "just a reason", body=b"", close=True), "just a reason"),
        (error(400, "Parameter verification failed.", {"cores": "type check failed"}), "cores: type check failed"),
    ],
)
def test_strange_answers_are_told(serve: Start, reach: Any, answer: Answer, told: str) -> None:
    with reach(serve(lambda _seen: answer)) as api, pytest.raises(Failure) as caught:
        api.get("/nodes")
    assert told in caught.value.msg


def test_siblings_of_data_come_through(serve: Start, reach: Any) -> None:
    answer = Answer(data=[1], extra={"total": 7, "changes": "--- a\n+++ b\n"})
    with reach(serve(lambda _seen: answer)) as api:
        reply = api.ask("/nodes/pve1/network")
    assert (reply.data, reply.total, reply.changes) == ([1], 7, "--- a\n+++ b\n")


def test_parameters_arrive_as_proxmox_reads_them(serve: Start, reach: Any) -> None:
    server = serve(lambda _seen: Answer())
    with reach(server) as api:
        api.do(Call("PUT", "/a", {"on": True, "off": False, "gone": None, "text": "a=b;c&d é", "empty": ""}))
        api.get("/b", list=["x", "y"], flag=True, gone=None)
    assert server.seen[0].form == {"on": "1", "off": "0", "text": "a=b;c&d é", "empty": ""}
    assert server.seen[1].query == {"list": ["x", "y"], "flag": ["1"]}


def test_upload_is_streamed_with_its_form_before_it(serve: Start, reach: Any, tmp_path: Path) -> None:
    file = tmp_path / "local-name.bin"
    with file.open("wb") as sink:
        sink.truncate(24 << 20)
    server = serve(lambda _seen: Answer())
    step = Call("POST", "/nodes/pve1/storage/local/upload", {"content": "iso", "filename": "tiny.iso"}, file=str(file))
    with reach(server) as api:
        api.do(step)
    body = server.seen[0].body
    assert body.count(b"\0") == 24 << 20
    head = body[:600]
    assert head.index(b'name="content"') < head.index(b'name="filename"; filename="tiny.iso"')
    assert b"Content-Type: application/octet-stream" in head
    assert server.seen[0].headers["Content-Length"] == str(len(body))


def test_upload_of_a_file_that_is_not_there(serve: Start, reach: Any, tmp_path: Path) -> None:
    server = serve(lambda _seen: Answer())
    step = Call("POST", "/nodes/pve1/storage/local/upload", {"content": "iso"}, file=str(tmp_path / "none.iso"))
    with reach(server) as api, pytest.raises(Failure, match=r"none\.iso cannot be read: No such file"):
        api.do(step)
    assert server.seen == []


def test_check_mode_refuses_writes_itself(serve: Start, reach: Any) -> None:
    server = serve(lambda _seen: Answer(data=[]))
    with reach(server, read_only=True) as api:
        assert api.get("/nodes") == []
        with pytest.raises(Failure, match="a write was attempted in check mode, which is a bug: DELETE /pools/a"):
            api.do(Call("DELETE", "/pools/a"))
    assert server.requests() == ["GET /nodes"]


def test_nothing_is_sent_before_the_first_request(serve: Start, reach: Any) -> None:
    server = serve(lambda _seen: Answer())
    with reach(server) as api:
        assert isinstance(api, Api)
    assert server.seen == []
