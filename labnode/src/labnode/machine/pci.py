# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixed PCI places, so that a guest resumed from saved memory finds its devices where they were. Pure.

The layout is labnode's own and follows the idea of Proxmox VE's: common devices on pci.0, the many behind three
bridges.
On q35 pci.0 is a conventional bridge behind the PCIe root, so that the same addresses serve both machines.
"""

from __future__ import annotations

import re

_FIXED = {
    "vga": (0, 2),
    "balloon0": (0, 3),
    "watchdog0": (0, 4),
    "scsihw0": (0, 5),
    "scsihw1": (0, 6),
    "ahci0": (0, 7),
    "qga0": (0, 8),
    "xhci": (1, 27),
    "rng0": (1, 29),
    "audio0": (2, 12),
    "hostpci0": (0, 24),
    "hostpci1": (0, 25),
    "hostpci2": (0, 26),
    "hostpci3": (0, 27),
}
BRIDGES = {1: 30, 2: 31, 3: 29}


def place(device: str) -> str:
    """`bus=pci.N,addr=0xM` of a device id; ValueError for an id that has no place."""
    if device in _FIXED:
        bus, slot = _FIXED[device]
    elif match := re.fullmatch(r"virtio(\d+)", device):
        number = int(match[1])
        bus, slot = (0, 10 + number) if number < 6 else (2, number - 5)
    elif match := re.fullmatch(r"net(\d+)", device):
        number = int(match[1])
        bus, slot = (0, 18 + number) if number < 6 else (1, number - 5) if number < 32 else (2, number - 18)
    elif match := re.fullmatch(r"virtioscsi(\d+)", device):
        bus, slot = 3, int(match[1]) + 1
    elif match := re.fullmatch(r"scsihw(\d+)", device):
        bus, slot = 2, int(match[1]) + 14
    elif match := re.fullmatch(r"vga(\d+)", device):
        bus, slot = 2, int(match[1]) + 23
    else:
        raise ValueError(f"device '{device}' has no PCI place")
    return f"bus=pci.{bus},addr=0x{slot:x}"


def bridges(q35: bool) -> list[str]:
    """Arguments for the bridges all places above need."""
    args = []
    if q35:
        args += ["-device", "i82801b11-bridge,id=pcidmi,bus=pcie.0,addr=0x1e"]
        args += ["-device", "pci-bridge,id=pci.0,bus=pcidmi,addr=0x1,chassis_nr=100,shpc=off"]
    for number, slot in sorted(BRIDGES.items()):
        args += ["-device", f"pci-bridge,id=pci.{number},chassis_nr={number},bus=pci.0,addr=0x{slot:x},shpc=off"]
    return args
