# SPDX-License-Identifier: GPL-3.0-or-later
"""The module vm against labnode: making, changing and removing guests that need not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.vm_parts import done, module, refused
from ansible_collections.pvelab.proxmox.tests.lab import Lab, finished, orphans


@pytest.fixture(scope="module", autouse=True)
def fast(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second storage, so that disks have somewhere to move to."""
    folder = tmp_path_factory.mktemp("fast")
    lab.api().storage.post(storage="fast", type="dir", path=str(folder), content="images,import,iso")
    lab.api().pools.post(poolid="lab")
    lab.api().pools.post(poolid="other")
    return folder


def test_a_guest_is_made_changed_and_removed(lab: Lab, api: Any) -> None:
    made = done(
        lab,
        run=module,
        params={
            "vmid": 100,
            "name": "web1",
            "cores": 1,
            "memory": 64,
            "description": "first line\nsecond\n",
            "tags": ["Web", "prod", "web"],
            "pool": "lab",
            "agent": {"enabled": True, "fstrim_cloned_disks": True},
            "scsihw": "virtio-scsi-single",
            "disks": [{"slot": "scsi0", "storage": "local", "size": "256M", "format": "qcow2", "discard": "on"}],
            "nics": [{"slot": "net0", "bridge": "vmbr0", "firewall": True}],
        },
    )
    assert made["action"] == "create"
    mac = made["object"]["net0"]["mac"]
    done(lab, {"vmid": 100, "cores": 2, "nics": [{"slot": "net0", "tag": 20}], "unset": ["description"]})
    config = api.nodes("pve1").qemu(100).config.get()
    assert config["net0"] == f"virtio={mac},bridge=vmbr0,firewall=1,tag=20"
    assert "description" not in config
    done(lab, {"vmid": 100, "pool": "other"})
    done(lab, {"vmid": 100, "unset": ["pool"]})
    message = refused(lab, {"vmid": 100, "state": "absent"})
    assert "would destroy guest 100 (web1) with scsi0 local:100/vm-100-disk-0.qcow2 (256M)" in message
    gone = done(lab, {"vmid": 100, "name": "web1", "state": "absent", "allow_data_loss": True})
    assert (gone["action"], gone["object"]) == ("delete", None)
    assert orphans(api) == set()


STRUCTURED: dict[str, dict[str, Any]] = {
    "agent": {"agent": {"enabled": True, "freeze_fs": False, "type": "isa"}},
    "amd_sev": {"amd_sev": {"type": "std", "no_debug": True, "kernel_hashes": True}},
    "intel_tdx": {"intel_tdx": {"type": "tdx", "attestation": False}},
    "audio": {"audio": {"device": "AC97", "driver": "none"}},
    "boot": {"boot": ["net0"], "nics": [{"slot": "net0", "bridge": "vmbr0"}]},
    "cpu": {"cpu": {"type": "host", "flags": ["+aes", "-pcid"], "hidden": True}},
    "efidisk": {"efidisk": {"storage": "local", "efitype": "4m", "pre_enrolled_keys": False}},
    "hostpci": {"hostpci": [{"slot": "hostpci0", "host": ["0000:01:00.0"], "pcie": True, "rombar": False}]},
    "hotplug": {"hotplug": ["network", "cpu", "memory"]},
    "hotplug none": {"hotplug": ["none"]},
    "ivshmem": {"ivshmem": {"size": 32, "name": "shared"}},
    "machine": {"machine": {"type": "q35", "viommu": "virtio"}},
    "nics": {
        "nics": [
            {"slot": "net0", "bridge": "vmbr0", "trunks": ["2-4", "9"], "rate": 12.5, "queues": 2, "mtu": 1400},
            {"slot": "net31", "model": "e1000", "mac": "bc:24:11:00:00:07", "bridge": "vmbr0", "link_down": True},
        ]
    },
    "numa": {"numa": True, "cores": 2, "memory": 128,
             "numa_nodes": [{"slot": "numa0", "cpus": ["0-1"], "memory": 128, "hostnodes": ["0"], "policy": "bind"}]},
    "rng": {"rng": {"source": "/dev/urandom", "max_bytes": 2048, "period": 500}},
    "serial": {"serial": [{"slot": "serial0", "device": "socket"}, {"slot": "serial3", "device": "socket"}]},
    "parallel": {"parallel": [{"slot": "parallel0", "device": "/dev/parport0"}]},
    "smbios": {"smbios": {"manufacturer": "Acme, Inc.", "serial": "0815", "product": "Anvil=1"}},
    "spice_enhancements": {"spice_enhancements": {"foldersharing": True, "videostreaming": "filter"}},
    "startup": {"startup": {"order": 2, "up": 10, "down": 20}},
    "startup without order": {"startup": {"up": 10}},
    "tags": {"tags": ["zebra", "Ant"]},
    "tpm": {"tpm": {"storage": "local", "version": "v2.0"}},
    "usb": {"usb": [{"slot": "usb0", "host": "spice", "usb3": True}]},
    "vga": {"vga": {"type": "qxl", "memory": 32}},
    "virtiofs": {"virtiofs": [{"slot": "virtiofs0", "dirid": "share", "cache": "never", "expose_acl": True}]},
    "watchdog": {"watchdog": {"model": "ib700", "action": "poweroff"}},
    "plain": {
        "acpi": False, "affinity": "0,1", "allow_ksm": False, "autostart": True, "balloon": 0, "bios": "ovmf",
        "cores": 2, "cpulimit": 0.5, "cpuunits": 200, "freeze": True, "hugepages": "any", "keephugepages": True,
        "keyboard": "de-ch", "kvm": False, "localtime": True, "memory": 160, "migrate_downtime": 0.2,
        "migrate_speed": 5, "onboot": True, "ostype": "l26", "protection": True, "reboot": False, "shares": 500,
        "sockets": 2, "startdate": "2026-11-21", "tablet": False, "tdf": True, "vcpus": 1, "vmstatestorage": "local",
        "args": "-no-hpet", "arch": "x86_64", "description": "- a *list*\n\n  100 % ü",
        "vmgenid": "c00df42a-f18d-4f94-ac4f-2920fec3c17d",
    },
    "cloud-init": {
        "cloud_init": {
            "storage": "local", "type": "nocloud", "user": "admin", "password": "hunter22", "upgrade": False,
            "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9d2W3mCq0gGxqyH8o0k5N2rVnM7c4oS1pZl3tQeYbU a@b"],
            "nameserver": ["192.0.2.1", "192.0.2.2"], "searchdomain": ["example.com"],
            "ip_configs": [{"slot": "ipconfig0", "ip": "192.0.2.10/24", "gw": "192.0.2.1", "ip6": "auto"}],
        }
    },
    "disk": {
        "disks": [
            {
                "slot": "virtio3", "storage": "local", "size": "5M", "format": "raw", "cache": "writeback",
                "aio": "threads", "backup": False, "detect_zeroes": True, "iothread": True, "iops_rd": 100,
                "iops_rd_max": 200, "iops_rd_max_length": 2, "mbps_wr": 5, "mbps_wr_max": 12.5, "bps_rd": 1500000,
                "replicate": False, "rerror": "stop", "werror": "enospc", "ro": True, "serial": "ABC-1",
                "snapshot": False, "shared": True,
            },
            {
                "slot": "scsi4", "storage": "local", "size": "1M", "ssd": True, "product": "Disk", "vendor": "Acme",
                "wwn": "0x5000c500a1b2c3d4", "discard": "ignore",
            },
            {"slot": "ide0", "volume": "none", "media": "cdrom"},
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", STRUCTURED)
def test_each_kind_of_option_is_set_once_from_the_start_and_later(lab: Lab, kind: str) -> None:
    options = STRUCTURED[kind]
    base = 200 + 2 * list(STRUCTURED).index(kind)
    # What the firmware tells waits for the UUID that the node makes.
    done(lab, {"vmid": base, "name": f"made-{base}", **options}, rounds=2 if kind == "smbios" else 1)
    done(lab, {"vmid": base + 1, "name": f"changed-{base}"})
    done(lab, {"vmid": base + 1, **options})


def test_disks_are_added_grown_moved_detached_and_removed(lab: Lab, api: Any) -> None:
    guest = {"vmid": 110, "name": "disks"}
    done(lab, {**guest, "disks": [{"slot": "scsi0", "storage": "local", "size": "64M"}]})
    done(
        lab,
        {
            **guest,
            "disks": [
                {"slot": "scsi0", "size": "96M", "ssd": True},
                {"slot": "scsi1", "storage": "fast", "size": "8M"},
            ],
        },
    )
    message = refused(lab, {**guest, "disks": [{"slot": "scsi0", "size": "32M"}]})
    assert "scsi0 is 96M and cannot be shrunk to 32M" in message
    moved = done(
        lab, {**guest, "disks": [{"slot": "scsi0", "storage": "fast", "format": "qcow2", "cache": "none"}]}, rounds=2
    )
    assert moved["object"]["scsi0"]["volume"].startswith("fast:110/") and moved["object"]["scsi0"]["ssd"] is True
    assert moved["object"]["scsi0"]["size"] == "96M"
    done(lab, {**guest, "unset": ["scsi1"]})
    volume = api.nodes("pve1").qemu(110).config.get()["unused0"]
    assert volume in refused(lab, {**guest, "unset": ["unused0"]})
    done(lab, {**guest, "disks": [{"slot": "sata2", "volume": volume}]})
    done(lab, {**guest, "unset": ["sata2"]})
    done(lab, {**guest, "unset": ["unused0"], "allow_data_loss": True})
    assert orphans(api) == set()


TEMPLATE = {
    "vmid": 900,
    "name": "tmpl",
    "memory": 64,
    "disks": [{"slot": "scsi0", "storage": "local", "size": "32M", "format": "qcow2"}],
    "nics": [{"slot": "net0", "bridge": "vmbr0"}],
    "cloud_init": {"storage": "local"},
}
LINKED = {
    "name": "linked",
    "clone": {"source": "tmpl"},
    "cores": 2,
    "disks": [{"slot": "scsi0", "size": "48M"}, {"slot": "scsi1", "storage": "fast", "size": "4M"}],
    "nics": [{"slot": "net0", "tag": 30}],
    "cloud_init": {"user": "admin"},
    "description": "mine",
}
FULL = {
    "vmid": 121,
    "name": "full",
    "clone": {"source": "900", "storage": "fast", "format": "raw"},
    "disks": [{"slot": "scsi0", "ssd": True}],
}


def test_a_clone_is_made_sized_and_customised_in_one_task(lab: Lab, api: Any) -> None:
    done(lab, TEMPLATE)
    assert lab.module("template", {"vmid": 900})["changed"]
    linked = done(lab, LINKED)
    assert "base-900-disk-0.qcow2" in linked["object"]["scsi0"]["volume"]
    assert (linked["object"]["memory"], linked["object"]["cloud_init"]["user"]) == (64, "admin")
    full = done(lab, FULL, rounds=2)
    assert full["object"]["scsi0"]["volume"] == "fast:121/vm-121-disk-0.raw"
    small = {"name": "small", "clone": {"source": "tmpl"}, "disks": [{"slot": "scsi0", "size": "1M"}]}
    assert "cannot be shrunk" in refused(lab, small)
    assert orphans(api) == set()


def test_strangers_are_not_touched(lab: Lab) -> None:
    done(lab, {"vmid": 130, "name": "mine"})
    assert "id 130 is taken by another guest, mine" in refused(lab, {"vmid": 130, "name": "yours", "cores": 4})
    assert "id 130 is taken by another guest, mine" in refused(
        lab, {"vmid": 130, "name": "yours", "state": "absent", "allow_data_loss": True}
    )
    done(lab, {"vmid": 130, "name": "yours", "rename": True})


def test_a_protected_guest_stays(lab: Lab) -> None:
    done(lab, {"vmid": 131, "name": "kept", "protection": True})
    assert "is protected" in refused(lab, {"vmid": 131, "state": "absent", "allow_data_loss": True})
    done(lab, {"vmid": 131, "unset": ["protection"]})
    done(lab, {"vmid": 131, "state": "absent"})


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"disks": [{"slot": "scsi0", "storage": "slow", "size": "1G"}]}, "node pve1 has no storage 'slow'"),
        ({"nics": [{"slot": "net0", "bridge": "vmbr9"}]}, "node pve1 has no bridge 'vmbr9'"),
        ({"pool": "nowhere"}, "there is no pool 'nowhere'"),
        ({"node": "pve9"}, "there is no node 'pve9'; the cluster has pve1"),
        ({"clone": {"source": "nobody"}}, "there is no guest nobody to clone"),
        ({"memory": 1}, "memory"),
        ({"name": "bad_name!"}, "does not look like a valid DNS name"),
        ({"disks": [{"slot": "scsi0", "storage": "local", "import_from": "local:import/none.qcow2"}]}, "none.qcow2"),
        ({"cores": "many"}, "cores"),
        ({"status": "flying"}, "value of status must be one of"),
    ],
)
def test_bad_input_gets_one_clear_sentence(lab: Lab, params: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(lab, {"vmid": 140, **params})


@pytest.mark.parametrize(
    "params", [{"clone": {"source": "later"}}, {"pool": "later"}, {"nics": [{"slot": "net0", "bridge": "vmbr7"}]}]
)
def test_check_mode_foresees_what_needs_an_earlier_task(lab: Lab, params: dict[str, Any]) -> None:
    result = lab.module("vm", {"name": "site", "cores": 2, **params}, check=True)
    assert (result["changed"], result["action"], result["diff"]["after"]["cores"]) == (True, "create", 2)
    assert any("A real run fails here unless" in str(w) for w in result["warnings"])


def test_two_runs_at_once_make_two_guests_of_two_names_and_one_of_one(lab: Lab, api: Any) -> None:
    params = [{"name": f"race{i % 2}", "vmid_range": [300, 309], "memory": 32} for i in range(4)]
    results = [finished(p) for p in [lab.begin_module("vm", p) for p in params]]
    names = sorted(g["name"] for g in api.nodes("pve1").qemu.get() if str(g["name"]).startswith("race"))
    if names == ["race0", "race1"]:
        assert [r for r in results if r.get("failed")] == []
    else:
        assert all("several guests are called" in r["msg"] for r in results if r.get("failed"))


def test_a_guest_that_changed_in_between_is_read_again(lab: Lab, api: Any) -> None:
    done(lab, {"vmid": 150, "name": "busy"})
    runs = [lab.begin_module("vm", {"vmid": 150, key: value}) for key, value in
            [("cores", 2), ("memory", 64), ("onboot", True), ("tags", ["a"])]]  # fmt: skip
    results = [finished(r) for r in runs]
    assert [r for r in results if r.get("failed")] == []
    config = api.nodes("pve1").qemu(150).config.get()
    assert (config["cores"], config["memory"], config["onboot"], config["tags"]) == (2, "64", 1, "a")
