# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is made of: its processor's extensions, its kernel, and what it itself runs under. Pure.

Platforms are told by the strings that their firmware puts into DMI; systemd's src/basic/virt.c and the vendors' own
documents name the same ones. The processor's hypervisor flag (CPUID 1, ECX bit 31) decides between a machine and its
virtual double where a vendor uses the same strings for both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DMI_FIELDS = (
    "sys_vendor",
    "product_name",
    "product_version",
    "bios_vendor",
    "bios_version",
    "board_vendor",
    "chassis_asset_tag",
)
MODULES = (
    *("kvm", "kvm_intel", "kvm_amd", "kvm_pvm", "vhost", "vhost_net", "vfio", "vfio_pci"),
    *("tun", "bridge", "8021q", "bonding", "openvswitch", "dm_thin_pool", "zfs", "xen_gntdev"),
)
AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The asset tag of every virtual machine of Azure; a Hyper-V of one's own has others."""


@dataclass(frozen=True)
class Platform:
    """``marks``: each a field of DMI and how it begins, all of which must hold. ``systemd``: its words for the same."""

    name: str
    marks: tuple[tuple[str, str], ...]
    systemd: tuple[str, ...]


PLATFORMS = (
    Platform("ec2-nitro", (("sys_vendor", "Amazon EC2"),), ("amazon", "kvm")),
    Platform("ec2-xen", (("sys_vendor", "Xen"), ("bios_version", "*amazon")), ("xen", "amazon")),
    Platform("gcp", (("product_name", "Google Compute Engine"),), ("google", "kvm")),
    Platform("azure", (("chassis_asset_tag", AZURE_TAG),), ("microsoft",)),
    Platform("hyperv", (("sys_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine")), ("microsoft",)),
    Platform("vmware", (("sys_vendor", "VMware"),), ("vmware",)),
    Platform("vmware", (("product_name", "VMware"),), ("vmware",)),
    Platform("virtualbox", (("product_name", "VirtualBox"),), ("oracle",)),
    Platform("virtualbox", (("sys_vendor", "innotek GmbH"),), ("oracle",)),
    Platform("parallels", (("sys_vendor", "Parallels"),), ("parallels",)),
    Platform("apple", (("product_name", "Apple Virtualization"),), ("apple",)),
    Platform("bhyve", (("sys_vendor", "BHYVE"),), ("bhyve",)),
    Platform("bhyve", (("bios_vendor", "BHYVE"),), ("bhyve",)),
    Platform("xen", (("sys_vendor", "Xen"),), ("xen",)),
    Platform("kvm", (("product_name", "KVM"),), ("kvm", "qemu")),
    Platform("kvm", (("product_name", "OpenStack"),), ("kvm", "qemu")),
    Platform("kvm", (("product_name", "KubeVirt"),), ("kvm", "qemu")),
    Platform("qemu", (("sys_vendor", "QEMU"),), ("qemu", "kvm")),
)
_WORDS = {p.name: p.systemd for p in PLATFORMS} | {
    "bare-metal": ("none",),
    "xen-dom0": ("none", "xen"),
    "vmware-esxi": ("vmware",),
    "vmware-workstation": ("vmware",),
    "unknown": ("vm-other",),
}


def processor(cpuinfo: str) -> dict[str, Any]:
    """/proc/cpuinfo → vendor, model, sockets, cores, threads, ``extensions`` (VT-x, AMD-V), ``paging`` (EPT, NPT) and
    whether it tells of a hypervisor above.

    Kernels since 5.9 list EPT in a line of its own, "vmx flags".
    """
    blocks = [_fields(block) for block in cpuinfo.strip().split("\n\n") if "processor" in block]
    first = blocks[0] if blocks else {}
    flags = {*first.get("flags", "").split(), *first.get("vmx flags", "").split()}
    cores = {(b.get("physical id", "0"), b.get("core id", str(n))) for n, b in enumerate(blocks)}
    return {
        "vendor": first.get("vendor_id", ""),
        "model": first.get("model name", ""),
        "sockets": len({socket for socket, _none in cores}),
        "cores": len(cores),
        "threads": len(blocks),
        "virtualisation": "VT-x" if "vmx" in flags else "AMD-V" if "svm" in flags else "",
        "nested_paging": "EPT" if "ept" in flags else "NPT" if "npt" in flags else "",
        "hypervisor_flag": "hypervisor" in flags,
    }


def meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo → its entries by name, those in kB as bytes."""
    found = re.findall(r"^([^:\s]+):\s+(\d+)( kB)?$", text, re.MULTILINE)
    return {name: int(number) * (1024 if unit else 1) for name, number, unit in found}


def iommu(devices: Sequence[str], groups: Sequence[str], cmdline: str) -> dict[str, Any]:
    """Names in /sys/class/iommu and /sys/kernel/iommu_groups and the kernel's arguments → enabled, units, groups."""
    wanted = [word for word in cmdline.split() if re.match(r"(intel_|amd_)?iommu[.=]", word)]
    return {"enabled": bool(devices), "units": list(devices), "groups": len(groups), "arguments": wanted}


def nested(parameters: Mapping[str, str | None]) -> dict[str, bool]:
    """Module → text of its parameter "nested" (None: not loaded) → module → whether guests may virtualise in turn."""
    return {module: text.strip() in ("Y", "1") for module, text in parameters.items() if text is not None}


@dataclass(frozen=True)
class Signs:
    """Everything that tells what a host runs under; texts as they are read, None or "" where there is nothing."""

    dmi: Mapping[str, str]
    flag: bool
    clocks: str = ""
    sys_hypervisor: str | None = None
    xen_features: str | None = None
    vmware_product: str | None = None
    systemd: str | None = None


def platform(signs: Signs) -> dict[str, Any]:
    """What the host runs under: ``name``, ``virtual``, the vendor's words, and whether systemd says the same.

    ``systemd_agrees`` is None where there is no systemd-detect-virt to ask.
    """
    name = _name(signs)
    return {
        "name": name,
        "virtual": name not in ("bare-metal", "xen-dom0"),
        "vendor": signs.dmi.get("sys_vendor", ""),
        "product": signs.dmi.get("product_name", ""),
        "hypervisor_flag": signs.flag,
        "systemd": signs.systemd or "",
        "systemd_agrees": signs.systemd in _WORDS[name] if signs.systemd else None,
    }


def _name(signs: Signs) -> str:
    if (signs.sys_hypervisor or "").strip() == "xen":
        if _is_dom0(signs.xen_features):
            return "xen-dom0"
        return _by_dmi(signs.dmi, only=("ec2-xen",)) or "xen"
    found = _by_dmi(signs.dmi)
    if found == "vmware":
        return _vmware(signs.vmware_product)
    if _is_metal(found, signs):
        return "bare-metal"
    return _by_clock(found, signs.clocks) or ("unknown" if signs.flag else "bare-metal")


def _is_metal(found: str, signs: Signs) -> bool:
    """Clouds give the machines that they let whole the same vendor as their virtual ones."""
    metal = re.search(r"\.metal(-|$)", signs.dmi.get("product_name", ""))
    return bool(found == "ec2-nitro" and metal) or (found == "gcp" and not signs.flag)


def _by_clock(found: str, clocks: str) -> str:
    """A clock that the hypervisor offers tells KVM from an emulated QEMU, and either where DMI is silent."""
    if found in ("", "qemu") and "kvm-clock" in clocks.split():
        return "kvm"
    return "hyperv" if not found and "hyperv" in clocks else found


def _by_dmi(dmi: Mapping[str, str], only: Sequence[str] = ()) -> str:
    for entry in PLATFORMS:
        if (not only or entry.name in only) and all(_marked(dmi.get(f, ""), mark) for f, mark in entry.marks):
            return entry.name
    return ""


def _marked(text: str, mark: str) -> bool:
    return mark[1:] in text if mark.startswith("*") else text.startswith(mark)


def _is_dom0(features: str | None) -> bool:
    """Bit 11 of Xen's features is XENFEAT_dom0 (xen/include/public/features.h); hexadecimal without 0x."""
    return bool(re.fullmatch(r"[0-9a-fA-F]+", (features or "").strip()) and int(features or "0", 16) & 1 << 11)


def _vmware(product: str | None) -> str:
    """DMI is the same on all of VMware's products; `vmware-checkvm -p` asks the hypervisor itself."""
    words = (product or "").lower()
    if "esx" in words:
        return "vmware-esxi"
    return "vmware-workstation" if "workstation" in words else "vmware"


def kind(under: Mapping[str, Any], *, kvm_usable: bool, qemu: bool, desktop: bool) -> dict[str, Any]:
    """Whether guests run straight on the kernel that owns the machine (type1) or in programs of a workstation (hosted).

    KVM makes the kernel the hypervisor; without it QEMU is an emulator, a program like any other. ``type`` is "none"
    where there is nothing to run guests with.
    """
    reasons = []
    if under["name"] == "xen-dom0":
        return {"type": "type1", "nested": False, "reasons": ["this is the control domain of a Xen hypervisor"]}
    reasons.append("KVM runs guests in the kernel" if kvm_usable else "KVM cannot be used, so guests are emulated")
    if desktop:
        reasons.append("a display manager runs: the machine is somebody's workstation")
    if under["virtual"]:
        reasons.append(f"the host is a virtual machine itself ({under['name']})")
    found = "none" if not (qemu or kvm_usable) else "type1" if kvm_usable and not desktop else "hosted"
    return {"type": found, "nested": bool(under["virtual"]), "reasons": reasons}


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _none, value in pairs}
