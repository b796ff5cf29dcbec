# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` does what it says, leaves nothing behind, and with KEEP=1 a node to talk to.

What site.yml does to the example lab is held against what check mode foretells, and teardown.yml is refused, then
confirmed.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab, failures, until
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy
from ansible_collections.pvelab.proxmox.tests.stories.demo_parts import Demo, small_lab


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.sweep()


def test_the_whole_demo_does_what_check_mode_foretells_and_leaves_nothing_behind(demo: Demo, lab: Lab) -> None:
    said = demo.run()
    assert changes((demo.logs / "site-1.log").read_text(encoding="utf-8")) == foretold(lab)
    assert "changed=0 failed=0" in said
    for guest, address in (("web1", "10.10.10.11/24"), ("web2", "10.10.10.12/24"), ("db1", "10.10.20.11/24")):
        assert re.search(rf"^ *{guest} .* running .* {address} +clean +#\d+", said, re.MULTILINE), said
    for name in ("guest_hang", "guest_crash"):
        line = r"✓ passed: db1 was out for \d+\.\d s, detected after \d+\.\d s; [1-9]\d* writes acknowledged, 0 lost \("
        assert re.search(rf"Failure drill {name} …\n  {line}", said), said
        (report,) = demo.logs.glob(f"drills/*-{name}-*/report.html")
        assert str(report) in said, "it outlives the lab"
    assert re.search(r"all [1-9]\d* acknowledged heartbeats are on their disks", said), said
    assert "Two things to try next" in said
    demo.is_gone()


SITE, TEARDOWN = ROOT / "playbooks" / "site.yml", ROOT / "playbooks" / "teardown.yml"
CHANGED = re.compile(r"^changed: \[[^]]+\](?: => \((item=.*?)\))?")


def test_a_node_is_kept_emptied_used_again_and_taken_down_even_when_it_was_killed(demo: Demo) -> None:
    inventory = str(small_lab(demo.lab.parent))
    with closing(socket.socket()) as holder:
        # Another test's node may have the port, and lets it go when it likes.
        until(lambda: takes(holder, 8006), "the port 8006 is free", 300.0)
        said = demo.run(KEEP="1", LAB_INVENTORY=inventory)
    assert "port 8006 is taken, so a free one is used" in said
    assert "make demo-down" in said
    assert "Failure drill" not in said, "the inventory has no targets for one"
    lab = kept(demo)
    is_removed_on_request(lab, inventory)
    said = demo.run(LAB_INVENTORY=inventory)
    assert f"already up at {lab.url}; it is used, and stays up" in said
    assert "changed=7 failed=0" in said and "changed=0 failed=0" in said

    psutil.Process(int((demo.lab / "demo/pid").read_text())).send_signal(signal.SIGKILL)
    assert any("qemu-system" in line for line in demo.processes()), "guests do not depend on the node"
    demo.run("demo-down")
    demo.is_gone()
    assert "Nothing is up" in demo.run("demo-down")


def takes(holder: socket.socket, port: int) -> bool:
    """Listen on a port of the loopback; whether that was possible."""
    with suppress(OSError):
        holder.bind(("127.0.0.1", port))
        holder.listen()
        return True
    return False


def kept(demo: Demo) -> Lab:
    """The node that the demo left up; it answers a client that knows what the demo wrote down."""
    lab = Lab(demo.lab.parent, password=(demo.lab / "demo/password").read_text(encoding="utf-8").strip())
    lab.state = demo.lab
    endpoint = json.loads((demo.lab / "endpoint.json").read_text(encoding="utf-8"))
    lab.port, lab.fingerprint = int(endpoint["url"].rpartition(":")[2]), endpoint["fingerprint"]
    assert {guest["name"] for guest in lab.api().nodes("pve1").qemu.get()} == {"canary", "web1"}
    return lab


def is_removed_on_request(lab: Lab, inventory: str) -> None:
    with Proxy(lab) as proxy:
        past = ["-i", inventory, "-e", json.dumps({"proxmox_api_port": str(proxy.port), "lab_state": str(lab.state)})]
        refused = lab.playbook(TEARDOWN, *past)
        assert refused["rc"] != 0
        (why,) = failures(refused)
        for name in ("web1", "canary", "canary.qcow2", "teardown_confirm=pve1"):
            assert name in why
        assert not proxy.written, "it was refused"
        removed = lab.playbook(TEARDOWN, "-e", "teardown_confirm=pve1", *past)
        assert removed["rc"] == 0, failures(removed)
        assert proxy.written, "the proxy saw nothing: it proves nothing"
    api = lab.api()
    assert api.nodes("pve1").qemu.get() == []
    assert api.pools.get() == []
    assert [store["storage"] for store in api.storage.get()] == ["local"]
    assert [path for path in (lab.state / "storage" / "lab").rglob("*") if path.is_file()] == []


def foretold(lab: Lab) -> set[tuple[str, str]]:
    """What check mode says on an empty node that the example lab will change, having written nothing."""
    with Proxy(lab) as proxy:
        given = {"proxmox_api_port": str(proxy.port), "proxmox_api_password": lab.password, "lab_state": str(lab.state)}
        command = [BIN / "ansible-playbook", SITE, "--check", "--diff", "-e", json.dumps(given)]
        said = subprocess.run(command, cwd=ROOT, env=lab.environment(), capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout
        assert proxy.seen and not proxy.written, "check mode sent a write"
    found = changes(said.stdout)
    assert {item for _task, item in found} > {"item=web1", "item=web2", "item=db1", "item=canary"}
    return found


def changes(text: str) -> set[tuple[str, str]]:
    """What a playbook says it changed: task and item."""
    found, task = set(), ""
    for line in text.splitlines():
        task = line if line.startswith("TASK [") else task
        if match := CHANGED.match(line):
            found.add((task.rstrip("*"), match[1] or ""))
    return found
