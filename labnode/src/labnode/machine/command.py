# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU command line of a guest's configuration."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.guests import values
from labnode.guests.drive import Drive, parse_drive
from labnode.guests.drive import drives as config_drives
from labnode.guests.propstring import Format, parse
from labnode.machine import devices, drives, pci
from labnode.machine.cpu import cpu_argument, emulated
from labnode.machine.drives import Medium
from labnode.machine.model import Qemu
from labnode.machine.nics import Nic, device_args, hub_id, parse_nic
from labnode.machine.places import Places
from labnode.storage import StorageService
from labnode.storage.run import tool

Log = Callable[[str], None]
Config = Mapping[str, str]
NETS = 32
# How long the firmware waits before it begins anew where it found nothing to boot. Proxmox VE waits a second; begun
# anew each second without KVM, a guest with an empty disk takes an eighth of a processor for as long as it runs.
BOOT_AGAIN_MS = 1000
BOOT_AGAIN_EMULATED_MS = 3000


@dataclass
class Plan:
    """What a start is made from. `netdevs` are the arguments that lead each NIC to its switch, by key (netN)."""

    vmid: int
    config: Config
    qemu: Qemu
    places: Places
    storage: StorageService
    warn: Log
    netdevs: Mapping[str, list[str]] = field(default_factory=dict)
    direct_nets: frozenset[str] = frozenset()
    machine: str | None = None
    cpu: str | None = None

    @property
    def kvm(self) -> bool:
        """Whether this guest runs under KVM."""
        return self.qemu.kvm and self.config.get("kvm", "1") != "0"

    @property
    def machine_type(self) -> str:
        """The versioned machine type; ApiError when the installed QEMU is older than what is asked for."""
        return machine_type(self.machine or self.config.get("machine", ""), self.qemu)

    def meta(self) -> dict[str, Any]:
        """What to remember of the process."""
        return {"machine": self.machine_type, "qemu": self.qemu.text, "started": int(time.time()), "kvm": self.kvm}

    @property
    def q35(self) -> bool:
        """Whether the machine is a q35."""
        return "q35" in self.machine_type


def machine_type(text: str, qemu: Qemu) -> str:
    """`pc-i440fx-7.2` for nothing, `pc` or `q35`; a version is kept, what Proxmox VE puts behind it (`+pve1`) is
    not."""
    asked = text.partition(",")[0].removeprefix("type=").partition("+")[0]
    latest = f"{qemu.version[0]}.{qemu.version[1]}"
    if asked in ("", "pc", "i440fx"):
        return f"pc-i440fx-{latest}"
    if asked == "q35":
        return f"pc-q35-{latest}"
    match = re.fullmatch(r"pc-(?:i440fx|q35)-(\d+)\.(\d+)(?:\.pxe)?", asked)
    if match and (int(match[1]), int(match[2])) > qemu.version[:2]:
        raise ApiError(
            f"Installed QEMU version '{qemu.text}' is too old to run machine type '{asked}',"
            " please upgrade the node or choose an older type"
        )
    return asked.removesuffix(".pxe")


def build(plan: Plan) -> list[str]:
    """The whole argument list; ApiError where a volume, device or firmware is missing."""
    config, places = plan.config, plan.places
    name = config.get("name") or f"vm{plan.vmid}"
    argv = [*_affinity(config), plan.qemu.binary, "-name", f"{name},debug-threads=on"]
    argv += [
        "-chardev",
        f"socket,id=qmp,path={places.socket('qmp')},server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
    ]
    argv += [
        "-pidfile",
        str(places.pid_file),
        "-daemonize",
        "-D",
        str(places.log),
        "-S",
        "-nodefaults",
        "-no-user-config",
    ]
    argv += _machine(plan) + _processors(plan) + _memory(plan)
    argv += devices.smbios(config) + devices.clock(config)
    argv += ["-boot", f"strict=on,reboot-timeout={BOOT_AGAIN_MS if plan.kvm else BOOT_AGAIN_EMULATED_MS}"]
    argv += ["-no-reboot"] if config.get("reboot") == "0" else []
    argv += ["-k", config["keyboard"]] if config.get("keyboard") else []
    argv += pci.bridges(plan.q35) + _firmware(plan)
    argv += (
        devices.display(config, places, plan.warn) + devices.usb(config, plan.warn) + devices.serials(config, places)
    )
    argv += devices.passthrough(config) + devices.audio(config) + devices.small(config, places) + _tpm(config, places)
    argv += _drives(plan) + _nics(plan)
    argv += shlex.split(config.get("args", ""))
    return argv


def _affinity(config: Config) -> list[str]:
    path = tool("taskset")
    return [path, "--cpu-list", config["affinity"]] if config.get("affinity") and path else []


def _machine(plan: Plan) -> list[str]:
    extra = ["acpi=off"] if plan.config.get("acpi") == "0" else []
    extra += ["smm=off"] if not plan.q35 or plan.config.get("bios") != "ovmf" else []
    extra += ["hpet=off"] if plan.config.get("ostype", "").startswith("win") else []
    accel = ["-accel", "kvm"] if plan.kvm else ["-accel", "tcg,thread=multi"]
    return ["-machine", ",".join([plan.machine_type, *extra]), *accel]


def _processors(plan: Plan) -> list[str]:
    config = plan.config
    sockets, cores = int(config.get("sockets", "1")), int(config.get("cores", "1"))
    most = sockets * cores
    now = min(int(config.get("vcpus", "0")) or most, most)
    cpu = plan.cpu  # that of a snapshot stays what it was
    if not cpu:
        cpu = cpu_argument(config, kvm=plan.kvm, models=plan.qemu.models, warn=plan.warn)
        cpu = cpu if plan.kvm else emulated(cpu, plan.qemu.version)
    return ["-smp", f"{now},sockets={sockets},cores={cores},threads=1,maxcpus={most}", "-cpu", cpu]


def _memory(plan: Plan) -> list[str]:
    config, size = plan.config, values.memory_mib(plan.config)
    if config.get("hugepages"):
        raise ApiError("hugepages: this node has no memory set aside in huge pages - remove the option 'hugepages'")
    argv = ["-m", f"{size}M"]
    nodes = {key: config[key] for key in (f"numa{n}" for n in range(8)) if config.get(key)}
    if config.get("numa", "0") != "1" and not nodes:
        return argv
    if not nodes:
        sockets, cores = int(config.get("sockets", "1")), int(config.get("cores", "1"))
        share = size // sockets
        for number in range(sockets):
            first = number * cores
            amount = size - share * (sockets - 1) if number == sockets - 1 else share
            argv += _numa_node(number, f"{first}-{first + cores - 1}" if cores > 1 else str(first), amount)
        return argv
    total = 0
    for number, text in enumerate(nodes.values()):
        found = parse(text, Format())
        total += int(found.get("memory", "0"))
        argv += _numa_node(number, found.get("cpus", "").replace(";", ","), int(found.get("memory", "0")))
    if total != size:
        raise ApiError(
            f"total memory ({total}) of the NUMA nodes and memory ({size}) differ - make numaN add up to memory"
        )
    return argv


def _numa_node(number: int, cpus: str, size: int) -> list[str]:
    places = "".join(f",cpus={part}" for part in cpus.split(",") if part)
    return [
        "-object",
        f"memory-backend-ram,id=ram-node{number},size={size}M",
        "-numa",
        f"node,nodeid={number}{places},memdev=ram-node{number}",
    ]


def _firmware(plan: Plan) -> list[str]:
    config = plan.config
    if config.get("bios", "seabios") != "ovmf":
        return []
    efi = parse_drive("efidisk0", config["efidisk0"]) if config.get("efidisk0") else None
    kind = efi.options.get("efitype", "2m") if efi else "4m"
    secure = bool(efi and efi.options.get("pre-enrolled-keys") == "1" and plan.q35)
    code, template, size = devices.firmware_code(kind, secure)
    nodes: list[dict[str, Any]] = [
        {
            "driver": "raw",
            "node-name": "pflash0",
            "read-only": True,
            "file": {"driver": "file", "filename": str(code), "read-only": True},
        }
    ]
    if efi is None:
        plan.warn("no efidisk configured! Using temporary efivars disk.")
        work = plan.places.directory / "efivars.fd"
        work.write_bytes(template.read_bytes())
        inner: dict[str, Any] = {"driver": "raw", "file": {"driver": "file", "filename": str(work)}}
    else:
        source = medium(plan, efi)
        inner = drives.block_node("efidisk0", source, {"cache": "writeback"})
    nodes.append({"driver": "raw", "node-name": "pflash1", "size": size, "file": inner})
    flash = ["-machine", "pflash0=pflash0,pflash1=pflash1"]
    return [*drives.arguments(nodes, []), *flash]


def _tpm(config: Config, places: Places) -> list[str]:
    if not config.get("tpmstate0"):
        return []
    version = parse_drive("tpmstate0", config["tpmstate0"]).options.get("version", "v1.2")
    interface = "tpm-tis" if version == "v1.2" else "tpm-crb"
    return [
        "-chardev",
        f"socket,id=tpmchar,path={places.socket('swtpm')}",
        "-tpmdev",
        "emulator,id=tpmdev,chardev=tpmchar",
        "-device",
        f"{interface},tpmdev=tpmdev",
    ]


def medium(plan: Plan, drive: Drive) -> Medium:
    """Where a drive's volume is."""
    if drive.file.startswith("/"):
        path = Path(drive.file)
        drives.need_file(drive.key, path, f"file '{path}'")
        return Medium(path, "raw", drive.is_cdrom)
    volume = plan.storage.parse(drive.file)
    path = plan.storage.path(drive.file)
    drives.need_file(drive.key, path, f"volume '{drive.file}'")
    fmt = volume.fmt if volume.kind == "images" else "raw"
    return Medium(path, fmt, drive.is_cdrom or volume.is_base)


def has_medium(drive: Drive) -> bool:
    """Whether the drive has something in it; a physical CD drive of the node counts as empty."""
    return drive.file not in ("none", "cdrom")


def guest_drives(config: Config) -> list[Drive]:
    """The drives that become devices (not EFI variables, not TPM state)."""
    return [drive for drive in config_drives(config) if drive.key not in ("efidisk0", "tpmstate0")]


def order(config: Config) -> dict[str, int]:
    """bootindex by device."""
    all_drives = guest_drives(config)
    keys = [drive.key for drive in all_drives] + [f"net{n}" for n in range(NETS) if config.get(f"net{n}")]
    return drives.boot_order(config, keys, {drive.key for drive in all_drives if drive.is_cdrom})


def _drives(plan: Plan) -> list[str]:
    config, argv = plan.config, []
    index = order(config)
    controllers: dict[str, str] = {}
    items: list[str] = []
    for drive in guest_drives(config):
        key = drive.key
        if drive.options.get("snapshot") == "1":
            plan.warn(f"{key}: option 'snapshot' (throw changes away at stop) is left out - the guest's writes stay")
        if drives.uses_thread(config, key, drive):
            argv += ["-object", f"iothread,id=iothread-{key}"]
        found = drives.controller_device(config, key, drive)
        if found:
            controllers.setdefault(*found)
        full = has_medium(drive)
        nodes = [drives.block_node(key, medium(plan, drive), drive.options, cdrom=drive.is_cdrom)] if full else []
        device = drives.device(config, key, drive, q35=plan.q35, bootindex=index.get(key), empty=not full)
        items += drives.arguments(nodes, [device])
    for value in controllers.values():
        argv += ["-device", value]
    return argv + items


def nics(config: Config) -> list[Nic]:
    """All NICs of the configuration."""
    return [parse_nic(key, config[key]) for key in (f"net{n}" for n in range(NETS)) if config.get(key)]


def _nics(plan: Plan) -> list[str]:
    argv: list[str] = []
    index = order(plan.config)
    rom = Path("/usr/lib/ipxe/qemu/efi-virtio.rom").exists()
    for nic in nics(plan.config):
        netdev = nic.key if nic.key in plan.direct_nets else hub_id(nic)
        argv += plan.netdevs.get(nic.key, [])
        argv += ["-device", device_args(nic, netdev, bootindex=index.get(nic.key), rom=rom and nic.key in index)]
    return argv
