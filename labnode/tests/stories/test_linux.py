# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with an operating system and an agent: the image that ``make image`` builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from served import Served, until

IMAGE = Path(__file__).resolve().parents[3] / ".cache/image/canary.qcow2"
pytestmark = pytest.mark.skipif(not IMAGE.exists(), reason="no guest image; `make image` builds it")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("linux")) as served:
        disk = f"local:0,import-from={IMAGE},format=qcow2"
        net0, ide2 = "virtio,bridge=vmbr0", "local:cloudinit"
        assert (
            served.done(
                "POST", "", vmid=100, name="web1", memory=128, scsihw="virtio-scsi-single", scsi0=disk, net0=net0,
                agent="1", ide2=ide2, ipconfig0="ip=10.9.9.5/24", serial0="socket", kvm=0,
            )
            == "OK"
        )  # fmt: skip
        assert served.done("POST", "100/status/start") == "OK"
        up(served)
        yield served
        assert served.stop() == 0


def up(lab) -> None:
    """Wait until the agent answers."""
    path = f"{lab.url}/nodes/pve1/qemu/100/agent/ping"
    until(lambda: lab.session.post(path, timeout=30).status_code == 200, "the agent answers", 180)


def test_the_agent_knows_the_guest(lab):
    assert lab.call("GET", "100/agent/get-host-name")["result"]["host-name"] == "web1"
    nics = lab.call("GET", "100/agent/network-get-interfaces")["result"]
    found = {address["ip-address"] for nic in nics for address in nic.get("ip-addresses", [])}
    assert "10.9.9.5" in found
    assert lab.call("GET", "100/agent/get-osinfo")["result"]["machine"] == "x86_64"


def test_programs_and_files(lab):
    path = f"{lab.url}/nodes/pve1/qemu/100/agent/exec"
    argv = [("command", "/bin/cat"), ("input-data", "hello")]
    pid = lab.session.post(path, data=argv, timeout=30).json()["data"]["pid"]
    ended = until(lambda: (s := lab.call("GET", "100/agent/exec-status", pid=pid))["exited"] and s, "cat ends")
    assert (ended["exitcode"], ended["out-data"]) == (0, "hello")
    lab.call("POST", "100/agent/file-write", file="/tmp/note", content="abc")
    assert lab.call("GET", "100/agent/file-read", file="/tmp/note") == {"content": "abc", "bytes-read": 3}
    part = lab.call("GET", "100/agent/file-read", file="/tmp/note", count=2)
    assert part == {"content": "ab", "bytes-read": 2, "truncated": 1}


def test_memory_goes_back_and_the_agent_with_it(lab):
    lab.call("POST", "100/agent/file-write", file="/tmp/before", content="1")
    assert lab.done("POST", "100/snapshot", snapname="live", vmstate=1) == "OK"
    lab.call("POST", "100/agent/file-write", file="/tmp/after", content="2")
    assert lab.done("POST", "100/snapshot/live/rollback") == "OK"
    up(lab)
    assert lab.call("GET", "100/agent/file-read", file="/tmp/before")["content"] == "1"
    with pytest.raises(AssertionError, match="No such file"):
        lab.call("GET", "100/agent/file-read", file="/tmp/after")


def test_hardware_comes_and_goes(lab):
    lab.call("PUT", "100/config", net1="virtio,bridge=vmbr0,tag=5", scsi1="local:0.05")
    assert not [row for row in lab.call("GET", "100/pending") if {"pending", "delete"} & set(row)]
    until(lambda: len(lab.call("GET", "100/agent/network-get-interfaces")["result"]) == 3, "the second NIC is there")
    lab.call("PUT", "100/config", delete="net1,scsi1")
    assert "unused0" in lab.call("GET", "100/config")
    until(lambda: len(lab.call("GET", "100/agent/network-get-interfaces")["result"]) == 2, "the second NIC is gone")


def test_a_reboot_applies_what_is_pending(lab):
    lab.call("PUT", "100/config", memory=160)
    assert lab.done("POST", "100/status/reboot", timeout=60) == "OK"
    assert not [row for row in lab.call("GET", "100/pending") if "pending" in row]
    up(lab)
    assert lab.call("GET", "100/status/current")["maxmem"] == 160 << 20
    assert lab.done("POST", "100/status/shutdown", timeout=60) == "OK"
    assert lab.pid(100) is None
