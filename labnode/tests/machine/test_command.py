# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of hardware makes a command line that the installed QEMU takes; what the node has not is named."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import pytest
from machine_lab import MAC

from labnode.errors import ApiError
from labnode.guests.drive import parse_drive
from labnode.machine import drives
from labnode.machine.command import machine_type
from labnode.machine.cpu import cpu_argument, emulated
from labnode.machine.model import Qemu
from labnode.machine.pci import place

SMALL = {"memory": "64", "kvm": "0"}
SMBIOS = f"base64=1,manufacturer={base64.b64encode(b'Lab, Inc.').decode()},uuid=6758fad6-abe8-482d-b22f-394e4b27c052"
HARDWARE: dict[str, dict[str, str]] = {
    "q35": {
        "machine": "q35",
        "usb0": "spice",
        "net0": f"virtio={MAC}1,bridge=vmbr0",
        "ide0": "DISK",
        "ide1": "none,media=cdrom",
    },
    "i440fx-all-buses": {
        "ide0": "DISK",
        "ide1": "none,media=cdrom",
        "sata3": "none,media=cdrom",
        "scsi5": "none,media=cdrom",
    },
    "lsi": {"scsi0": "DISK", "scsi7": "none,media=cdrom"},
    "lsi53c810": {"scsihw": "lsi53c810", "scsi0": "DISK"},
    "megasas": {"scsihw": "megasas", "scsi1": "DISK"},
    "pvscsi": {"scsihw": "pvscsi", "scsi1": "DISK"},
    "virtio-scsi-pci": {
        "scsihw": "virtio-scsi-pci",
        "scsi30": "DISK,ssd=1,discard=on,serial=a%2Cb,wwn=0x5000c50015ea71aa",
    },
    "virtio-scsi-single": {"scsihw": "virtio-scsi-single", "scsi0": "DISK,iothread=1", "scsi30": "none,media=cdrom"},
    "virtio": {"virtio0": "DISK,iothread=1,cache=writeback,aio=io_uring", "virtio15": "DISK2,ro=1,backup=0"},
    "caches": {
        "ide0": "DISK,cache=unsafe,werror=stop,rerror=report,model=M",
        "sata0": "DISK2,cache=directsync,aio=native,ssd=1",
    },
    "throttled": {"sata0": "DISK,mbps=10,mbps_max=20,bps_max_length=5,iops_rd=50,iops_wr=60"},
    "nics": {
        f"net{n}": f"{m}={MAC}{n},bridge=vmbr0"
        for n, m in enumerate(["virtio", "e1000", "e1000e", "rtl8139", "vmxnet3", "pcnet"])
    },
    "nics-more": {
        "net6": f"ne2k_pci={MAC}6,bridge=vmbr0",
        "net31": f"i82551={MAC}7",
        "net7": f"virtio={MAC}8,bridge=vmbr1,mtu=1400,link_down=1",
    },
    "cpus": {"sockets": "2", "cores": "2", "vcpus": "3", "cpu": "x86-64-v3", "numa": "1"},
    "numa": {"cores": "2", "numa": "1", "numa0": "cpus=0,memory=32", "numa1": "cpus=1,memory=32"},
    "vga-virtio": {"vga": "virtio,memory=64"},
    "vga-cirrus": {"vga": "cirrus"},
    "vga-vmware": {"vga": "vmware"},
    "vga-none": {"vga": "none"},
    "vga-serial": {"vga": "serial0", "serial0": "socket", "serial3": "socket"},
    "vga-std": {"vga": "std,memory=32", "keyboard": "de", "tablet": "0"},
    "audio": {"audio0": "device=ich9-intel-hda"},
    "ac97": {"audio0": "device=AC97,driver=none"},
    "hda": {"audio0": "device=intel-hda"},
    "small-things": {
        "rng0": "source=/dev/urandom,max_bytes=0",
        "watchdog": "model=i6300esb,action=reset",
        "agent": "1,type=virtio",
        "smbios1": SMBIOS,
        "vmgenid": "f617e21e-bfdb-4596-bcab-1fe8ef40482d",
        "localtime": "1",
        "acpi": "0",
        "balloon": "32",
        "freeze": "1",
        "reboot": "0",
        "args": "-global 'isa-fdc.fallback=none'",
        "boot": "order=net0;ide2",
        "ide2": "none,media=cdrom",
        "net0": f"virtio={MAC}1,bridge=vmbr0",
    },
    "older": {
        "watchdog": "ib700",
        "agent": "enabled=1,type=isa",
        "balloon": "0",
        "startdate": "2020-01-01T00:00:00",
        "boot": "cdn",
        "ide0": "DISK",
    },
}


@pytest.mark.parametrize("name", HARDWARE)
async def test_qemu_takes_it(lab, name):
    config = {**SMALL, **HARDWARE[name]}
    for key, value in config.items():
        if value.startswith("DISK"):
            volid = await lab.disk(100)
            config[key] = volid + value.removeprefix("DISK2" if value.startswith("DISK2") else "DISK")
    await lab.start(100, config)
    wanted = "prelaunch" if config.get("freeze") == "1" else "running"
    assert await lab.machines.status(100) == wanted
    tree = await lab.machines.qmp(100, "qom-list", path="/machine/peripheral")
    names = {item["name"] for item in tree}
    assert {k for k in config if re.fullmatch(r"(net|ide|sata|scsi|virtio)\d+", k)} <= names


async def test_uefi_with_variables_of_its_own(lab):
    if not Path("/usr/share/OVMF/OVMF_VARS_4M.fd").exists():
        pytest.skip("the UEFI firmware is not installed")
    volid = await lab.storage.clone_full("/usr/share/OVMF/OVMF_VARS_4M.fd", "local", 100, "qcow2")
    config = {**SMALL, "memory": "256", "bios": "ovmf", "machine": "q35", "efidisk0": f"{volid},efitype=4m,size=528K"}
    await lab.start(100, config)
    assert await lab.machines.status(100) == "running"
    await lab.machines.stop(100)
    await lab.start(100, {**SMALL, "memory": "256", "bios": "ovmf"})
    assert any("Using temporary efivars disk" in line for line in lab.warnings)


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "bridge": ({"net0": f"virtio={MAC}1,bridge=vmbr99"}, "bridge 'vmbr99' does not exist"),
    "volume": ({"scsi0": "local:100/vm-100-disk-0.raw"}, "volume 'local:100/vm-100-disk-0.raw' does not exist"),
    "storage": ({"scsi0": "gone:100/vm-100-disk-0.raw"}, "storage 'gone' does not exist"),
    "machine": ({"machine": "pc-i440fx-99.0"}, "too old to run machine type 'pc-i440fx-99.0'"),
    "pci": ({"hostpci0": "ff:1f.7"}, "no PCI device found for '0000:ff:1f.7' on this node"),
    "usb": ({"usb0": "host=dead:beef"}, "no USB device 'dead:beef' on this node"),
    "usb-map": ({"usb0": "mapping=stick"}, "USB mapping 'stick' is not defined on this node"),
    "virtiofs": ({"virtiofs0": "dirid=share"}, "directory mapping 'share' is not defined on this node"),
    "hugepages": ({"hugepages": "2"}, "hugepages: this node has no memory set aside"),
    "serial": ({"serial0": "/dev/nosuch"}, "serial0: no such device '/dev/nosuch'"),
    "cpu": ({"cpu": "custom-mine"}, "CPU type 'custom-mine' is not defined on this node"),
    "numa": ({"numa": "1", "numa0": "cpus=0,memory=16"}, "make numaN add up to memory"),
    "args": ({"args": "-nosuchoption"}, "start failed: .*nosuchoption"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_missing_is_named_and_nothing_runs(lab, name):
    config, text = REFUSED[name]
    with pytest.raises(ApiError, match=text):
        await lab.start(100, {**SMALL, "net5": f"virtio={MAC}9,bridge=vmbr1", **config})
    assert not lab.machines.alive(100)
    assert lab.switch._ports("vmbr1") == {}


async def test_a_tpm_without_its_program_is_named(lab, monkeypatch):
    if shutil.which("swtpm"):
        monkeypatch.setattr("labnode.machine.tpm.tool", lambda _name: None)
    volid = await lab.disk(100, "raw")
    with pytest.raises(ApiError, match="apt install swtpm"):
        await lab.start(100, {**SMALL, "tpmstate0": f"{volid},version=v2.0"})


async def test_showing_the_command_starts_nothing(lab):
    line = lab.machines.command_line(100, {**SMALL, "net0": f"virtio={MAC}1,bridge=vmbr0"})
    assert line[0].endswith("qemu-system-x86_64")
    assert not lab.machines.running() and not lab.switch.running()


def qemu(*version: int, kvm: bool = False) -> Qemu:
    return Qemu("qemu", (*version, 0), frozenset({"Skylake-Client", "qemu64", "kvm64"}), kvm)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "pc-i440fx-10.0"),
        ("pc", "pc-i440fx-10.0"),
        ("q35", "pc-q35-10.0"),
        ("pc-q35-9.2+pve1", "pc-q35-9.2"),
        ("type=q35,viommu=intel", "pc-q35-10.0"),
        ("pc-i440fx-10.0+pve1", "pc-i440fx-10.0"),
    ],
)
def test_machine_types(asked, found):
    assert machine_type(asked, qemu(10, 0)) == found


@pytest.mark.parametrize(
    ("config", "kvm", "found", "warned"),
    [
        ({}, False, "qemu64", ""),
        ({}, True, "kvm64,+kvm_pv_eoi,+kvm_pv_unhalt", ""),
        ({"cpu": "host"}, False, "max", "'host' needs KVM"),
        ({"cpu": "Skylake-Client"}, False, "Skylake-Client", ""),
        ({"cpu": "Nonesuch"}, False, "max", "'Nonesuch' is unknown"),
        ({"cpu": "qemu64,flags=+aes;-pcid"}, False, "qemu64,+aes,-pcid", ""),
        ({"cpu": "x86-64-v4"}, False, None, "AVX-512"),
    ],
)
def test_cpu_types(config, kvm, found, warned):
    said: list[str] = []
    argument = cpu_argument(config, kvm=kvm, models=qemu(7, 2).models, warn=said.append)
    assert found in (None, argument)
    assert warned in "".join(said) and bool(warned) == bool(said)


def test_an_older_emulator_has_no_cmpxchg16b():
    assert emulated("qemu64,+aes", (7, 2, 22)) == "qemu64,+aes,-cx16"
    assert emulated("qemu64,+cx16", (7, 2, 22)) == "qemu64,+cx16", "asked for"
    assert emulated("qemu64", (8, 0, 0)) == "qemu64"


def test_places_are_all_different():
    devices = [f"net{n}" for n in range(32)] + [f"virtio{n}" for n in range(16)] + [f"virtioscsi{n}" for n in range(31)]
    devices += [
        "vga",
        "balloon0",
        "watchdog0",
        "scsihw0",
        "scsihw1",
        *(f"scsihw{n}" for n in range(2, 5)),
        "ahci0",
        "qga0",
        "xhci",
        "rng0",
    ]
    devices += ["audio0", "vga1", "vga2", "vga3", *(f"hostpci{n}" for n in range(4))]
    places = [place(device) for device in devices]
    assert len(set(places)) == len(devices)
    assert all(int(text.rpartition("=")[2], 16) < 32 for text in places)


@pytest.mark.parametrize(
    ("boot", "found"),
    [
        ({"boot": "order=net0;scsi0"}, ["net0", "scsi0"]),
        ({}, ["scsi0", "ide2", "net0"]),
        ({"boot": "dc"}, ["ide2", "scsi0"]),
        ({"boot": "c", "bootdisk": "scsi1"}, ["scsi1"]),
    ],
)
def test_boot_order(boot, found):
    order = drives.boot_order(boot, ["ide2", "scsi0", "scsi1", "net0"], {"ide2"})
    assert sorted(order, key=order.__getitem__) == found


def test_throttles_in_bytes():
    drive = parse_drive("scsi0", "local:100/vm-100-disk-0.raw,mbps=1.5,iops_rd=10")
    assert drives.throttle(drive) == {"bps": 1572864, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 10, "iops_wr": 0}
