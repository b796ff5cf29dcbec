# SPDX-License-Identifier: GPL-3.0-or-later
"""`kill -9` at any moment: every change that was answered with success is there afterwards, and nothing is half
there."""

from __future__ import annotations

import random
import signal
import threading
from typing import Any

import pytest
import requests

ROUNDS = 6


class Writer(threading.Thread):
    """Changes one object again and again until the node is gone. ``sent`` is what it asked for last, ``kept`` what
    was answered."""

    def __init__(self, client: Any, name: str, method: str, path: str, key: str) -> None:
        super().__init__(name=name)
        self.client, self.method, self.path, self.key = client, method, path, key
        self.sent = self.kept = 0
        self.failure = ""

    def run(self) -> None:
        while True:
            self.sent += 1
            try:
                answer = self.client.call(self.method, self.path, **{self.key: f"n{self.sent}"})
            except requests.RequestException:
                return
            if answer.status_code != 200:
                self.failure = f"{answer.status_code} {answer.reason}"
                return
            self.kept = self.sent


def writers(server: Any) -> list[Writer]:
    def client() -> Any:
        fresh = server.client()
        fresh.login()
        return fresh

    return [
        Writer(client(), "pool", "PUT", "/pools?poolid=p", "comment"),
        Writer(client(), "user", "PUT", "/access/users/u@pve", "comment"),
        Writer(client(), "options", "PUT", "/cluster/options", "description"),
        Writer(client(), "job", "PUT", "/cluster/backup/job", "comment"),
        Writer(client(), "guest", "PUT", "/nodes/pve1/qemu/100/config", "description"),
        Writer(client(), "rule", "PUT", "/nodes/pve1/qemu/100/firewall/rules/0", "comment"),
        Writer(client(), "zone", "PUT", "/cluster/sdn/zones/zz", "nodes"),
    ]


def prepare(server: Any) -> None:
    root = server.client()
    root.login()
    root.data("POST", "/pools", poolid="p")
    root.data("POST", "/access/users", userid="u@pve")
    root.data("POST", "/cluster/backup", id="job", schedule="1:00", all=1)
    root.data("POST", "/nodes/pve1/qemu", vmid=100, description="n0")
    root.data("POST", "/nodes/pve1/qemu/100/firewall/rules", type="in", action="DROP")
    root.data("POST", "/cluster/sdn/zones", zone="zz", type="simple")


def now(server: Any) -> dict[str, str]:
    """What the node holds after its restart."""
    root = server.client()
    root.login()
    return {
        "pool": root.data("GET", "/pools/p").get("comment", ""),
        "user": root.data("GET", "/access/users/u@pve").get("comment", ""),
        "options": root.data("GET", "/cluster/options")["description"].strip(),
        "job": root.data("GET", "/cluster/backup/job").get("comment", ""),
        "guest": root.data("GET", "/nodes/pve1/qemu/100/config")["description"].strip(),
        "rule": root.data("GET", "/nodes/pve1/qemu/100/firewall/rules/0").get("comment", ""),
        "zone": root.data("GET", "/cluster/sdn/zones/zz").get("nodes", ""),
    }


def test_no_committed_change_is_lost(own_server: Any) -> None:
    prepare(own_server)
    chance = random.Random(7)
    changes = 0
    for _ in range(ROUNDS):
        threads = writers(own_server)
        for thread in threads:
            thread.start()
        goal = chance.randint(1, 12)
        while min(thread.kept for thread in threads) < goal and all(thread.is_alive() for thread in threads):
            threads[0].join(0.01)
        own_server.end(signal.SIGKILL)
        for thread in threads:
            thread.join(30)
            assert not thread.failure, f"{thread.name}: {thread.failure}"
        own_server.start()
        held = now(own_server)
        for thread in threads:
            # The last request may have been carried out without its answer being heard; an older one never comes back.
            assert held[thread.name] in (f"n{thread.kept}", f"n{thread.sent}"), thread.name
            changes += thread.kept
    assert changes > 100
    assert [path.name for path in own_server.state.rglob("*.tmp")] == []


def test_a_task_that_was_cut_off_says_so(own_server: Any) -> None:
    root = own_server.client()
    root.login()
    root.data("POST", "/nodes/pve1/qemu", vmid=100, memory=16)
    upid = root.data("POST", "/nodes/pve1/qemu/100/status/start")
    own_server.end(signal.SIGKILL)
    own_server.start()
    root = own_server.client()
    root.login()
    row = next(row for row in root.data("GET", "/nodes/pve1/tasks", limit=100) if row["upid"] == upid)
    # The start may have won the race with the kill.
    assert row["status"] in ("unexpected status", "OK")
    root.call("POST", "/nodes/pve1/qemu/100/status/stop")
    assert own_server.end(signal.SIGTERM) == 0


def test_tickets_outlive_a_restart(own_server: Any) -> None:
    root = own_server.client()
    root.login()
    own_server.end(signal.SIGKILL)
    own_server.start()
    assert root.data("GET", "/version")["release"] == "9.1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_on_a_signal(own_server: Any, number: int) -> None:
    root = own_server.client()
    root.login()
    assert own_server.end(number) == 0
    assert "Traceback" not in (own_server.folder / "log").read_text()
