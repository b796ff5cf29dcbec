# SPDX-License-Identifier: GPL-3.0-or-later
"""The second proof that labnode is what it says: the modules of community.proxmox work against it, unchanged."""

from __future__ import annotations

import itertools
import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import Lab, until

pytestmark = pytest.mark.release

VMIDS = itertools.count(300)
INSTALLED = Path(sysconfig.get_path("purelib"), "ansible_collections/community/proxmox")


class Neighbour:
    """Calls modules of community.proxmox; every call must say whether it is to change something."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __call__(self, module: str, changed: bool = True, **params: Any) -> Any:
        result = self.lab.module(f"community.proxmox.proxmox_{module}", params)
        assert not result.get("failed"), result["msg"]
        assert result.get("changed", False) is changed, result
        return result


@pytest.fixture
def call(lab: Lab) -> Neighbour:
    return Neighbour(lab)


@pytest.fixture
def vmid(call: Neighbour) -> int:
    """A stopped guest with one disk and one NIC, made by proxmox_kvm."""
    number = next(VMIDS)
    call(
        "kvm",
        node="pve1",
        vmid=number,
        name=f"guest{number}",
        memory=64,
        scsihw="virtio-scsi-pci",
        scsi={"scsi0": "local:1,format=qcow2"},
        net={"net0": "virtio,bridge=vmbr0"},
    )
    return number


def test_guest_lives(call: Neighbour, api: Any, vmid: int) -> None:
    guest = api.nodes("pve1").qemu(vmid)
    assert guest.config.get()["scsi0"].startswith("local:")
    call("kvm", changed=False, node="pve1", vmid=vmid, name=f"guest{vmid}")
    call("kvm", node="pve1", vmid=vmid, state="started", timeout=60)
    assert guest.status.current.get()["status"] == "running"
    call("kvm", changed=False, node="pve1", vmid=vmid, state="started")
    call("kvm", node="pve1", vmid=vmid, state="restarted", force=True, timeout=60)
    until(lambda: guest.status.current.get()["status"] == "running", "the guest is back")
    call("kvm", node="pve1", vmid=vmid, name=f"guest{vmid}", update=True, description="changed", onboot=True)
    assert guest.config.get()["onboot"] == 1
    # Its own way to stop a guest waits for one that has nothing on its disk and does not listen.
    guest.status.stop.post()
    until(lambda: guest.status.current.get()["status"] == "stopped", "the guest is off")
    call("kvm", node="pve1", vmid=vmid, state="absent", timeout=60)
    assert vmid not in [g["vmid"] for g in api.nodes("pve1").qemu.get()]


def test_guest_is_cloned_and_sealed(call: Neighbour, api: Any, vmid: int) -> None:
    copy = next(VMIDS)
    call("kvm", node="pve1", clone=f"guest{vmid}", vmid=vmid, newid=copy, name=f"guest{copy}", timeout=60)
    assert api.nodes("pve1").qemu(copy).config.get()["memory"] == "64"
    call("kvm", node="pve1", vmid=copy, state="template", timeout=60)
    assert api.nodes("pve1").qemu(copy).config.get()["template"] == 1
    linked = next(VMIDS)
    call("kvm", node="pve1", clone=f"guest{copy}", vmid=copy, newid=linked, name="linked", full=False, timeout=60)
    assert "base-" in api.nodes("pve1").qemu(linked).config.get()["scsi0"]


def test_disks_are_added_grown_detached_moved_and_removed(call: Neighbour, api: Any, vmid: int) -> None:
    config = api.nodes("pve1").qemu(vmid).config
    call("disk", vmid=vmid, disk="scsi1", storage="local", size=1, format="qcow2", state="present")
    call("disk", changed=False, vmid=vmid, disk="scsi1", storage="local", size=1, state="present")
    call("disk", vmid=vmid, disk="scsi1", size="+1G", state="resized")
    assert "size=2G" in config.get()["scsi1"]
    call("disk", vmid=vmid, disk="scsi1", state="detached")
    assert "unused0" in config.get()
    call("disk", vmid=vmid, disk="unused0", state="absent")
    assert "unused0" not in config.get()


def test_nics_are_added_changed_and_removed(call: Neighbour, api: Any, vmid: int) -> None:
    config = api.nodes("pve1").qemu(vmid).config
    call("nic", vmid=vmid, interface="net1", bridge="vmbr0", tag=7)
    assert "tag=7" in config.get()["net1"]
    call("nic", changed=False, vmid=vmid, interface="net1", bridge="vmbr0", tag=7)
    call("nic", vmid=vmid, interface="net1", bridge="vmbr0", tag=8)
    call("nic", vmid=vmid, interface="net1", state="absent")
    assert "net1" not in config.get()


def test_snapshots_are_taken_kept_and_rolled_back(call: Neighbour, api: Any, vmid: int) -> None:
    snapshots = api.nodes("pve1").qemu(vmid).snapshot
    for name in ("one", "two", "three"):
        call("snap", vmid=vmid, snapname=name, state="present", retention=2, timeout=60)
    # Its retention does not wait for the node.
    until(lambda: {"current", "two", "three"} == {s["name"] for s in snapshots.get()}, "the oldest is gone")
    call("snap", changed=False, vmid=vmid, snapname="three", state="present")
    call("snap", vmid=vmid, snapname="three", state="rollback", timeout=60)
    call("snap", vmid=vmid, snapname="three", state="absent", timeout=60)
    assert {s["name"] for s in snapshots.get()} == {"current", "two"}


def test_templates_are_uploaded_and_removed(call: Neighbour, api: Any, tmp_path: Path) -> None:
    image = tmp_path / "tiny.iso"
    image.write_bytes(b"\0" * 70000)
    said = {"node": "pve1", "storage": "local", "content_type": "iso", "timeout": 60}
    call("template", src=str(image), **said)
    assert "local:iso/tiny.iso" in [v["volid"] for v in api.nodes("pve1").storage("local").content.get()]
    call("template", changed=False, src=str(image), **said)
    call("template", template="tiny.iso", state="absent", **said)
    assert "local:iso/tiny.iso" not in [v["volid"] for v in api.nodes("pve1").storage("local").content.get()]


def release() -> int:
    """The major version of the installed community.proxmox."""
    manifest = json.loads((INSTALLED / "MANIFEST.json").read_text(encoding="utf-8"))
    return int(manifest["collection_info"]["version"].partition(".")[0])


def member(kind: str, name: str) -> dict[str, Any]:
    """One member of a pool as the installed release of proxmox_pool_member takes it: since 2.0 in a list."""
    return {"member": name, "type": kind} if release() < 2 else {"members": [{kind: name}]}


def test_pools_have_members(call: Neighbour, api: Any, vmid: int) -> None:
    call("pool", poolid="crew", comment="Together")
    call("pool", changed=False, poolid="crew")
    call("pool_member", poolid="crew", **member("vm", str(vmid)))
    call("pool_member", poolid="crew", **member("storage", "local"))
    call("pool_member", changed=False, poolid="crew", **member("storage", "local"))
    assert len(api.pools("crew").get()["members"]) == 2
    if release() < 2:
        call("pool_member", changed=False, poolid="crew", **member("vm", str(vmid)))
        call("pool_member", poolid="crew", state="absent", **member("vm", f"guest{vmid}"))
    else:  # 2.0.0 holds the ids of guests as text against the numbers of the API, and so finds no guest in a pool
        api.pools.put(poolid="crew", vms=str(vmid), delete=1)
    call("pool_member", poolid="crew", state="absent", **member("storage", "local"))
    call("pool", poolid="crew", state="absent")


def test_storages_are_defined_and_removed(call: Neighbour, api: Any, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    said = {"name": "more", "type": "dir", "dir_options": {"path": str(tmp_path / "more")}, "content": ["images"]}
    call("storage", nodes=["pve1"], state="present", **said)
    assert api.storage("more").get()["type"] == "dir"
    call("storage", nodes=["pve1"], state="absent", **said)
    assert "more" not in [s["storage"] for s in api.storage.get()]


def test_users_groups_and_rights(call: Neighbour, api: Any) -> None:
    call("group", groupid="admins", comment="People with keys")
    call("user", name="ada@pve", password="long enough", groups=["admins"])
    call("user", changed=False, name="ada@pve")
    call("access_acl", state="present", path="/vms", type="group", ugid="admins", roleid="PVEVMUser")
    assert [a["ugid"] for a in api.access.acl.get()] == ["admins"]
    call("access_acl", state="absent", path="/vms", type="group", ugid="admins", roleid="PVEVMUser")
    call("user", name="ada@pve", state="absent")
    call("group", groupid="admins", state="absent")


def test_backups_are_written(call: Neighbour, api: Any, vmid: int) -> None:
    call("backup", mode="include", storage="local", vmids=[vmid], backup_mode="stop", wait=True, wait_timeout=120)
    held = api.nodes("pve1").storage("local").content.get(content="backup")
    assert [v["vmid"] for v in held] == [vmid]


def test_backup_jobs_get_and_lose_guests(call: Neighbour, api: Any, vmid: int) -> None:
    api.cluster.backup.post(id="nightly", schedule="03:00", storage="local", vmid="9999", mode="snapshot")
    call("backup_schedule", vm_id=vmid, backup_id="nightly", state="present")
    assert str(vmid) in api.cluster.backup("nightly").get()["vmid"].split(",")
    call("backup_schedule", vm_id=vmid, backup_id="nightly", state="absent")
    assert str(vmid) not in api.cluster.backup("nightly").get()["vmid"].split(",")
    api.cluster.backup("nightly").delete()


@pytest.mark.parametrize(
    ("module", "params", "key"),
    [
        ("node_info", {}, "proxmox_nodes"),
        ("storage_info", {}, "proxmox_storages"),
        ("storage_contents_info", {"node": "pve1", "storage": "local"}, "proxmox_storage_content"),
        ("tasks_info", {"node": "pve1"}, "proxmox_tasks"),
        ("group_info", {}, "proxmox_groups"),
        ("user_info", {}, "proxmox_users"),
        ("domain_info", {}, "proxmox_domains"),
        ("vm_info", {"type": "qemu", "config": "current"}, "proxmox_vms"),
        ("backup_info", {}, "backup_info"),
    ],
)
@pytest.mark.usefixtures("vmid")
def test_what_there_is_is_listed(call: Neighbour, module: str, params: dict[str, Any], key: str) -> None:
    result = call(module, changed=False, **params)
    assert isinstance(result[key], list)
    if module not in {"group_info", "backup_info"}:
        assert result[key]
