# SPDX-License-Identifier: GPL-3.0-or-later
"""Power, and what a change does to a running guest."""

from __future__ import annotations

import asyncio

import pytest

from labnode.app import plain_values
from labnode.errors import ApiError, ParamError

SMALL = {"scsi0": "local:0.01,format=qcow2", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "memory": 64, "kvm": 0}


@pytest.fixture
async def running(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    assert await lab.done("POST", "100/status/start") == "OK"
    lab.machines.did.clear()
    return lab


async def pending(lab) -> dict[str, dict]:
    rows = await lab.call("GET", "100/pending")
    return {row["key"]: row for row in rows if "pending" in row or "delete" in row}


async def test_power(running):
    assert await running.done("POST", "100/status/start") == "VM 100 already running"
    with pytest.raises(ApiError, match="VM 100 is running - destroy failed"):
        await running.call("DELETE", "100")
    assert await running.done("POST", "100/status/suspend") == "OK"
    assert (await running.call("GET", "100/status/current"))["qmpstatus"] == "paused"
    with pytest.raises(ApiError, match="VM is paused - cannot shutdown"):
        await running.call("POST", "100/status/shutdown")
    assert await running.done("POST", "100/status/resume") == "OK"
    assert await running.done("POST", "100/status/reset") == "OK"
    running.machines.refuse.add("shutdown")
    failed = "VM quit/powerdown failed - got timeout"
    assert await running.done("POST", "100/status/shutdown", timeout=0) == failed
    assert await running.done("POST", "100/status/shutdown", timeout=0, forceStop=1) == "WARNINGS: 1"
    assert not running.guests.running(100)
    assert await running.done("POST", "100/status/stop") == "OK"
    for verb in ("reset", "suspend", "resume", "reboot"):
        with pytest.raises(ApiError, match="VM 100 not running"):
            await running.call("POST", f"100/status/{verb}")


async def test_what_cannot_be_plugged_waits_for_the_stop(running):
    await running.call("PUT", "100/config", memory=96, cores=2, delete="kvm")
    assert await pending(running) == {
        "memory": {"key": "memory", "value": "64", "pending": "96"},
        "cores": {"key": "cores", "pending": 2},
        "kvm": {"key": "kvm", "value": 0, "delete": 1},
    }
    assert (await running.call("GET", "100/config", current=1))["memory"] == "64"
    assert (await running.call("GET", "100/config"))["memory"] == "96"
    await running.call("PUT", "100/config", revert="memory,cores,kvm")
    assert await pending(running) == {}
    await running.call("PUT", "100/config", memory=96)
    assert await running.done("POST", "100/status/reboot") == "OK"
    assert await pending(running) == {}
    started = [item for item in running.machines.did if item[0] == "start"]
    assert started[0][2]["memory"] == "96"


async def test_what_the_process_does_not_feel_is_set_at_once(running):
    await running.call("PUT", "100/config", name="new", description="d", tags="a", onboot=1, protection=1)
    assert await pending(running) == {}
    assert (await running.config(100))["name"] == "new"
    assert running.machines.did == []


async def test_disks_and_nics_are_plugged(running):
    await running.call("PUT", "100/config", scsi1="local:0.01", net1="e1000,bridge=vmbr0")
    assert [item[:2] for item in running.machines.did] == [("plug", "net1"), ("plug", "scsi1")]
    assert await pending(running) == {}
    await running.call("PUT", "100/config", delete="scsi1,net1")
    assert running.machines.did[2:] == [("unplug", "net1"), ("unplug", "scsi1")]
    assert (await running.config(100))["unused0"] == "local:100/vm-100-disk-1.raw"


async def test_ide_waits_and_so_does_everything_without_hotplug(running):
    await running.call("PUT", "100/config", ide0="local:0.01")
    assert "ide0" in await pending(running)
    await running.call("PUT", "100/config", hotplug="0")
    await running.call("PUT", "100/config", scsi1="local:0.01")
    assert set(await pending(running)) >= {"ide0", "scsi1"}
    assert running.machines.did == []


async def test_a_nic_changes_in_place_or_is_replugged(running):
    mac = "virtio=BC:24:11:00:00:01"
    await running.call("PUT", "100/config", net0=f"{mac},bridge=vmbr0,tag=5,link_down=1")
    assert running.machines.did == [("set_live", "net0", f"{mac},bridge=vmbr0,link_down=1,tag=5")]
    running.machines.did.clear()
    await running.call("PUT", "100/config", net0="e1000=BC:24:11:00:00:01,bridge=vmbr0")
    assert [item[0] for item in running.machines.did] == ["unplug", "plug"]


async def test_errors_of_plugging_are_told_and_the_rest_is_done(running):
    running.machines.refuse.add("net1")
    with pytest.raises(ParamError) as caught:
        await running.call("PUT", "100/config", net1="virtio,bridge=vmbr0", name="kept")
    assert caught.value.errors == {"net1": "hotplug problem - no slot left"}
    assert (await running.config(100))["name"] == "kept"
    assert "net1" in await pending(running)


async def test_a_disk_keeps_what_only_a_start_can_change(running):
    disk = "local:100/vm-100-disk-0.qcow2"
    await running.call("PUT", "100/config", scsi0=f"{disk},iothread=1")
    assert "scsi0" in await pending(running)
    await running.call("PUT", "100/config", revert="scsi0")
    await running.call("PUT", "100/config", scsi0=f"{disk},mbps=10")
    assert await pending(running) == {}
    assert [item[:2] for item in running.machines.did] == [("set_live", "scsi0")]


async def test_pending_applies_when_the_guest_ends_by_itself(running):
    await running.call("PUT", "100/config", memory=96)
    await running.guests.start()
    running.machines.states.clear()
    async with asyncio.timeout(10):
        while await pending(running):
            await asyncio.sleep(0.05)
    assert (await running.config(100))["memory"] == "96"


async def test_resize_goes_through_the_process(running):
    assert await running.done("PUT", "100/resize", disk="scsi0", size="20M") == "OK"
    assert ("resize", 100, "scsi0", 20 << 20) in running.machines.did
    assert "size=20M" in (await running.config(100))["scsi0"]


async def test_suspend_to_disk_and_back(running):
    assert await running.done("POST", "100/status/suspend", todisk=1) == "OK"
    conf = running.guests.load(100)
    assert conf.lock == "suspended" and conf.main["runningcpu"] == "qemu64"
    volid = conf.main["vmstate"]
    assert volid.startswith("local:100/vm-100-state-suspend-") and volid in await running.volumes(100)
    assert await running.done("POST", "100/status/resume") == "OK"
    conf = running.guests.load(100)
    assert not conf.lock and "vmstate" not in conf.main
    assert volid not in await running.volumes(100)
    assert str(running.machines.did[-1][3]).endswith(".raw")


async def test_a_failed_suspend_leaves_the_guest_running(running):
    running.machines.refuse.add("save_ram")
    status = await running.done("POST", "100/status/suspend", todisk=1)
    assert status == "unable to save VM state and RAM - no space"
    conf = running.guests.load(100)
    assert conf.lock == "suspending" and "vmstate" not in conf.main
    assert running.guests.running(100)
    assert await running.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]


async def test_cloudinit_changes_are_recorded_until_the_drive_is_made_anew(lab):
    await lab.done("POST", "", vmid=100, ide2="local:cloudinit", ciuser="me", nameserver="1.1.1.1", **SMALL)
    await lab.done("POST", "100/status/start")
    await lab.call("PUT", "100/config", ciuser="you", searchdomain="lab", delete="nameserver")
    rows = {row["key"]: row for row in await lab.call("GET", "100/cloudinit")}
    assert rows == {
        "ciuser": {"key": "ciuser", "value": "me", "pending": "you"},
        "searchdomain": {"key": "searchdomain", "pending": "lab"},
        "nameserver": {"key": "nameserver", "delete": 1},
    }
    await lab.call("PUT", "100/cloudinit")
    assert lab.machines.did[-1][0] == "cloudinit"
    assert {row["key"]: row.get("value") for row in await lab.call("GET", "100/cloudinit")} == {
        "ciuser": "you",
        "searchdomain": "lab",
    }


async def test_agent(running):
    with pytest.raises(ApiError, match="No QEMU guest agent configured"):
        await running.call("POST", "100/agent/ping")
    await running.done("POST", "100/status/stop")
    await running.call("PUT", "100/config", agent="1")
    with pytest.raises(ApiError, match="VM 100 is not running"):
        await running.call("GET", "100/agent/info")
    await running.done("POST", "100/status/start")
    assert plain_values(await running.call("POST", "100/agent/ping")) == {"result": {}}
    assert (await running.call("GET", "100/status/current"))["agent"] == 1
    running.machines.refuse.add("agent")
    with pytest.raises(ApiError, match="QEMU guest agent is not running"):
        await running.call("GET", "100/agent/network-get-interfaces")


async def test_missing_guests(lab):
    gone = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
    assert await lab.done("POST", "999/status/start") == gone
    for method, path in (("GET", "999/config"), ("GET", "999/status/current"), ("PUT", "999/config")):
        with pytest.raises(ApiError) as caught:
            await lab.call(method, path, **({"cores": 1} if method == "PUT" else {}))
        assert caught.value.message == gone


async def test_migration_has_nowhere_to_go(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    assert (await lab.call("GET", "100/migrate"))["allowed_nodes"] == []
    with pytest.raises(ParamError):
        await lab.call("POST", "100/migrate", target="pve1")
    with pytest.raises(ApiError, match="no such cluster node 'pve2'"):
        await lab.call("POST", "100/migrate", target="pve2")
