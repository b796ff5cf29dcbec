# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, read, change and destroy guests, with real volumes."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from labnode.errors import ApiError, ParamError

SMALL = {"scsi0": "local:0.01,format=qcow2", "net0": "virtio,bridge=vmbr0", "memory": 64, "cores": 1}


async def test_create_and_read(lab):
    assert (
        await lab.done("POST", "", vmid=100, name="web1", tags="Web;prod", onboot=1, description="a\nb", **SMALL)
        == "OK"
    )
    conf = await lab.config(100)
    assert conf.pop("net0").startswith("virtio=BC:24:11:")
    assert conf == {
        "name": "web1", "tags": "Web;prod", "onboot": 1, "description": "a\nb", "memory": "64", "cores": 1,
        "boot": "order=scsi0;net0", "scsi0": "local:100/vm-100-disk-0.qcow2,size=10486K",
    }  # fmt: skip
    assert await lab.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]


async def test_a_number_is_given_once(lab):
    assert await lab.done("POST", "", vmid=100) == "OK"
    with pytest.raises(ApiError, match="unable to create VM 100 - VM 100 already exists on node 'pve1'"):
        await lab.call("POST", "", vmid=100, name="dup")


async def test_a_failed_create_leaves_nothing(lab):
    status = await lab.done("POST", "", vmid=101, scsi0="local:0.01", ide2="local:iso/none.iso,media=cdrom")
    assert status == "unable to create VM 101 - volume 'local:iso/none.iso' does not exist"
    assert not lab.guests.exists(101)
    assert await lab.volumes(101) == []


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"scsi0": "nosuch:1"}, "storage 'nosuch' does not exist"),
        ({"scsi0": "local:1,import-from=/x"}, "Parameter verification failed."),
        ({"scsi0": "/tmp/x.raw"}, "Parameter verification failed."),
        ({"pool": "nosuch"}, "pool 'nosuch' does not exist"),
    ],
)
async def test_bad_creates(lab, params, text):
    with pytest.raises(ApiError) as caught:
        await lab.call("POST", "", vmid=101, **params)
    assert caught.value.message == text
    assert not lab.guests.exists(101)


async def test_the_allocating_form_allocates_every_time(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    for _ in range(2):
        await lab.call("PUT", "100/config", scsi1="local:0.01")
    conf = await lab.config(100)
    assert conf["scsi1"].startswith("local:100/vm-100-disk-2.raw,")
    assert conf["unused0"] == "local:100/vm-100-disk-1.raw"
    await lab.call("PUT", "100/config", delete="scsi1")
    assert (await lab.config(100))["unused1"] == "local:100/vm-100-disk-2.raw"
    await lab.call("PUT", "100/config", delete="unused0,unused1")
    assert await lab.volumes(100) == ["local:100/vm-100-disk-0.qcow2"]
    assert not any(key.startswith("unused") for key in await lab.config(100))


async def test_an_unused_volume_is_attached_again(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    await lab.call("PUT", "100/config", delete="scsi0")
    conf = await lab.config(100)
    assert conf["unused0"] == "local:100/vm-100-disk-0.qcow2"
    assert conf["boot"] == "order=net0"
    await lab.call("PUT", "100/config", virtio0=conf["unused0"], boot="order=virtio0")
    conf = await lab.config(100)
    assert "unused0" not in conf
    assert conf["virtio0"] == "local:100/vm-100-disk-0.qcow2,size=10486K"
    assert conf["boot"] == "order=virtio0"


async def test_force_destroys_the_volume(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    await lab.call("PUT", "100/unlink", idlist="scsi0", force=1)
    assert await lab.volumes(100) == []


async def test_protection_keeps_disks_and_guest(lab):
    await lab.done("POST", "", vmid=100, protection=1, **SMALL)
    with pytest.raises(ApiError, match=r"can't remove drive 'scsi0' - protection mode enabled"):
        await lab.call("PUT", "100/config", delete="scsi0")
    with pytest.raises(ApiError, match="can't remove VM 100 - protection mode enabled"):
        await lab.call("DELETE", "100")


async def test_digest_guards_against_lost_changes(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    digest = (await lab.call("GET", "100/config"))["digest"]
    await lab.call("PUT", "100/config", cores=2, digest=digest)
    with pytest.raises(ApiError, match=r"checksum mismatch \(file change by other user\?\)"):
        await lab.call("PUT", "100/config", cores=3, digest=digest)
    assert (await lab.config(100))["cores"] == 2


@pytest.mark.parametrize(
    ("params", "field", "text"),
    [
        ({"delete": "nosuchkey"}, "delete", "unknown option 'nosuchkey'"),
        ({"delete": "cores", "cores": 1}, "delete", "you can't use '-cores' and -delete cores' at the same time"),
        ({"delete": "cores", "revert": "cores"}, "revert", "you can't use '-delete cores' and -revert cores'"),
        ({"scsi0": "local:iso/x.iso"}, "scsi0", "explicit 'media=cdrom' is required for iso images"),
    ],
)
async def test_bad_changes(lab, params, field, text):
    await lab.done("POST", "", vmid=100, **SMALL)
    before = await lab.config(100)
    with pytest.raises(ParamError) as caught:
        await lab.call("PUT", "100/config", **params)
    assert text in caught.value.errors[field]
    assert await lab.config(100) == before


async def test_a_change_without_options_is_refused(lab):
    await lab.done("POST", "", vmid=100)
    with pytest.raises(ApiError, match="no options specified"):
        await lab.call("PUT", "100/config")


async def test_changes_in_a_task(lab):
    await lab.done("POST", "", vmid=100)
    upid = await lab.call("POST", "100/config", memory=160)
    assert await lab.node.tasks.wait(upid, 10) == "OK"
    assert lab.node.tasks.log(upid)[0][0]["t"] == "update VM 100: -memory 160"
    assert await lab.call("POST", "100/config", cores=2, background_delay=5) is None
    conf = await lab.config(100)
    assert (conf["memory"], conf["cores"]) == ("160", 2)


async def test_a_bad_boot_order_is_refused(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    with pytest.raises(ApiError, match="invalid bootorder: device 'scsi5' does not exist'"):
        await lab.call("PUT", "100/config", boot="order=scsi5;net0")


async def test_balloon_stays_below_memory(lab):
    await lab.done("POST", "", vmid=100, memory=128)
    with pytest.raises(ApiError, match="balloon value too large"):
        await lab.call("PUT", "100/config", balloon=256)


async def test_tags_are_rewritten_by_a_change(lab):
    await lab.done("POST", "", vmid=100, tags="Web;prod")
    await lab.call("PUT", "100/config", tags="Zoo,web;ZOO")
    assert (await lab.config(100))["tags"] == "web;zoo"


async def test_a_password_is_hashed_and_hidden(lab):
    await lab.done("POST", "", vmid=100, ide2="local:cloudinit", ciuser="me", cipassword="topsecret")
    assert (await lab.config(100))["cipassword"] == "**********"
    assert "topsecret" not in lab.guests.store.read(lab.guests.rel(100))
    await lab.call("PUT", "100/config", cipassword="another1")
    text = lab.guests.store.read(lab.guests.rel(100))
    assert "cipassword: $5$" in text and "another1" not in text


async def test_cloudinit_drive_is_made_and_goes_with_its_option(lab):
    await lab.done("POST", "", vmid=100, ide2="local:cloudinit", ciuser="me")
    assert (await lab.config(100))["ide2"] == "local:100/vm-100-cloudinit.qcow2,media=cdrom"
    with pytest.raises(ApiError, match="ide3 - cloud-init drive is already attached at 'ide2'"):
        await lab.call("PUT", "100/config", ide3="local:cloudinit")
    assert await lab.call("GET", "100/cloudinit") == [{"key": "ciuser", "value": "me"}]
    await lab.call("PUT", "100/config", delete="ide2")
    assert await lab.volumes(100) == []
    assert "unused0" not in await lab.config(100)


async def test_efi_and_tpm(lab):
    status = await lab.done(
        "POST",
        "",
        vmid=100,
        bios="ovmf",
        efidisk0="local:1,efitype=4m,pre-enrolled-keys=1",
        tpmstate0="local:1,version=v2.0",
    )
    if "install the package ovmf" in status:
        pytest.skip("no UEFI firmware on this host")
    conf = await lab.config(100)
    assert conf["efidisk0"] == "local:100/vm-100-disk-0.raw,efitype=4m,pre-enrolled-keys=1,size=528K"
    assert conf["tpmstate0"] == "local:100/vm-100-disk-1.raw,size=4M,version=v2.0"
    with pytest.raises(ApiError, match="cannot change TPM state version after creation"):
        await lab.call("PUT", "100/config", tpmstate0="local:100/vm-100-disk-1.raw,version=v1.2")


async def test_import_from_another_guest(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    source = "local:100/vm-100-disk-0.qcow2"
    assert await lab.done("POST", "", vmid=101, virtio0=f"local:0,import-from={source},format=raw") == "OK"
    assert (await lab.config(101))["virtio0"] == "local:101/vm-101-disk-0.raw,size=10486K"


async def test_resize(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    assert await lab.done("PUT", "100/resize", disk="scsi0", size="20M") == "OK"
    assert await lab.done("PUT", "100/resize", disk="scsi0", size="+512K") == "OK"
    assert (await lab.config(100))["scsi0"].endswith(",size=20992K")
    assert await lab.done("PUT", "100/resize", disk="scsi0", size="20992K") == "OK"
    assert await lab.done("PUT", "100/resize", disk="scsi0", size="1M") == "shrinking disks is not supported"
    assert await lab.done("PUT", "100/resize", disk="scsi7", size="1G") == "disk 'scsi7' does not exist"


async def test_destroy_takes_everything_of_the_guest(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    await lab.done("POST", "", vmid=101, **SMALL)
    await lab.call("PUT", "100/config", scsi1="local:0.01", delete="net0")
    loose = await lab.node.storage.alloc("local", 100, "raw", 1 << 20)
    assert await lab.done("DELETE", "100") == "OK"
    assert await lab.volumes(100) == [loose]
    with pytest.raises(ApiError, match=r"Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"):
        await lab.call("DELETE", "100")
    assert await lab.done("POST", "", vmid=100) == "OK"
    assert await lab.done("DELETE", "100", destroy__unreferenced__disks=1, purge=1) == "OK"
    assert await lab.volumes(100) == []
    assert await lab.volumes(101) == ["local:101/vm-101-disk-0.qcow2"]


async def test_locked_guests_wait_for_their_owner(lab):
    await lab.done("POST", "", vmid=100, **SMALL)
    await lab.guests.set_lock(100, "backup")
    with pytest.raises(ApiError, match=r"VM is locked \(backup\)"):
        await lab.call("PUT", "100/config", cores=2)
    assert await lab.done("POST", "100/status/start") == "VM is locked (backup)"
    assert await lab.done("DELETE", "100") == "VM is locked (backup)"
    await lab.call("PUT", "100/config", cores=2, skiplock=1)
    await lab.call("PUT", "100/config", delete="lock", skiplock=1)
    assert await lab.done("DELETE", "100") == "OK"


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5sTb1dnnJ0pPp6mBzZ1q0l4Mf4G7yq6rUQ1f0kq1aB me@home"


async def test_ssh_keys_are_looked_at(lab):
    assert await lab.done("POST", "", vmid=100, sshkeys=quote(KEY + "\n", safe="")) == "OK"
    assert (await lab.config(100))["sshkeys"] == quote(KEY + "\n", safe="")
    with pytest.raises(ApiError, match="SSH public key validation error"):
        await lab.call("PUT", "100/config", sshkeys=quote("ssh-rsa nonsense", safe=""))


async def test_hookscripts(lab):
    await lab.done("POST", "", vmid=100)
    script = lab.node.storage.path("local:snippets/hook.sh")
    script.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(ParamError) as caught:
        await lab.call("PUT", "100/config", hookscript="local:snippets/hook.sh")
    assert "does not exist" in caught.value.errors["hookscript"]
    script.write_text("#!/bin/sh\necho $1 $2\n[ ! -e $0.stop ]\n")
    script.chmod(0o755)
    await lab.call("PUT", "100/config", hookscript="local:snippets/hook.sh")
    upid = await lab.call("POST", "100/status/start")
    assert await lab.node.tasks.wait(upid, 10) == "OK"
    lines = [row["t"] for row in lab.node.tasks.log(upid)[0]]
    assert lines[:2] == ["100 pre-start", "100 post-start"]
    await lab.done("POST", "100/status/stop")
    script.with_name("hook.sh.stop").touch()
    assert (await lab.done("POST", "100/status/start")).startswith("hookscript error for 100 on pre-start: command")
    assert not lab.guests.running(100)


async def test_a_value_cannot_smuggle_in_another_option(lab):
    await lab.done("POST", "", vmid=100)
    for method, path, params in (("PUT", "100/config", {}), ("POST", "", {"vmid": 101})):
        with pytest.raises(ApiError):
            await lab.call(method, path, ciuser="me\nargs: -S", **params)
    assert not lab.guests.exists(101)
    assert "args" not in await lab.config(100)
