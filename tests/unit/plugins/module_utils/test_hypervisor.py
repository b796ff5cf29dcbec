# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host runs under, from the strings of real firmware; command lines of QEMU; the probe of KVM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils import hypervisor_reads
from ansible_collections.pvelab.proxmox.plugins.module_utils.core import hypervisor, isolation
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.hypervisor import Signs, kind, platform, processor
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.hypervisor_guests import (
    command_line,
    config,
    config_floor,
    config_memory,
    is_qemu,
    numbers,
    ranges,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.hypervisor_probe import PROBE
from ansible_collections.pvelab.proxmox.tests.unit.fake_host import FakeHost


def firmware(vendor: str, product: str, **more: str) -> dict[str, str]:
    return {"sys_vendor": vendor, "product_name": product, **more}


AZURE = firmware("Microsoft Corporation", "Virtual Machine", chassis_asset_tag=hypervisor.AZURE_TAG)
HOSTS: list[tuple[str, Signs]] = [
    ("bare-metal", Signs(firmware("Supermicro", "SYS-5028D-TN4T", bios_vendor="American Megatrends Inc."), flag=False)),
    ("bare-metal", Signs(firmware("Microsoft Corporation", "Surface Laptop 4"), flag=False, systemd="none")),
    ("bare-metal", Signs(firmware("Amazon EC2", "m5.metal"), flag=False, systemd="none")),
    ("bare-metal", Signs(firmware("Amazon EC2", "c7g.metal-48xl"), flag=False, systemd="none")),
    ("bare-metal", Signs(firmware("Google", "Google Compute Engine"), flag=False)),
    ("bare-metal", Signs({}, flag=False, clocks="tsc hpet acpi_pm")),
    ("ec2-nitro", Signs(firmware("Amazon EC2", "m5.large"), flag=True, clocks="kvm-clock tsc", systemd="amazon")),
    ("ec2-xen", Signs(firmware("Xen", "HVM domU", bios_version="4.11.amazon"), True, sys_hypervisor="xen\n")),
    ("gcp", Signs(firmware("Google", "Google Compute Engine"), flag=True, clocks="kvm-clock", systemd="google")),
    ("azure", Signs(AZURE, flag=True, clocks="hyperv_clocksource_tsc_page", systemd="microsoft")),
    ("hyperv", Signs({**AZURE, "chassis_asset_tag": "1234-5678"}, flag=True, systemd="microsoft")),
    ("hyperv", Signs({}, flag=True, clocks="hyperv_clocksource_tsc_page acpi_pm", systemd="microsoft")),
    ("vmware", Signs(firmware("VMware, Inc.", "VMware Virtual Platform"), flag=True, systemd="vmware")),
    ("vmware-esxi", Signs(firmware("VMware, Inc.", "VMware7,1"), True, vmware_product="ESX Server\n")),
    ("vmware-workstation", Signs(firmware("VMware, Inc.", "VMware20,1"), True, vmware_product="Workstation\n")),
    ("virtualbox", Signs(firmware("innotek GmbH", "VirtualBox"), flag=True, clocks="kvm-clock", systemd="oracle")),
    ("parallels", Signs(firmware("Parallels Software International Inc.", "Parallels Virtual Platform"), True)),
    ("parallels", Signs(firmware("Parallels International GmbH.", "Parallels ARM Virtual Machine"), True)),
    ("apple", Signs(firmware("Apple Inc.", "Apple Virtualization Generic Platform"), flag=False, systemd="apple")),
    ("bhyve", Signs(firmware("FreeBSD", "BHYVE", bios_vendor="BHYVE"), flag=True, systemd="bhyve")),
    ("xen", Signs(firmware("Xen", "HVM domU", bios_version="4.17"), True, sys_hypervisor="xen", xen_features="2705")),
    ("xen", Signs({}, flag=True, sys_hypervisor="xen", systemd="xen")),
    ("xen-dom0", Signs(firmware("Dell Inc.", "PowerEdge R740"), True, sys_hypervisor="xen", xen_features="00002f05")),
    ("kvm", Signs(firmware("QEMU", "Standard PC (Q35 + ICH9, 2009)"), True, clocks="kvm-clock tsc", systemd="kvm")),
    ("qemu", Signs(firmware("QEMU", "Standard PC (i440FX + PIIX, 1996)"), True, clocks="tsc hpet", systemd="qemu")),
    ("kvm", Signs(firmware("Red Hat", "KVM"), flag=True, systemd="kvm")),
    ("kvm", Signs(firmware("OpenStack Foundation", "OpenStack Nova"), flag=True, systemd="kvm")),
    ("kvm", Signs({}, flag=True, clocks="tsc kvm-clock \n", systemd="kvm")),
    ("unknown", Signs(firmware("Nobody", "Nothing"), flag=True, systemd="vm-other")),
]


@pytest.mark.parametrize(("name", "signs"), HOSTS, ids=[f"{n} {s.dmi.get('product_name', '')}" for n, s in HOSTS])
def test_platform(name: str, signs: Signs) -> None:
    found = platform(signs)
    assert found["name"] == name
    assert found["virtual"] is (name not in ("bare-metal", "xen-dom0"))
    assert found["systemd_agrees"] is (True if signs.systemd else None)


def test_every_platform_is_shown() -> None:
    assert {p.name for p in hypervisor.PLATFORMS} <= {name for name, _none in HOSTS}


def test_systemd_disagrees() -> None:
    assert platform(Signs({}, flag=False, systemd="kvm"))["systemd_agrees"] is False


def test_amd_and_no_extensions() -> None:
    amd = processor("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: svm npt hypervisor\n")
    assert (amd["virtualisation"], amd["nested_paging"], amd["hypervisor_flag"]) == ("AMD-V", "NPT", True)
    arm = processor("processor\t: 0\nFeatures\t: fp asimd\n\nprocessor\t: 1\n")
    assert (arm["virtualisation"], arm["nested_paging"], arm["threads"], arm["cores"]) == ("", "", 2, 2)


@pytest.mark.parametrize(
    ("name", "kvm", "qemu", "desktop", "wanted"),
    [
        ("bare-metal", True, True, False, "type1"),
        ("kvm", True, True, False, "type1"),
        ("bare-metal", True, True, True, "hosted"),
        ("bare-metal", False, True, False, "hosted"),
        ("bare-metal", False, False, False, "none"),
        ("xen-dom0", False, False, False, "type1"),
    ],
)
def test_kind(name: str, kvm: bool, qemu: bool, desktop: bool, wanted: str) -> None:
    found = kind({"name": name, "virtual": name == "kvm"}, kvm_usable=kvm, qemu=qemu, desktop=desktop)
    assert (found["type"], found["nested"]) == (wanted, name == "kvm")


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("kvm -id 9 -name a,debug-threads=on -smp 4,sockets=2 -m 512", {"vmid": 9, "vcpus": 4, "memory_bytes": 2**29}),
        ("kvm -pidfile /var/run/qemu-server/9.pid", {"vmid": 9, "accelerator": "kvm", "memory_bytes": 2**27}),
        ("qemu-system-x86_64 -pidfile /s/run/9/qemu.pid -accel tcg,thread=multi", {"vmid": 9, "accelerator": "tcg"}),
        ("qemu-system-x86_64 -machine q35,accel=kvm:tcg -smp sockets=2,cores=3", {"accelerator": "kvm", "vcpus": 6}),
        ("qemu-system-x86_64 -S -enable-kvm -smp maxcpus=8 -m 2G", {"vcpus": 8, "memory_bytes": 2**31, "vmid": None}),
    ],
)
def test_command_line(argv: str, wanted: dict[str, Any]) -> None:
    found = command_line(argv.split())
    assert {key: found[key] for key in wanted} == wanted


def test_what_is_no_guest() -> None:
    assert [is_qemu([p]) for p in ("qemu-img", "/usr/bin/kvm-ok", "/usr/bin/qemu-system-aarch64", "/usr/bin/kvm")] == [
        False,
        False,
        True,
        True,
    ]
    assert not is_qemu([])


def test_configuration_ends_at_its_first_section() -> None:
    found = config("#memory: 1\nmemory: current=1024\nballoon: 0\n[PENDING]\nballoon: 256\n")
    assert found == {"memory": "current=1024", "balloon": "0"}
    assert config_floor(found) == config_memory(found) == 2**30
    assert config_floor({**found, "balloon": "256"}) == 2**28


@pytest.mark.parametrize(("text", "wanted"), [("0-3,8", "0-3,8"), ("1;0 2", "0-2"), ("", ""), ("5", "5")])
def test_lists_of_processors(text: str, wanted: str) -> None:
    assert ranges(numbers(text)) == wanted


def test_limits_of_a_cgroup() -> None:
    assert [isolation.cpu_limit(t) for t in ("50000 100000\n", "max 100000\n", None)] == [0.5, 0.0, None]
    assert [isolation.memory_limit(t) for t in ("4096\n", "max\n", None)] == [4096, 0, None]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 99", "works"),
        ("echo no KVM >&2; exit 1", "no KVM"),
        ("exit 3", "it ended with 3"),
        ("exec tail -f /dev/null", "it was not done after 0.2 seconds"),
    ],
)
def test_probe(tmp_path: Path, script: str, said: str) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    qemu.chmod(0o755)
    limit = "0.2" if "tail" in script else "20"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(qemu), limit], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == said


class Probed(FakeHost):
    """A host with a KVM device whose probe says ``said``."""

    said = "works"

    def query(self, argv: Any, **limits: Any) -> str:
        assert argv[0].endswith("python3") and argv[3].endswith("qemu-system-x86_64")
        return f"{self.said}\n"


@pytest.mark.parametrize(("said", "usable"), [("works", True), ("it was not done after 3 seconds", False)])
def test_kvm_is_what_the_probe_says(said: str, usable: bool) -> None:
    host = Probed([{"NAMES /sys/class/misc": ["kvm"]}])
    host.said = said
    found = hypervisor_reads.kvm(host, probe=True)
    assert found["usable"] is usable and (usable or said in found["why"])


def test_kvm_without_qemu_is_not_judged() -> None:
    host = FakeHost([{"NAMES /sys/class/misc": ["kvm"], "WHICH qemu-system-x86_64": None}])
    assert hypervisor_reads.kvm(host, probe=True)["usable"] is None
