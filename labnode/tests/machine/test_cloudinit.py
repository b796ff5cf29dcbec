# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud-init data by type, and the ISO a guest reads it from."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pycdlib
import pytest
import yaml
from machine_lab import MAC

from labnode.errors import ApiError
from labnode.machine import cloudinit

CONFIG = {
    "name": "web1",
    "net0": f"virtio={MAC}1,bridge=vmbr0",
    "net1": f"virtio={MAC}2,bridge=vmbr0",
    "net2": f"virtio={MAC}3,bridge=vmbr0",
    "ipconfig0": "ip=10.7.0.5/24,gw=10.7.0.1,ip6=fd00::5/64,gw6=fd00::1",
    "ipconfig1": "ip=dhcp,ip6=auto",
    "nameserver": "10.7.0.2 10.7.0.3",
    "searchdomain": "lab.test",
    "ciuser": "ops",
    "cipassword": "$5$hash",
    "sshkeys": "ssh-ed25519%20AAAA%20a%0Assh-rsa%20BBBB%20b",
    "ide2": "local:100/vm-100-cloudinit.qcow2,media=cdrom",
}


def read(image: bytes, path: str) -> str:
    """A file of an ISO by its Joliet path."""
    disc = pycdlib.PyCdlib()
    disc.open_fp(io.BytesIO(image))
    out = io.BytesIO()
    disc.get_file_from_iso_fp(out, joliet_path=path)
    assert disc.pvd.volume_identifier.decode().strip()
    return out.getvalue().decode()


async def test_nocloud(lab):
    files = cloudinit.files(100, CONFIG, lab.storage)
    user = yaml.safe_load(files["user"])
    assert files["user"].startswith("#cloud-config\n")
    assert (user["hostname"], user["fqdn"], user["user"], user["password"]) == (
        "web1",
        "web1.lab.test",
        "ops",
        "$5$hash",
    )
    assert user["ssh_authorized_keys"] == ["ssh-ed25519 AAAA a", "ssh-rsa BBBB b"]
    assert (user["chpasswd"], user["users"], user["package_upgrade"]) == ({"expire": False}, ["default"], True)
    network = yaml.safe_load(files["network"])
    first, second, names = network["config"]
    assert (network["version"], first["name"], first["mac_address"]) == (1, "eth0", f"{MAC}1".lower())
    assert first["subnets"] == [
        {"type": "static", "address": "10.7.0.5", "netmask": "255.255.255.0", "gateway": "10.7.0.1"},
        {"type": "static6", "address": "fd00::5/64", "gateway": "fd00::1"},
    ]
    assert second["subnets"] == [{"type": "dhcp4"}, {"type": "ipv6_slaac"}]
    assert names == {"type": "nameserver", "address": ["10.7.0.2", "10.7.0.3"], "search": ["lab.test"]}
    assert (
        yaml.safe_load(files["meta"])["instance-id"]
        != yaml.safe_load(cloudinit.files(100, {**CONFIG, "ciuser": "root"}, lab.storage)["meta"])["instance-id"]
    )


async def test_the_other_types(lab):
    drive2 = cloudinit.files(100, {**CONFIG, "citype": "configdrive2"}, lab.storage)
    assert "iface eth0 inet static\n        address 10.7.0.5\n        netmask 255.255.255.0" in drive2["network"]
    assert json.loads(drive2["meta"])["network_config"] == {"content_path": "/content/0000"}
    assert cloudinit.kind({"ostype": "win11"}) == "configdrive2"
    context = cloudinit.files(100, {**CONFIG, "citype": "opennebula"}, lab.storage)["user"]
    assert "ETH0_IP=10.7.0.5\n" in context and "ETH1_DHCP=YES\n" in context and context.endswith("NETWORK=YES\n")


async def test_snippets_replace_what_is_made(lab):
    await lab.storage.activate("local")
    lab.storage.path("local:snippets/mine.yml").write_text("#cloud-config\nhostname: mine\n")
    files = cloudinit.files(100, {**CONFIG, "cicustom": "user=local:snippets/mine.yml"}, lab.storage)
    assert files["user"] == "#cloud-config\nhostname: mine\n"
    assert "10.7.0.5" in files["network"]
    for custom, text in {
        "user=local:snippets/none.yml": "volume 'local:snippets/none.yml' does not exist",
        "user=local:iso/a.iso": "local:iso/a.iso is not in the snippets directory",
    }.items():
        with pytest.raises(ApiError, match=text):
            cloudinit.files(100, {**CONFIG, "cicustom": custom}, lab.storage)
    lab.storage.path("local:snippets/mine.yml").write_text("#" * (3 << 20))
    with pytest.raises(ApiError, match="too big"):
        cloudinit.files(100, {**CONFIG, "cicustom": "vendor=local:snippets/mine.yml"}, lab.storage)


@pytest.mark.parametrize("kind", ["nocloud", "configdrive2", "opennebula"])
@pytest.mark.parametrize("fmt", ["qcow2", "raw"])
async def test_the_drive_is_written_and_written_anew(lab, kind, fmt):
    config = {**CONFIG, "citype": kind, "ide2": f"local:100/vm-100-cloudinit.{fmt},media=cdrom"}
    label, places = cloudinit.LAYOUT[kind]
    for name in ("web1", "renamed"):
        await cloudinit.write(100, {**config, "name": name}, lab.storage)
        copy = await lab.storage.clone_full(f"local:100/vm-100-cloudinit.{fmt}", "local", 101, "raw")
        image = lab.storage.path(copy).read_bytes()
        await lab.storage.free(copy)
        assert len(image) == cloudinit.VOLUME_SIZE
        assert image[0x8028:0x8048].decode().strip() == label
        assert name in read(image, places["user"])
        for role, text in cloudinit.files(100, {**config, "name": name}, lab.storage).items():
            if role in places:
                assert read(image, places[role]) == text


async def test_a_running_guest_gets_the_new_drive(lab):
    config = {**CONFIG, "memory": "32", "kvm": "0"}
    await lab.start(100, config)
    await lab.machines.cloudinit_write(100, {**config, "name": "renamed"})
    blocks = {item["qdev"]: item for item in await lab.machines.qmp(100, "query-block") if item.get("qdev")}
    assert blocks["ide2"]["inserted"]["file"].endswith("vm-100-cloudinit.qcow2")


async def test_no_drive_no_data(lab):
    await cloudinit.write(100, {"name": "x"}, lab.storage)
    assert await lab.storage.list("local", "images") == []


def test_a_volume_is_opened_as_what_it_is(tmp_path: Path) -> None:
    class Device(type(tmp_path)):  # type: ignore[misc]
        def is_block_device(self) -> bool:
            return True

    assert cloudinit.opened("raw", Device("/dev/fast/vm-1")) == (
        "driver=raw,file.driver=host_device,file.locking=off,file.filename=/dev/fast/vm-1"
    )
    assert "driver=qcow2,file.driver=file," in cloudinit.opened("qcow2", tmp_path / "a,b.qcow2")
    assert cloudinit.opened("qcow2", Path("/a,b")).endswith("filename=/a,,b")
