# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot, kill, restart; permissions; what else knows of a guest."""

from __future__ import annotations

import asyncio

import pytest

from labnode.access.usercfg import AclKey, Pool, User
from labnode.errors import ApiError, Forbidden
from labnode.guests import lifecycle
from labnode.guests.service import GuestService
from labnode.store import Section, render_sections

SMALL = {"scsi0": "local:0.01,format=qcow2", "memory": 64}


async def until_started(lab, vmids: set[int]) -> None:
    async with asyncio.timeout(10):
        while set(lab.machines.running()) != vmids or lab.node.tasks.active():
            await asyncio.sleep(0.02)


async def test_boot_starts_guests_in_their_order_and_a_restart_starts_none(lab):
    for vmid, startup in ((100, ""), (101, "order=2"), (102, "order=1"), (103, None)):
        params = {"onboot": 1} if startup is not None else {}
        await lab.done("POST", "", vmid=vmid, **params, **({"startup": startup} if startup else {}))
    await lab.guests.start()
    await until_started(lab, {100, 101, 102})
    assert [item[1] for item in lab.machines.did if item[0] == "start"] == [102, 101, 100]
    lab.machines.states.pop(100)
    again = GuestService(lab.node)
    await again.start()
    await asyncio.sleep(0)
    assert set(lab.machines.running()) == {101, 102}
    assert not lab.node.tasks.active()
    await again.stop()
    assert lab.machines.running() == {}
    assert not lab.node.store.exists(lifecycle.UP)
    await again.start()
    await until_started(lab, {100, 101, 102})
    await again.stop()


async def test_a_kill_leaves_locks_for_the_owner_and_finishes_removals(lab):
    for vmid, lock in ((100, "create"), (101, "destroyed"), (102, "snapshot"), (103, "suspended")):
        await lab.done("POST", "", vmid=vmid)
        await lab.guests.set_lock(vmid, lock)
    lab.machines.states.update({102: "paused", 103: "running"})
    await lifecycle.recover(lab.guests)
    assert lab.guests.vmids() == [100, 102, 103]
    assert [lab.guests.load(vmid).lock for vmid in (100, 102, 103)] == ["create", "snapshot", ""]
    assert lab.machines.states[102] == "running"
    assert await lab.done("DELETE", "100") == "VM is locked (create)"
    assert await lab.done("DELETE", "100", skiplock=1) == "OK"


async def test_broken_lines_do_not_hide_a_guest(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    rel = lab.guests.rel(100)
    lab.guests.store.write(rel, lab.guests.store.read(rel) + "nonsense\n[not a section!]\nx: y\n")
    assert (await lab.config(100))["memory"] == "64"
    await lab.call("PUT", "100/config", memory=65)
    assert "nonsense" not in lab.guests.store.read(rel)


async def test_destroy_forgets_pool_acl_jobs_and_ha(lab):
    auth, store = lab.node.auth, lab.node.store
    auth.cfg.pools["lab"] = Pool()
    assert await lab.done("POST", "", vmid=100, pool="lab", ha__managed=1) == "OK"
    assert auth.cfg.pools["lab"].vms == {100}
    auth.cfg.acl[AclKey("/vms/100", "user", "a@pve", "PVEVMUser")] = True
    job = {"vmid": "100,101"}
    store.write("etc/jobs.cfg", render_sections({"n": Section("vzdump", "n", job)}))
    assert (await lab.call("GET", "100/status/current"))["ha"] == {"managed": 1, "state": "stopped"}
    with pytest.raises(ApiError, match="used in HA resources and purge parameter not set"):
        await lab.call("DELETE", "100")
    assert await lab.done("DELETE", "100", purge=1) == "OK"
    assert auth.cfg.pools["lab"].vms == set() and not auth.cfg.acl
    assert store.read("etc/jobs.cfg").split() == ["vzdump:", "n", "vmid", "101"]
    assert "100" not in store.read("etc/ha/resources.cfg")


async def test_ha_managed_guests_are_started_through_it(lab):
    await lab.done("POST", "", vmid=100, ha__managed=1)
    upid = await lab.call("POST", "100/status/start")
    assert ":hastart:100:" in upid
    assert await lab.node.tasks.wait(upid, 10) == "OK"
    assert lab.guests.running(100)
    assert (await lab.call("GET", "100/status/current"))["ha"]["state"] == "started"


@pytest.fixture
async def ops(lab):
    """A user who may change memory, disks and options of guest 100, and see it."""
    cfg = lab.node.auth.cfg
    cfg.users["ops@pve"] = User()
    cfg.roles["Ops"] = frozenset({"VM.Audit", "VM.Config.Memory", "VM.Config.Disk", "VM.Config.Options"})
    cfg.acl[AclKey("/vms/100", "user", "ops@pve", "Ops")] = True
    await lab.done("POST", "", vmid=100, net0="virtio,bridge=vmbr0", **SMALL)
    await lab.done("POST", "", vmid=101)
    return lab


async def test_permissions_by_option(ops):
    await ops.call("PUT", "100/config", "ops@pve", memory=80, name="mine")
    for params in ({"cores": 2}, {"net0": "virtio,bridge=vmbr0"}, {"delete": "net0"}, {"startup": "order=1"}):
        with pytest.raises(Forbidden):
            await ops.call("PUT", "100/config", "ops@pve", **params)
    with pytest.raises(ApiError, match="only root can set 'args' config"):
        await ops.call("PUT", "100/config", "ops@pve", args="-S")
    with pytest.raises(ApiError) as caught:
        await ops.call("PUT", "100/config", "ops@pve", memory=90, skiplock=1)
    assert caught.value.errors == {"skiplock": "Only root may use this option."}
    with pytest.raises(Forbidden):
        await ops.call("PUT", "101/config", "ops@pve", memory=80)
    assert (await ops.config(100))["memory"] == "80"


async def test_disks_need_space_on_the_storage(ops):
    with pytest.raises(Forbidden, match=r"/storage/local, Datastore.AllocateSpace"):
        await ops.call("PUT", "100/config", "ops@pve", scsi1="local:0.01")
    ops.node.auth.cfg.acl[AclKey("/storage/local", "user", "ops@pve", "PVEDatastoreUser")] = True
    await ops.call("PUT", "100/config", "ops@pve", scsi1="local:0.01")
    with pytest.raises(Forbidden):
        await ops.call("PUT", "100/config", "ops@pve", ide2="none,media=cdrom")


async def test_the_list_shows_what_the_user_may_see(ops):
    assert [row["vmid"] for row in await ops.call("GET", "", "ops@pve")] == [100]
    assert [row["vmid"] for row in await ops.call("GET", "")] == [100, 101]


async def test_creating_needs_allocate(ops):
    with pytest.raises(Forbidden):
        await ops.call("POST", "", "ops@pve", vmid=102)
    assert not ops.guests.exists(102)


async def test_monitor_permissions(ops):
    ops.node.auth.cfg.roles["Watch"] = frozenset({"Sys.Audit"})
    ops.node.auth.cfg.acl[AclKey("/", "user", "ops@pve", "Watch")] = True
    for line, error in (("stop", Forbidden), ("device_add x", ApiError), ("nosuch", ApiError)):
        with pytest.raises(error):
            await ops.call("POST", "100/monitor", "ops@pve", command=line)
