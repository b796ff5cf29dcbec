# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules snapshot, snapshot_rollback and template against a node: real disks, and a guest that really runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.module_parts import done, passed, refused, same
from ansible_collections.pvelab.proxmox.tests.lab import Lab, until

MARK = b"written before the snapshot"


class Guest:
    """A guest with one small disk that boots nothing; ``look`` is its configuration and its snapshots."""

    def __init__(self, lab: Lab, vmid: int) -> None:
        self.lab, self.vmid = lab, vmid
        self.api = lab.api().nodes(lab.node).qemu(vmid)
        self.disk = lab.state / f"storage/local/images/{vmid}/vm-{vmid}-disk-0.qcow2"

    def look(self) -> Any:
        shown = [{k: v for k, v in s.items() if k not in ("snaptime", "digest")} for s in self.api.snapshot.get()]
        return sorted(shown, key=str), {k: v for k, v in self.api.config.get().items() if k != "digest"}

    def names(self) -> list[str]:
        return sorted(s["name"] for s in self.api.snapshot.get() if s["name"] != "current")

    def power(self, verb: str, status: str) -> None:
        self.api.status(verb).post()
        until(lambda: self.api.status.current.get()["status"] == status, f"{self.vmid} is {status}")

    def write(self, data: bytes) -> None:
        """Put something on the disk of the guest, which is off."""
        pattern = self.disk.with_name("pattern")
        pattern.write_bytes(data.ljust(512, b"\0"))
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", f"write -s {pattern} 0 512", self.disk],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        pattern.unlink()

    def read(self, tmp_path: Path) -> bytes:
        raw = tmp_path / "raw"
        subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", self.disk, raw], check=True)
        with raw.open("rb") as file:
            return file.read(512).rstrip(b"\0")


@pytest.fixture
def guest(lab: Lab, request: pytest.FixtureRequest) -> Any:
    """A guest for one test, gone afterwards."""
    vmid = int(lab.api().cluster.nextid.get())
    api = lab.api().nodes(lab.node)
    upid = api.qemu.post(vmid=vmid, name=f"guest{vmid}", memory=16, scsi0="local:0.01,format=qcow2", kvm=0)
    until(lambda: api.tasks(upid).status.get()["status"] == "stopped", "the guest is made")
    made = Guest(lab, vmid)
    yield made
    if made.api.status.current.get()["status"] == "running":
        made.power("stop", "stopped")
    api.qemu(vmid).delete()
    until(lambda: vmid not in [g["vmid"] for g in api.qemu.get()], "the guest is gone")


def test_a_snapshot_comes_changes_and_goes(lab: Lab, guest: Guest) -> None:
    task = {"vmid": guest.vmid, "snapname": "clean"}
    made = done(lab, "snapshot", {**task, "description": "before"}, guest.look)
    assert (made["action"], made["object"]["description"], made["object"]["vmstate"]) == ("create", "before", False)
    same(lab, "snapshot", {**task, "vmstate": False})
    done(lab, "snapshot", {**task, "description": "changed"}, guest.look)
    done(lab, "snapshot", {**task, "description": ""}, guest.look)
    assert "cannot be changed" in refused(lab, "snapshot", {**task, "vmstate": True}, guest.look)
    gone = {**task, "state": "absent"}
    assert "this would destroy snapshot clean" in refused(lab, "snapshot", gone, guest.look)
    done(lab, "snapshot", {**gone, "allow_data_loss": True}, guest.look)
    assert guest.names() == []


def test_retention_keeps_the_newest_of_the_series(lab: Lab, guest: Guest) -> None:
    for name in ("keepme", "n-1", "n-2", "n-3"):
        passed(lab.module("snapshot", {"vmid": guest.vmid, "snapname": name}))
    kept = {"keep": 2, "pattern": "n-*"}
    made = done(lab, "snapshot", {"vmid": guest.vmid, "snapname": "n-4", "retention": kept}, guest.look)
    assert made["object"]["series"] == ["n-3", "n-4"]
    assert guest.names() == ["keepme", "n-3", "n-4"]
    done(lab, "snapshot", {"vmid": guest.vmid, "retention": {**kept, "keep": 1}}, guest.look)
    assert guest.names() == ["keepme", "n-4"]


def test_a_snapshot_with_ram_resumes_the_guest(lab: Lab, guest: Guest) -> None:
    live = {"vmid": guest.vmid, "snapname": "live", "vmstate": True}
    assert "has no RAM to save" in refused(lab, "snapshot", live, guest.look)
    assert "has no RAM to save" in str(passed(lab.module("snapshot", live, check=True))["warnings"])
    guest.power("start", "running")
    made = done(lab, "snapshot", live, guest.look)
    assert made["object"]["vmstate"] is True
    guest.power("stop", "stopped")
    back = {"vmid": guest.vmid, "snapname": "live", "allow_data_loss": True}
    result = passed(lab.module("snapshot_rollback", back))
    assert result["object"] == {"parent": "live", "status": "running"}


def test_a_rollback_brings_back_the_data(lab: Lab, guest: Guest, tmp_path: Path) -> None:
    guest.write(MARK)
    passed(lab.module("snapshot", {"vmid": guest.vmid, "snapname": "clean"}))
    guest.write(b"written after it")
    guest.api.config.put(memory=32)
    back = {"vmid": guest.vmid, "snapname": "clean"}
    said = refused(lab, "snapshot_rollback", back, guest.look)
    assert said.startswith(f"Unable to roll back guest {guest.vmid} (guest{guest.vmid}) to snapshot clean: this would ")
    assert " has written to scsi0 and every change of its configuration since " in said
    before = guest.look()
    preview = passed(lab.module("snapshot_rollback", {**back, "allow_data_loss": True}, check=True))
    assert " UTC, when clean was taken" in preview["steps"][0]["destroys"]
    assert guest.look() == before
    assert guest.read(tmp_path) == b"written after it"
    result = passed(lab.module("snapshot_rollback", {**back, "allow_data_loss": True, "start": True}))
    assert (result["changed"], result["action"], result["object"]["status"]) == (True, "roll_back", "running")
    assert guest.read(tmp_path) == MARK
    assert str(guest.api.config.get()["memory"]) == "16"


def test_half_a_snapshot_is_cleared_away_on_request(lab: Lab, guest: Guest) -> None:
    task = {"vmid": guest.vmid, "snapname": "cut", "retention": {"keep": 1, "pattern": "c*"}}
    passed(lab.module("snapshot", {"vmid": guest.vmid, "snapname": "cut"}))
    # What a node leaves behind that loses power in the middle: the mark of the section, and the lock on the guest.
    config = lab.state / f"etc/nodes/{lab.node}/qemu-server/{guest.vmid}.conf"
    body, section = config.read_text(encoding="utf-8").split("[cut]", maxsplit=1)
    config.write_text(
        f"{body.rstrip()}\nlock: snapshot\n\n[cut]{section.rstrip()}\nsnapstate: prepare\n", encoding="utf-8"
    )

    assert "cut off half way (snapstate prepare)" in refused(lab, "snapshot", task, guest.look)
    back = {"vmid": guest.vmid, "snapname": "cut", "allow_data_loss": True}
    assert "no way back to half a snapshot" in refused(lab, "snapshot_rollback", back, guest.look)
    gone = {"vmid": guest.vmid, "snapname": "cut", "state": "absent", "allow_data_loss": True}
    assert "Set force: true to remove it." in refused(lab, "snapshot", gone, guest.look)
    other = passed(lab.module("snapshot", {"vmid": guest.vmid, "retention": {"keep": 1, "pattern": "c*"}}))
    assert "Snapshot cut of guest" in str(other["warnings"]) and not other["changed"]

    made = done(lab, "snapshot", {**task, "force": True}, guest.look)
    assert [s["request"].split(" ")[0] for s in made["steps"]] == ["PUT", "DELETE", "POST"]
    assert made["object"]["snapstate"] == ""
    assert "lock" not in guest.api.config.get()


def test_what_is_not_there_is_named(lab: Lab, guest: Guest) -> None:
    passed(lab.module("snapshot", {"vmid": guest.vmid, "snapname": "clean"}))
    missing = {"vmid": guest.vmid, "snapname": "nosuch", "allow_data_loss": True}
    assert "has no snapshot of this name. It has clean." in refused(lab, "snapshot_rollback", missing, guest.look)
    assert "has no snapshot of this name" in str(
        passed(lab.module("snapshot_rollback", missing, check=True))["warnings"]
    )
    for module in ("snapshot", "snapshot_rollback"):
        nobody = {"name": "nobody", "snapname": "clean"}
        assert "there is no guest called 'nobody'" in lab.module(module, nobody)["msg"]
        assert "there is no guest called 'nobody'" in str(passed(lab.module(module, nobody, check=True))["warnings"])
    same(lab, "snapshot", {"name": "nobody", "snapname": "clean", "state": "absent"})


def test_a_guest_becomes_a_template_for_good(lab: Lab, guest: Guest) -> None:
    task = {"vmid": guest.vmid}
    passed(lab.module("snapshot", {**task, "snapname": "clean"}))
    assert "has snapshots (clean)" in refused(lab, "template", task, guest.look)
    passed(lab.module("snapshot", {**task, "snapname": "clean", "state": "absent", "allow_data_loss": True}))
    same(lab, "template", {**task, "state": "absent"})
    guest.power("start", "running")
    assert "is running, and only a stopped guest can become a template" in refused(lab, "template", task, guest.look)
    stop = {**task, "when_running": "stop", "shutdown_timeout_s": 1}
    made = done(lab, "template", stop, guest.look)
    assert made["object"]["template"] is True
    assert "base-" in guest.api.config.get()["scsi0"]
    assert "cannot be turned back" in refused(lab, "template", {**task, "state": "absent"}, guest.look)
