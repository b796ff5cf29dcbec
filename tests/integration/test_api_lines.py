# SPDX-License-Identifier: GPL-3.0-or-later
"""Many requests at once: one login, a bounded number of connections that are kept, and agents that never answer."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_inventory import Wants, survey
from ansible_collections.pvelab.proxmox.tests.integration.api_parts import PASSWORD, Certificate, many_for
from ansible_collections.pvelab.proxmox.tests.integration.bad_server import Answer, BadServer, Seen, error

LINES = 4
LOGIN = "/access/ticket"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"))


class Node:
    """Gives tickets "PVE:1", "PVE:2", …; ``valid`` is the number of the only one that it knows."""

    def __init__(self) -> None:
        self.given = 0
        self.valid = 1
        # Each request waits for the others, so that they are under way at the same time.
        self.together = threading.Barrier(LINES)

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == LOGIN:
            self.given += 1
            return Answer(data={"ticket": f"PVE:{self.given}", "CSRFPreventionToken": "x"})
        if seen.path == "/slow":
            self.together.wait(10)
        if f"PVEAuthCookie=PVE:{self.valid}" not in seen.headers["Cookie"]:
            return error(401, "permission denied - invalid PVE ticket")
        return error(500, "out of luck") if seen.path == "/bad" else Answer(data=seen.path)


def test_one_login_and_as_many_connections_as_lines(certificate: Certificate) -> None:
    node = Node()
    with (
        BadServer(node, certificate.path, certificate.key) as server,
        many_for(server.host, api_password=PASSWORD, api_fingerprint=[certificate.pin]) as api,
    ):
        api.get("/first")
        for _round in range(2):
            assert api.each(api.get, ["/slow"] * LINES, parallel=LINES) == ["/slow"] * LINES
        assert api.each(api.get, [f"/{i}" for i in range(20)], parallel=LINES) == [f"/{i}" for i in range(20)]
        assert node.given == 1
        assert len({seen.connection for seen in server.seen}) == LINES


def test_a_ticket_that_is_no_longer_known_is_asked_for_anew_but_once(certificate: Certificate) -> None:
    node = Node()
    with (
        BadServer(node, certificate.path, certificate.key) as server,
        many_for(server.host, api_password=PASSWORD, api_fingerprint=[certificate.pin]) as api,
    ):
        api.get("/first")
        node.valid = 2
        assert api.each(api.get, ["/slow"] * LINES, parallel=LINES) == ["/slow"] * LINES
        assert node.given == 2


def test_the_first_failure_is_raised_and_what_has_not_begun_is_left(certificate: Certificate) -> None:
    with (
        BadServer(Node(), certificate.path, certificate.key) as server,
        many_for(server.host, api_password=PASSWORD, api_fingerprint=[certificate.pin]) as api,
        pytest.raises(Failure, match="out of luck"),
    ):
        api.get("/first")
        api.each(api.get, ["/bad", *["/good"] * 500], parallel=2)
    assert Counter(seen.path for seen in server.seen)["/good"] < 500


def mute_guests(seen: Seen) -> Answer | None:
    """A node with forty guests that run, of which no agent ever answers."""
    numbers = range(100, 140)
    if seen.path == LOGIN:
        return Answer(data={"ticket": "PVE:1", "CSRFPreventionToken": "x"})
    if seen.path == "/nodes":
        return Answer(data=[{"node": "pve1", "status": "online"}])
    if seen.path in ("/cluster/resources", "/nodes/pve1/qemu"):
        known = {"type": "qemu", "node": "pve1", "status": "running"}
        return Answer(data=[{"vmid": i, "name": f"g{i}", **known} for i in numbers])
    return Answer(data={"agent": "1"}) if seen.path.endswith("/config") else None


def test_agents_that_never_answer_cost_a_bounded_time(certificate: Certificate) -> None:
    told: list[str] = []
    with (
        BadServer(mute_guests, certificate.path, certificate.key) as server,
        many_for(server.host, api_password=PASSWORD, api_fingerprint=[certificate.pin]) as api,
    ):
        began = time.monotonic()
        found = survey(api, Wants(parallel=LINES, agent_timeout_s=0.5, agents_timeout_s=2), told.append)
        took = time.monotonic() - began
        agents = [seen.path for seen in server.seen if "/agent/" in seen.path]
        first_agent = next(i for i, seen in enumerate(server.seen) if "/agent/" in seen.path)
        others = len(server.seen) - len(agents)
    assert 1.5 < took < 6, "four at once, half a second each, two seconds in all; the rest is for a busy machine"
    assert len(found) == 40 and all(g["agent_interfaces"] == [] for g in found)
    assert first_agent == others == 1 + 3 + 40, "whatever else is asked for is not kept waiting by agents"
    assert 4 <= len(agents) <= 16 and len(set(agents)) == len(agents), "each is asked once"
    assert "did not answer within 0.5 seconds" in found[0]["agent"]
    assert found[-1]["agent"] == "no time was left to ask it"
    assert len(told) == 1 and "the 2 seconds for guest agents were over before" in told[0]
