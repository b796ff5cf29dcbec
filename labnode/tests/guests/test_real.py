# SPDX-License-Identifier: GPL-3.0-or-later
"""The same paths with real QEMU processes: a boot sector that counts is guest enough."""

from __future__ import annotations

import pytest
from served import Served, until

# A boot sector that adds one to the word at 0x7E00 for ever, so that memory tells how far it got.
COUNTER = bytes.fromhex("31c08ed8ff06007eebfa").ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def lab(tmp_path):
    with Served(tmp_path) as served:
        yield served
        if served.pid(100):  # a boot sector does not hear that it should shut down
            served.done("POST", "100/status/stop")
        assert served.stop() == 0
        assert served.pid(100) is None


@pytest.fixture
def guest(lab, tmp_path):
    image = tmp_path / "counter.raw"
    image.write_bytes(COUNTER.ljust(1 << 20, b"\0"))
    scsi0 = f"local:0,import-from={image},format=qcow2"
    assert lab.done("POST", "", vmid=100, scsi0=scsi0, scsihw="virtio-scsi-pci", memory=32, kvm=0) == "OK"
    return lab


def count(lab) -> int:
    """The guest's counter, read through the monitor."""
    text = lab.call("POST", "100/monitor", command="xp /1hx 0x7e00")
    return int(text.split(":")[1].strip(), 16)


def test_a_guest_boots_and_counts(guest):
    assert guest.done("POST", "100/status/start") == "OK"
    first = until(lambda: count(guest), "the boot sector runs")
    until(lambda: count(guest) != first, "it goes on counting")
    assert guest.done("POST", "100/status/suspend") == "OK"
    held = count(guest)
    assert count(guest) == held
    assert guest.call("GET", "100/status/current")["qmpstatus"] == "paused"
    assert guest.done("POST", "100/status/resume") == "OK"
    until(lambda: count(guest) != held, "it goes on counting")
    assert guest.done("POST", "100/status/reset") == "OK"
    assert guest.call("GET", "100/status/current")["qmpstatus"] == "running"
    failed = "VM quit/powerdown failed - got timeout"
    assert guest.done("POST", "100/status/shutdown", timeout=1) == failed


def test_memory_comes_back_with_a_snapshot(guest):
    assert guest.done("POST", "100/status/start") == "OK"
    until(lambda: count(guest), "the boot sector runs")
    assert guest.done("POST", "100/status/suspend") == "OK"
    held = count(guest)
    assert guest.done("POST", "100/snapshot", snapname="live", vmstate=1) == "OK"
    assert guest.done("POST", "100/status/resume") == "OK"
    until(lambda: count(guest) != held, "it goes on counting")
    assert guest.done("POST", "100/snapshot/live/rollback") == "OK"
    assert guest.call("GET", "100/status/current")["status"] == "running"
    assert guest.done("POST", "100/status/stop") == "OK"
    assert guest.done("DELETE", "100/snapshot/live") == "OK"
    rows = guest.call("GET", "/nodes/pve1/storage/local/content", content="images")
    assert [row["volid"] for row in rows] == ["local:100/vm-100-disk-0.qcow2"]


def test_suspend_to_disk_and_resume(guest):
    assert guest.done("POST", "100/status/start") == "OK"
    until(lambda: count(guest), "the boot sector runs")
    assert guest.done("POST", "100/status/suspend", todisk=1) == "OK"
    assert guest.pid(100) is None
    assert guest.call("GET", "100/config")["lock"] == "suspended"
    assert guest.done("POST", "100/status/start") == "OK"
    assert "lock" not in guest.call("GET", "100/config")
    first = count(guest)
    until(lambda: count(guest) != first, "it goes on counting")


def test_disks_come_and_go_and_grow_while_it_runs(guest):
    assert guest.done("POST", "100/status/start") == "OK"
    guest.call("PUT", "100/config", scsi1="local:0.01")
    assert "scsi1" in guest.call("GET", "100/status/current")["blockstat"]
    assert guest.done("PUT", "100/resize", disk="scsi1", size="32M") == "OK"
    assert "size=32M" in guest.call("GET", "100/config")["scsi1"]
    guest.call("PUT", "100/config", memory=48)
    pending = {row["key"]: row for row in guest.call("GET", "100/pending")}
    assert pending["memory"]["pending"] == "48" and "pending" not in pending["scsi1"]
    assert guest.done("POST", "100/status/stop") == "OK"
    assert guest.call("GET", "100/config", current=1)["memory"] == "48"


def test_a_running_guest_is_cloned_and_its_disk_moved(guest):
    assert guest.done("POST", "100/status/start") == "OK"
    until(lambda: count(guest), "the boot sector runs")
    assert guest.done("POST", "100/clone", newid=101, full=1) == "OK"
    assert guest.call("GET", "100/status/current")["qmpstatus"] == "running"
    assert guest.done("POST", "100/move_disk", disk="scsi0", storage="local", format="raw", delete=1) == "OK"
    held = count(guest)
    until(lambda: count(guest) != held, "it goes on counting")
    assert guest.call("GET", "100/config")["scsi0"].startswith("local:100/vm-100-disk-1.raw")
    assert guest.done("POST", "100/status/stop") == "OK"
    assert guest.done("DELETE", "101") == "OK"
    assert guest.done("POST", "100/status/start") == "OK"
    until(lambda: count(guest), "it boots from the moved disk")
