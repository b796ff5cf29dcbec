# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` does what it says, leaves nothing behind, and with KEEP=1 a node to talk to."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
import requests

from ansible_collections.pvelab.proxmox.tests.integration.demo_parts import Demo


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.sweep()


def test_the_whole_demo_leaves_nothing_behind(demo: Demo) -> None:
    said = demo.run()
    assert "changed=0 failed=0" in said
    for guest, address in (("web1", "10.10.10.11/24"), ("web2", "10.10.10.12/24"), ("db1", "10.10.20.11/24")):
        assert re.search(rf"^ *{guest} .* running .* {address} +clean +#\d+", said, re.MULTILINE), said
    assert re.search(r"all [1-9]\d* acknowledged heartbeats are on their disks", said), said
    assert "Two things to try next" in said
    demo.is_gone()


def test_a_node_that_is_kept_is_used_again_and_taken_down_even_when_it_was_killed(demo: Demo) -> None:
    with closing(socket.socket()) as holder:
        with suppress(OSError):  # where another node has the port already, it is taken as well
            holder.bind(("127.0.0.1", 8006))
            holder.listen()
        said = demo.run(KEEP="1")
    assert "port 8006 is taken, so a free one is used" in said
    assert "make demo-down" in said
    endpoint = json.loads((demo.lab / "endpoint.json").read_text())
    answer = requests.post(
        f"{endpoint['url']}/api2/json/access/ticket",
        data={"username": "root@pam", "password": (demo.lab / "demo/password").read_text().strip()},
        verify=str(demo.lab / "etc/nodes/pve1/pve-ssl.pem"),
        timeout=30,
    )
    assert answer.ok
    assert answer.json()["data"]["username"] == "root@pam"

    said = demo.run()
    assert f"already up at {endpoint['url']}; it is used, and stays up" in said
    assert said.count("changed=0 failed=0") == 2
    assert demo.lab.exists()

    psutil.Process(int((demo.lab / "demo/pid").read_text())).send_signal(signal.SIGKILL)
    assert any("qemu-system" in line for line in demo.processes()), "guests do not depend on the node"
    demo.run("demo-down")
    demo.is_gone()
    assert "Nothing is up" in demo.run("demo-down")
