# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab machine consists of, and the key that a change of any of it changes."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from labvm.places import REPOSITORY, ROOTFS

SUITE = "trixie"
MIRROR = "http://deb.debian.org/debian"
COMPONENTS = "main contrib non-free-firmware"
DISK_GIB = 16
HOST_NAME = "pve1"
DOMAIN = "lab.test"
# The address of the management NIC: user-mode networking forwards ports to it.
ADDRESS, GATEWAY, NAMESERVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
MACS = {"eno1": "52:54:00:6c:61:01", "eno2": "52:54:00:6c:61:02", "eno3": "52:54:00:6c:61:03"}

BASE = ("ca-certificates", "dbus", "systemd", "systemd-sysv", "udev")
_KERNEL = "linux-image-amd64 linux-headers-amd64 grub-pc"
_TOOLS = "openssh-server python3 python3-apt python3-debian kmod procps less vim-tiny gnupg sudo curl cron jq rsync"
_NETWORK = "ifupdown2 bridge-utils iproute2 iputils-ping tcpdump ethtool openvswitch-switch"
_VOLUMES = "lvm2 thin-provisioning-tools zfs-dkms zfsutils-linux zfs-zed mdadm"
_DISKS = "gdisk parted xfsprogs dosfstools e2fsprogs smartmontools nvme-cli"
_GUESTS = "qemu-system-x86 qemu-utils ovmf swtpm swtpm-tools"
_HOST = "ksmtuned systemd-zram-generator chrony numactl cpuid dmidecode pciutils util-linux-extra"
PACKAGES = tuple(" ".join((_KERNEL, _TOOLS, _NETWORK, _VOLUMES, _DISKS, _GUESTS, _HOST)).split())
# What wakes up by itself has no place on a machine that is restored again and again.
_TIMERS = "apt-daily apt-daily-upgrade e2scrub_all man-db fstrim dpkg-db-backup"
QUIET = (*(f"{name}.timer" for name in _TIMERS.split()), "smartmontools.service", "mdmonitor.service")
# Generators that find nothing to generate here; systemd runs each at every daemon-reload, which took 6 s in all.
IDLE_GENERATORS = tuple(
    f"systemd-{name}-generator"
    for name in ["debug", "gpt-auto", "hibernate-resume", "rc-local", "run", "ssh", "system-update", "tpm2"]
)


def labnode_requirements() -> list[str]:
    """What labnode needs from the package index, from its own pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "labnode" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(requirement) for requirement in project["dependencies"]]


def image_key() -> str:
    """Changes with everything that goes into the image; labnode's own code is not part of it."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in (*sorted(ROOTFS.rglob("*")), here / "recipe.py", here / "build.py", here / "bootable.py"):
        if path.is_file():
            digest.update(f"\0{path.name}\0{path.stat().st_mode & 0o111}\0".encode() + path.read_bytes())
    digest.update("\n".join(labnode_requirements()).encode())
    digest.update((REPOSITORY / "requirements" / "constraints.txt").read_bytes())
    return digest.hexdigest()[:12]
