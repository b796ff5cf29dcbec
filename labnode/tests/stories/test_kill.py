# SPDX-License-Identifier: GPL-3.0-or-later
"""labnode killed at any moment: no committed change is lost, no guest stops, nothing is left that blocks."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest
import requests
from served import Served, until

SMALL = {"scsi0": "local:0.01,format=qcow2", "memory": 32, "kvm": 0}


@pytest.fixture
def lab(tmp_path):
    with Served(tmp_path) as served:
        yield served
        if served.process.poll() is not None:
            served.start()
        assert served.stop() == 0
        assert not [vmid for vmid in (100, 101) if served.pid(vmid)]


def random_image(path: Path) -> Path:
    """48 MiB that take a moment to copy."""
    with path.open("wb") as out:
        for _ in range(48):
            out.write(os.urandom(1 << 20))
    return path


def test_guests_run_on_and_are_found_again(lab):
    assert lab.done("POST", "", vmid=100, name="on", **SMALL) == "OK"
    assert lab.done("POST", "100/status/start") == "OK"
    pid = lab.pid(100)
    lab.call("PUT", "100/config", memory=64)
    lab.kill()
    assert lab.pid(100) == pid
    lab.start()
    status = lab.call("GET", "100/status/current")
    assert (status["status"], status["pid"], status["qmpstatus"]) == ("running", pid, "running")
    assert lab.call("GET", "100/config")["memory"] == "64"
    assert lab.done("POST", "100/status/stop") == "OK"
    assert lab.pid(100) is None
    assert lab.call("GET", "100/config", current=1)["memory"] == "64"


def test_answered_changes_survive_a_kill_at_any_moment(lab):
    assert lab.done("POST", "", vmid=100, **SMALL) == "OK"
    for round_ in range(4):
        answered = []
        killer = threading.Timer(0.02 + round_ * 0.05, lab.kill)
        killer.start()
        with contextlib.suppress(requests.RequestException):
            for number in range(1, 1000):
                lab.call("PUT", "100/config", cores=number % 100 + 1, description=f"{round_}.{number}")
                answered.append(number)
        killer.join()
        lab.start()
        conf = lab.call("GET", "100/config")
        seen = int(conf["description"].partition(".")[2]) if conf.get("description", "").startswith(f"{round_}.") else 0
        assert seen in ({answered[-1], answered[-1] + 1} if answered else {0, 1})
        if seen:
            assert conf["cores"] == seen % 100 + 1


def test_a_create_cut_off_can_be_seen_and_destroyed(lab, tmp_path):
    source = random_image(tmp_path / "source.raw")
    lab.call("POST", "", vmid=100, scsi0=f"local:0,import-from={source},format=qcow2")
    images = lab.state / "storage/local/images/100"
    with contextlib.suppress(AssertionError):
        until(lambda: images.is_dir() and list(images.iterdir()), "the copy has begun", 5)
    lab.kill()
    lab.start()
    conf = lab.call("GET", "100/config")
    if "scsi0" in conf:
        pytest.skip("the copy was faster than the kill")
    assert conf["lock"] == "create"
    assert "work was cut off, its configuration stays locked (create)" in lab.log()
    assert lab.done("DELETE", "100") == "VM is locked (create)"
    assert lab.done("DELETE", "100", skiplock=1, destroy__unreferenced__disks=1) == "OK"
    assert not images.exists()
    assert lab.done("POST", "", vmid=100, **SMALL) == "OK"


def test_a_clone_cut_off_can_be_seen_and_destroyed(lab, tmp_path):
    source = random_image(tmp_path / "source.raw")
    assert lab.done("POST", "", vmid=100, scsi0=f"local:0,import-from={source},format=qcow2") == "OK"
    lab.call("POST", "100/clone", newid=101, full=1)
    images = lab.state / "storage/local/images/101"
    with contextlib.suppress(AssertionError):
        until(lambda: images.is_dir() and list(images.iterdir()), "the copy has begun", 5)
    lab.kill()
    lab.start()
    conf = lab.call("GET", "101/config")
    if "lock" not in conf:
        pytest.skip("the copy was faster than the kill")
    assert conf["lock"] == "clone"
    assert "lock" not in lab.call("GET", "100/config")
    assert lab.done("DELETE", "101", skiplock=1, destroy__unreferenced__disks=1) == "OK"
    assert not images.exists()
    assert lab.done("POST", "100/clone", newid=101, full=1) == "OK"


def test_an_interrupted_clone_cleans_up(lab, tmp_path):
    source = random_image(tmp_path / "source.raw")
    assert lab.done("POST", "", vmid=100, scsi0=f"local:0,import-from={source},format=qcow2") == "OK"
    upid = lab.call("POST", "100/clone", newid=101, full=1)
    images = lab.state / "storage/local/images/101"
    with contextlib.suppress(AssertionError):
        until(lambda: images.is_dir() and list(images.iterdir()), "the copy has begun", 5)
    lab.call("DELETE", f"/nodes/pve1/tasks/{upid}")
    if lab.wait(upid) == "OK":
        pytest.skip("the copy was faster than the interrupt")
    assert [row["vmid"] for row in lab.call("GET", "")] == [100]
    assert not images.exists()
    assert lab.done("POST", "100/clone", newid=101, full=1) == "OK"


def test_a_node_that_goes_down_stops_its_guests_and_boots_them_again(lab):
    assert lab.done("POST", "", vmid=100, onboot=1, **SMALL) == "OK"
    assert lab.done("POST", "", vmid=101, **SMALL) == "OK"
    assert lab.done("POST", "101/status/start") == "OK"
    lab.kill()
    lab.start()
    assert lab.pid(100) is None, "a restart of the daemon is no boot"
    assert lab.stop() == 0
    assert lab.pid(101) is None
    lab.start()
    until(lambda: lab.pid(100), "the guest with onboot runs")
    assert lab.pid(101) is None
    assert lab.done("POST", "100/status/stop") == "OK"
