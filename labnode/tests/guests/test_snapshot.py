# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: with real qcow2 files, memory stood in for."""

from __future__ import annotations

import pytest

from labnode.errors import ApiError

SMALL = {"scsi0": "local:0.01,format=qcow2", "memory": 64, "cores": 1}


@pytest.fixture
async def guest(lab):
    assert await lab.done("POST", "", vmid=100, **SMALL) == "OK"
    return lab


async def names(lab) -> dict[str, str | None]:
    return {row["name"]: row.get("parent") for row in await lab.call("GET", "100/snapshot")}


async def test_create_list_describe_delete(guest):
    assert await guest.done("POST", "100/snapshot", snapname="clean", description="before") == "OK"
    assert await guest.done("POST", "100/snapshot", snapname="clean") == "snapshot name 'clean' already used"
    await guest.call("PUT", "100/config", cores=2)
    assert await guest.done("POST", "100/snapshot", snapname="second") == "OK"
    assert await names(guest) == {"second": "clean", "clean": None, "current": "second"}
    await guest.call("PUT", "100/snapshot/second/config", description="changed")
    assert (await guest.call("GET", "100/snapshot/second/config"))["description"] == "changed"
    assert (await guest.call("GET", "100/snapshot/clean/config"))["cores"] == 1
    assert await guest.node.storage.snapshots("local:100/vm-100-disk-0.qcow2") == ["clean", "second"]
    assert await guest.done("DELETE", "100/snapshot/clean") == "OK"
    assert await names(guest) == {"second": None, "current": "second"}
    assert await guest.node.storage.snapshots("local:100/vm-100-disk-0.qcow2") == ["second"]
    assert await guest.done("DELETE", "100/snapshot/none") == "snapshot 'none' does not exist"


@pytest.mark.parametrize("name", ["current", "pending"])
async def test_reserved_names(guest, name):
    with pytest.raises(ApiError, match="reserved name"):
        await guest.call("POST", "100/snapshot", snapname=name)


async def test_raw_disks_cannot(lab):
    await lab.done("POST", "", vmid=100, scsi0="local:0.01")
    assert await lab.done("POST", "100/snapshot", snapname="one") == "snapshot feature is not available"
    assert not lab.guests.load(100).lock
    assert (await lab.call("GET", "100/feature", feature="snapshot"))["hasFeature"] == 0


async def test_rollback_puts_configuration_and_disks_back(guest):
    await guest.done("POST", "100/snapshot", snapname="clean")
    before = await guest.call("GET", "100/config")
    await guest.call("PUT", "100/config", cores=4, name="later", description="kept", scsi1="local:0.01,format=qcow2")
    assert await guest.done("POST", "100/snapshot/clean/rollback") == "OK"
    after = await guest.call("GET", "100/config")
    assert (after["cores"], after.get("name"), after["description"]) == (1, None, "kept")
    assert after["unused0"] == "local:100/vm-100-disk-1.qcow2"
    assert after["parent"] == "clean"
    assert after["vmgenid"] != before["vmgenid"]
    assert await guest.done("POST", "100/snapshot/none/rollback") == "snapshot 'none' does not exist"


async def test_memory_goes_along(guest):
    await guest.done("POST", "100/status/start")
    assert await guest.done("POST", "100/snapshot", snapname="live", vmstate=1) == "OK"
    assert guest.machines.states[100] == "running"
    snap = await guest.call("GET", "100/snapshot/live/config")
    assert snap["vmstate"] == "local:100/vm-100-state-live.raw"
    assert snap["runningmachine"] == "pc-i440fx-7.2"
    assert ("block_snapshot", 100, "scsi0", "live") in guest.machines.did
    await guest.node.storage.snapshot("local:100/vm-100-disk-0.qcow2", "live")
    assert await guest.done("POST", "100/snapshot/live/rollback") == "OK"
    assert guest.machines.states[100] == "running"
    assert guest.machines.did[-1][0] == "start" and guest.machines.did[-1][3].name == "vm-100-state-live.raw"
    assert "vmstate" not in await guest.config(100)
    assert await guest.done("DELETE", "100/snapshot/live") == "OK"
    assert await guest.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]


async def test_a_failed_snapshot_is_undone(guest):
    await guest.done("POST", "100/status/start")
    guest.machines.refuse.add("block_snapshot")
    assert await guest.done("POST", "100/snapshot", snapname="live", vmstate=1) == "qmp command failed"
    assert guest.machines.states[100] == "running"
    assert await names(guest) == {"current": None}
    assert not guest.guests.load(100).lock
    assert await guest.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]


async def test_half_a_snapshot_is_not_rolled_back_to_and_force_removes_it(guest):
    await guest.done("POST", "100/snapshot", snapname="half")
    conf = guest.guests.load(100)
    conf.snapshots["half"]["snapstate"] = "prepare"
    guest.guests.save(100, conf)
    status = await guest.done("POST", "100/snapshot/half/rollback")
    assert status == "unable to rollback to incomplete snapshot (snapstate = prepare)"
    conf.main["lock"] = "snapshot"
    guest.guests.save(100, conf)
    assert await guest.done("DELETE", "100/snapshot/half", force=1) == "VM is locked (snapshot)"
    await guest.call("PUT", "100/config", delete="lock", skiplock=1)
    assert await guest.done("DELETE", "100/snapshot/half", force=1) == "OK"
    assert await names(guest) == {"current": None}


async def test_a_volume_a_snapshot_needs_is_not_freed(guest):
    await guest.done("POST", "100/snapshot", snapname="clean")
    await guest.call("PUT", "100/config", delete="scsi0")
    with pytest.raises(ApiError, match="volume is still in use"):
        await guest.call("PUT", "100/config", delete="unused0")
    assert await guest.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]


async def test_templates_have_no_snapshots(guest):
    await guest.done("POST", "100/snapshot", snapname="clean")
    with pytest.raises(ApiError, match="unable to create template, because VM contains snapshots"):
        await guest.call("POST", "100/template")
    await guest.done("DELETE", "100/snapshot/clean")
    assert await guest.done("POST", "100/template") == "OK"
    assert await guest.done("POST", "100/snapshot", snapname="x1") == "you can't take a snapshot if it's a template"
