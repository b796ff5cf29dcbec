# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of every option of a guest's configuration: its type, its kind, the privilege its change needs.

Source: qemu-server's configuration description and ``check_vm_modify_config_perm`` (facts only).
"""

from __future__ import annotations

import re
from typing import Any

from labnode.guests.propstring import as_bool, words

BOOLEANS = words(
    "acpi allow-ksm autostart ciupgrade freeze keephugepages kvm localtime numa onboot protection reboot tablet tdf "
    "template"
)
INTEGERS = words("balloon cores cpuunits migrate_speed shares smp snaptime sockets vcpus")
PLAIN = words(
    "affinity agent amd-sev arch args audio0 bios boot bootdisk cdrom cicustom cipassword citype ciuser cpu cpulimit "
    "description hookscript hotplug hugepages intel-tdx ivshmem keyboard lock machine memory meta migrate_downtime "
    "name nameserver ostype parent rng0 running-nets-host-mtu runningcpu runningmachine scsihw searchdomain smbios1 "
    "spice_enhancements sshkeys startdate startup tags vga vmgenid vmstate vmstatestorage watchdog"
)
NUMBERED = {
    "ide": 4, "scsi": 31, "virtio": 16, "sata": 6, "efidisk": 1, "tpmstate": 1, "unused": 256, "net": 32,
    "ipconfig": 32, "serial": 4, "parallel": 3, "usb": 14, "hostpci": 16, "numa": 8, "virtiofs": 10,
}  # fmt: skip
DISK_KINDS = ("ide", "scsi", "virtio", "sata")
DRIVE_NAMES = (
    *(f"{kind}{i}" for kind in DISK_KINDS for i in range(NUMBERED[kind])),
    "efidisk0",
    "tpmstate0",
)
DRIVE_SET = frozenset(DRIVE_NAMES)
CLOUDINIT = words("cicustom cipassword citype ciuser ciupgrade nameserver searchdomain sshkeys")
# written by the node itself and shown only where a snapshot or a state is described
SNAPSHOT_ONLY = words("parent snaptime vmstate running-nets-host-mtu runningmachine runningcpu")
# take effect on a running guest by being written down
FAST = (
    words(
        "description hookscript lock migrate_downtime migrate_speed name onboot protection shares startup tags "
        "vmstatestorage"
    )
    | CLOUDINIT
)
ROOT = "root"

_NUMBERED_RE = re.compile(r"([a-z]+)(\d+)")
_PRIVILEGE = {
    **dict.fromkeys(words("cores cpu runningcpu cpulimit cpuunits numa smp sockets vcpus"), "VM.Config.CPU"),
    **dict.fromkeys(words("memory balloon shares allow-ksm"), "VM.Config.Memory"),
    **dict.fromkeys(
        words("acpi hotplug kvm machine runningmachine scsihw smbios1 tablet vga watchdog audio0 rng0"),
        "VM.Config.HWType",
    ),
    **dict.fromkeys(
        words(
            "agent autostart bios description keyboard localtime migrate_downtime migrate_speed name onboot ostype "
            "protection reboot startdate startup tdf template"
        ),
        "VM.Config.Options",
    ),
    "freeze": "VM.PowerMgmt",
    **dict.fromkeys(words("boot bootdisk vmstatestorage"), "VM.Config.Disk"),
    "running-nets-host-mtu": "VM.Config.Network",
    "vmstate": "VM.Config.Disk",
}
_BY_KIND = {"numa": "VM.Config.CPU", "net": "VM.Config.Network", "ipconfig": "VM.Config.Cloudinit"}


def split(key: str) -> tuple[str, int] | None:
    """``net3`` is ``("net", 3)``; None for an option that has no number or whose number is too high."""
    match = _NUMBERED_RE.fullmatch(key)
    if not match or int(match[2]) >= NUMBERED.get(match[1], 0) or key != f"{match[1]}{int(match[2])}":
        return None
    return match[1], int(match[2])


def kind(key: str) -> str:
    """``net3`` is of kind ``net``; an option without a number is its own kind."""
    parts = split(key)
    return parts[0] if parts else key


def exists(key: str) -> bool:
    """Whether there is such an option at all."""
    return key in BOOLEANS or key in INTEGERS or key in PLAIN or split(key) is not None


def is_drive(key: str) -> bool:
    """A disk, CD drive, EFI disk or TPM state; not ``unusedN``."""
    return key in DRIVE_SET


def is_unused(key: str) -> bool:
    """``unusedN``."""
    return kind(key) == "unused"


def privilege(key: str) -> str | None:
    """The privilege on /vms/ID that changing the option needs; ROOT: root@pam alone; None: its value decides."""
    group = kind(key)
    if is_drive(key) or group in ("cdrom", "unused", "serial", "usb", "hostpci", "virtiofs", "tags"):
        return None
    if key in CLOUDINIT:
        return "VM.Config.Cloudinit"
    return _BY_KIND.get(group) or _PRIVILEGE.get(key, ROOT)


def to_text(value: Any) -> str:
    """A checked parameter as it stands in the file: booleans are 1 and 0."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def typed(key: str, value: str) -> int | str:
    """A value of the file as the API shows it: booleans and integers as numbers, everything else as text."""
    if key in BOOLEANS:
        flag = as_bool(value)
        return value if flag is None else int(flag)
    return int(value) if key in INTEGERS and value.isdecimal() else value
