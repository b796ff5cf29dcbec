# SPDX-License-Identifier: GPL-3.0-or-later
"""Clones, templates, disks that move."""

from __future__ import annotations

import pytest

from labnode.errors import ApiError, ParamError

SMALL = {"scsi0": "local:0.01,format=qcow2", "net0": "virtio,bridge=vmbr0", "memory": 64, "name": "web1"}


@pytest.fixture
async def guest(lab):
    assert await lab.done("POST", "", vmid=100, **SMALL) == "OK"
    return lab


async def test_full_clone_is_another_guest(guest):
    assert await guest.done("POST", "100/clone", newid=110, full=1, description="copy") == "OK"
    old, new = await guest.call("GET", "100/config"), await guest.call("GET", "110/config")
    assert new["name"] == "Copy-of-VM-web1" and new["description"] == "copy"
    assert new["scsi0"] == "local:110/vm-110-disk-0.qcow2,size=10486K"
    assert all(old[key] != new[key] for key in ("net0", "smbios1", "vmgenid"))
    assert "lock" not in new
    with pytest.raises(ApiError, match="unable to create VM 110: config file already exists"):
        await guest.call("POST", "100/clone", newid=110)


async def test_linked_clone_needs_a_template(guest):
    with pytest.raises(ApiError) as caught:
        await guest.call("POST", "100/clone", newid=111, full=0)
    assert caught.value.message == "Linked clone feature is not supported for 'local:100/vm-100-disk-0.qcow2' (scsi0)"
    assert await guest.done("POST", "100/template") == "OK"
    conf = await guest.config(100)
    assert conf["template"] == 1 and conf["scsi0"].startswith("local:100/base-100-disk-0.qcow2,")
    assert await guest.done("POST", "100/status/start") == "you can't start a vm if it's a template"
    with pytest.raises(ApiError, match="you can't convert a template to a template"):
        await guest.call("POST", "100/template")
    assert await guest.done("POST", "100/clone", newid=112, name="linked") == "OK"
    assert (await guest.config(112))["scsi0"].startswith("local:100/base-100-disk-0.qcow2/112/vm-112-disk-0.qcow2,")
    in_use = "base volume 'local:100/base-100-disk-0.qcow2' is still in use by linked cloned"
    assert await guest.done("DELETE", "100") == in_use
    assert guest.guests.exists(100)
    with pytest.raises(ApiError, match="parameter 'storage' not allowed for linked clones"):
        await guest.call("POST", "100/clone", newid=113, storage="local")
    assert await guest.done("DELETE", "112") == "OK"
    assert await guest.done("DELETE", "100") == "OK"


async def test_two_clones_of_one_template_at_a_time(guest):
    await guest.done("POST", "100/template")
    upids = [await guest.call("POST", "100/clone", newid=newid) for newid in (120, 121, 122)]
    assert [await guest.node.tasks.wait(upid, 30) for upid in upids] == ["OK"] * 3
    assert all(not guest.guests.load(vmid).lock for vmid in (120, 121, 122))


async def test_clone_of_a_snapshot(guest):
    await guest.done("POST", "100/snapshot", snapname="clean")
    await guest.call("PUT", "100/config", memory=128)
    assert await guest.done("POST", "100/clone", newid=110, full=1, snapname="clean") == "OK"
    conf = await guest.config(110)
    assert conf["memory"] == "64"
    assert not {"parent", "snaptime", "vmstate"} & set(conf)
    with pytest.raises(ApiError, match="snapshot 'none1' does not exist"):
        await guest.call("POST", "100/clone", newid=111, snapname="none1", full=1)


async def test_a_failed_clone_leaves_nothing(guest):
    await guest.call("PUT", "100/config", scsi1="local:0.01,format=qcow2")
    path = guest.node.storage.path("local:100/vm-100-disk-1.qcow2")
    path.write_bytes(b"no image")
    status = await guest.done("POST", "100/clone", newid=110, full=1)
    assert status.startswith("clone failed: ")
    assert not guest.guests.exists(110)
    assert await guest.volumes(110) == []


async def test_a_running_guest_is_copied_at_one_moment(guest):
    await guest.call("PUT", "100/config", virtio0="local:0.01", ide2="local:cloudinit")
    await guest.done("POST", "100/status/start")
    guest.machines.did.clear()
    assert await guest.done("POST", "100/clone", newid=110, full=1) == "OK"
    copied = {"scsi0": "local:110/vm-110-disk-0.qcow2", "virtio0": "local:110/vm-110-disk-1.raw"}
    assert guest.machines.did == [("copy", 100, copied)]
    conf = await guest.config(110)
    assert conf["virtio0"].startswith("local:110/vm-110-disk-1.raw,")
    assert conf["ide2"] == "local:110/vm-110-cloudinit.qcow2,media=cdrom"
    guest.machines.refuse.add("copy")
    assert await guest.done("POST", "100/clone", newid=111, full=1) == "clone failed: the copy failed"
    assert await guest.volumes(111) == [] and not guest.guests.exists(111)


async def test_move_a_disk(guest, tmp_path):
    assert await guest.done("POST", "100/move_disk", disk="scsi0", storage="local", format="raw") == "OK"
    conf = await guest.config(100)
    assert conf["scsi0"] == "local:100/vm-100-disk-1.raw,size=10486K"
    assert conf["unused0"] == "local:100/vm-100-disk-0.qcow2"
    await guest.call("PUT", "100/config", delete="unused0")
    assert await guest.done("POST", "100/move_disk", disk="scsi0", storage="local", format="qcow2", delete=1) == "OK"
    assert await guest.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]
    with pytest.raises(ApiError, match="you can't move to the same storage with same format"):
        await guest.call("POST", "100/move_disk", disk="scsi0", storage="local")
    with pytest.raises(ParamError):
        await guest.call("POST", "100/move_disk", disk="scsi0")


async def test_give_a_disk_to_another_guest(guest):
    await guest.done("POST", "", vmid=101)
    await guest.done("POST", "", vmid=102)
    args = {"disk": "scsi0", "target__vmid": 101, "target__disk": "virtio1"}
    assert await guest.done("POST", "100/move_disk", **args) == "OK"
    source, target = await guest.config(100), await guest.config(101)
    assert "scsi0" not in source and source["boot"] == "order=net0"
    assert target["virtio1"] == "local:101/vm-101-disk-0.qcow2,size=10486K"
    assert await guest.volumes(100) == []
    assert await guest.volumes(101) == ["local:101/vm-101-disk-0.qcow2"]
    with pytest.raises(ApiError, match="Disk 'scsi0' for VM '100' does not exist"):
        await guest.call("POST", "100/move_disk", disk="scsi0", target__vmid=102)
