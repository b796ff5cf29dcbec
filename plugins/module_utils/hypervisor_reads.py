# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a host to know its layers; what is there for some hosts only is asked for where it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .core import hypervisor, hypervisor_guests
from .core.hypervisor_probe import LIMIT_S, PROBE, WORKS
from .core.steps import Failure

SERVICES = ("pve*", "corosync*", "qmeventd*", "spiceproxy*", "watchdog-mux*", "ksmtuned*", "libvirt*", "virt*d*")
OWN_SERVICES = ("labnode*", "openvswitch*", "ovs-vswitchd*", "display-manager*")
QEMUS = ("qemu-system-x86_64", "qemu-system-aarch64", "kvm")
DMI = "/sys/class/dmi/id"


def hardware(host: Any) -> dict[str, Any]:
    """Processor, memory, IOMMU and whether guests may virtualise in turn."""
    cmdline = host.read("/proc/cmdline") or ""
    memory = hypervisor.meminfo(host.read("/proc/meminfo") or "")
    parameters = {m: host.read(f"/sys/module/{m}/parameters/nested") for m in ("kvm_intel", "kvm_amd")}
    return {
        "cpu": hypervisor.processor(host.read("/proc/cpuinfo") or ""),
        "memory_bytes": memory.get("MemTotal", 0),
        "available_bytes": memory.get("MemAvailable", 0),
        "swap_bytes": memory.get("SwapTotal", 0),
        "hugepages": {"total": memory.get("HugePages_Total", 0), "free": memory.get("HugePages_Free", 0)},
        "numa_nodes": len([n for n in host.names("/sys/devices/system/node") if re.fullmatch(r"node\d+", n)]) or 1,
        "iommu": hypervisor.iommu(host.names("/sys/class/iommu"), host.names("/sys/kernel/iommu_groups"), cmdline),
        "nested": hypervisor.nested(parameters),
    }


def platform(host: Any, flag: bool) -> dict[str, Any]:
    """What the host itself runs under, and the container that this was asked in, if any."""
    dmi = {f: (glance(host, f"{DMI}/{f}") or "").strip() for f in hypervisor.DMI_FIELDS}
    detect = host.which("systemd-detect-virt")
    checkvm = host.which("vmware-checkvm") if any("VMware" in text for text in dmi.values()) else None
    signs = hypervisor.Signs(
        dmi,
        flag,
        clocks=host.read("/sys/devices/system/clocksource/clocksource0/available_clocksource") or "",
        sys_hypervisor=host.read("/sys/hypervisor/type"),
        xen_features=host.read("/sys/hypervisor/properties/features"),
        vmware_product=host.query(["vmware-checkvm", "-p"], ok_rcs=(0, 1)) if checkvm else None,
        systemd=host.query(["systemd-detect-virt", "--vm"], ok_rcs=(0, 1)).strip() if detect else None,
    )
    container = host.query(["systemd-detect-virt", "--container"], ok_rcs=(0, 1)).strip() if detect else "none"
    return {**hypervisor.platform(signs), "container": "" if container == "none" else container}


def kernel(host: Any) -> dict[str, Any]:
    """Release, arguments and those modules that have to do with guests (built into the kernel or loaded)."""
    there = set(host.names("/sys/module"))
    return {
        "release": (host.read("/proc/sys/kernel/osrelease") or "").strip(),
        "arguments": (host.read("/proc/cmdline") or "").split(),
        "modules": [m for m in hypervisor.MODULES if m in there],
    }


def engine(host: Any, probe: bool) -> dict[str, Any]:
    """Whether KVM works, and the versions of QEMU that are installed."""
    versions = {}
    for name in QEMUS:
        if host.which(name):
            found = re.search(r"version (\S+)", host.query([name, "--version"], timeout_s=30))
            versions[name] = found[1] if found else ""
    return {"kvm": kvm(host, probe), "qemu": versions}


def kvm(host: Any, probe: bool) -> dict[str, Any]:
    """``usable`` is None where there is a device that was not tried."""
    if "kvm" not in host.names("/sys/class/misc"):
        return {"device": False, "usable": False, "why": "the kernel offers no KVM: no module of it is loaded"}
    qemu, python = host.which("qemu-system-x86_64"), host.which("python3")
    if not (probe and qemu and python):
        return {
            "device": True,
            "usable": None,
            "why": "there is no QEMU to try it with" if probe else "it was not tried",
        }
    said = host.query([python, "-c", PROBE, qemu, str(LIMIT_S)], timeout_s=LIMIT_S + 10).strip()
    works = said == WORKS
    return {"device": True, "usable": works, "why": "" if works else f"a guest was tried with it: {said}"}


def guests(host: Any) -> list[dict[str, Any]]:
    """QEMU's processes by pid: what they were started with, threads and memory. One that ends meanwhile is left out."""
    found = []
    for pid in sorted(int(n) for n in host.names("/proc") if n.isdigit()):
        argv = (glance(host, f"/proc/{pid}/cmdline") or "").split("\0")
        text = glance(host, f"/proc/{pid}/status") if hypervisor_guests.is_qemu(argv) else None
        if text is not None:
            found.append({"pid": pid, **hypervisor_guests.command_line(argv), **_process(host, pid, text)})
    return found


def _process(host: Any, pid: int, text: str) -> dict[str, Any]:
    """Memory in bytes, KSM's pages and the threads of the vCPUs; their names tell the accelerator for certain."""
    entries = hypervisor_guests.status(text)
    names = {int(t): glance(host, f"/proc/{pid}/task/{t}/comm") or "" for t in tasks(host, pid)}
    threads = hypervisor_guests.vcpu_threads(names)
    certain = {"accelerator": threads[0]["accelerator"], "vcpus": len(threads)} if threads else {}
    return {
        **certain,
        "vcpu_threads": [{"vcpu": t["vcpu"], "tid": t["tid"]} for t in threads],
        "rss_bytes": hypervisor_guests.kilobytes(entries, "VmRSS"),
        "swap_bytes": hypervisor_guests.kilobytes(entries, "VmSwap"),
        "hugetlb_bytes": hypervisor_guests.kilobytes(entries, "HugetlbPages"),
        "ksm_pages": int(glance(host, f"/proc/{pid}/ksm_merging_pages") or 0),
    }


def ksm(host: Any) -> dict[str, int]:
    """Whether merging runs, its pages, and what it saves: each page in "sharing" would be one of its own."""
    base = "/sys/kernel/mm/ksm"
    run, shared, sharing = (int(host.read(f"{base}/{n}") or 0) for n in ("run", "pages_shared", "pages_sharing"))
    size = int(host.query(["getconf", "PAGESIZE"]))
    return {"run": run, "pages_shared": shared, "pages_sharing": sharing, "saved_bytes": sharing * size}


def configs(host: Any, directory: str) -> dict[int, dict[str, str]]:
    """vmid → the configuration of that guest; none where there is no such directory."""
    names = (re.fullmatch(r"(\d+)\.conf", name) for name in host.names(directory))
    texts = {int(m[1]): host.read(f"{directory}/{m[0]}") for m in names if m}
    return {vmid: hypervisor_guests.config(text) for vmid, text in sorted(texts.items()) if text is not None}


def control_plane(host: Any) -> dict[str, Any]:
    """Services that manage guests, and Proxmox VE's version where it is installed."""
    version = host.query(["pveversion"]) if host.which("pveversion") else ""
    found = re.search(r"pve-manager/([^/\s]+)", version)
    return {"proxmox_ve": found[1] if found else "", "services": _services(host)}


def _services(host: Any) -> list[dict[str, Any]]:
    if not host.which("systemctl"):
        return []
    patterns = [f"{p}.service" for p in (*SERVICES, *OWN_SERVICES)]
    listed = host.query(
        ["systemctl", "list-units", "--type=service", "--all", "--output=json", *patterns], ok_rcs=(0, 1)
    )
    units = json.loads(listed) if listed.strip().startswith("[") else []
    return [
        {"name": u["unit"].removesuffix(".service"), "active": u["active"] == "active", "state": u["sub"]}
        for u in sorted(units, key=lambda u: str(u["unit"]))
        if u["load"] == "loaded"
    ]


def data_plane(host: Any, storage_config: str) -> dict[str, Any]:
    """Bridges with their ports, guests' taps among them, and the storages of the configuration."""
    links = json.loads(host.query(["ip", "-j", "-d", "link", "show"]) or "[]") if host.which("ip") else []
    text = host.read(storage_config) or ""
    storages = [{"type": m[0], "storage": m[1]} for m in re.findall(r"^(\w+):\s*(\S+)\s*$", text, re.MULTILINE)]
    return {"bridges": [_bridge(b, links) for b in links if _kind(b) == "bridge"] + _ovs(host), "storages": storages}


def _bridge(link: Mapping[str, Any], links: list[dict[str, Any]]) -> dict[str, Any]:
    data = link.get("linkinfo", {}).get("info_data", {})
    return {
        "name": link["ifname"],
        "type": "linux",
        "up": "UP" in link.get("flags", []),
        "vlan_aware": data.get("vlan_filtering") == 1,
        "ports": sorted(p["ifname"] for p in links if p.get("master") == link["ifname"]),
    }


def _kind(link: Mapping[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _ovs(host: Any) -> list[dict[str, Any]]:
    """Open vSwitch's bridges; a bridge's port of the same name is the bridge itself. None, and a warning, where it is
    installed and does not run: then its bridges carry nothing either."""
    if not host.which("ovs-vsctl"):
        return []
    base = ["ovs-vsctl", "--timeout=5"]
    try:
        names = host.query([*base, "list-br"]).split()
    except Failure as failure:
        host.warnings.append(f"Bridges of Open vSwitch are not listed: {failure.msg}")
        return []
    found = []
    for name in names:
        ports = host.query([*base, "list-ports", name]).split()
        found.append({"name": name, "type": "ovs", "up": True, "vlan_aware": True, "ports": sorted(ports)})
    return found


def tasks(host: Any, pid: int) -> list[str]:
    """The threads of a process; none when it has ended."""
    try:
        return [n for n in host.names(f"/proc/{pid}/task") if n.isdigit()]
    except Failure:
        return []


def glance(host: Any, path: str) -> str | None:
    """A file that may go away while it is read, or that only some may read: None then, and a warning if it is there."""
    try:
        text: str | None = host.read(path)
    except Failure as failure:
        if "No such process" not in failure.msg:
            host.warnings.append(failure.msg)
        return None
    return text
