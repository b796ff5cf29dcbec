# SPDX-License-Identifier: GPL-3.0-or-later
"""Network devices: netN strings and the QEMU arguments for them. Pure.

On loopback the NIC and its way to the switch meet in a QEMU hub, so that the way can be exchanged (another bridge, a
restarted
switch) while the NIC stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from labnode.errors import ApiError
from labnode.guests.values import parse_net
from labnode.machine.pci import place

DEVICES = {"virtio": "virtio-net-pci", "e1000e": "e1000e"}


@dataclass(frozen=True)
class Nic:
    """A parsed netN."""

    key: str
    model: str
    mac: str
    bridge: str | None = None
    tag: int | None = None
    trunks: tuple[int, ...] = ()
    link_down: bool = False
    mtu: int | None = None

    @property
    def number(self) -> int:
        """N of netN."""
        return int(self.key[3:])


@dataclass(frozen=True)
class Way:
    """How a NIC reaches its network: the QEMU netdev (keys of -netdev and netdev_add) behind its hub port, or a tap
    of its own."""

    netdev: dict[str, str]
    direct: bool = False


def parse_nic(key: str, text: str) -> Nic:
    """Take netN apart; ApiError when it has no MAC."""
    values = parse_net(text)
    mac = values.get("macaddr", "")
    if not mac:
        raise ApiError(f"network interface '{key}' has no mac address")
    trunks = tuple(_ranges(values["trunks"])) if values.get("trunks") else ()
    tag = int(values["tag"]) if values.get("tag") else None
    mtu = int(values["mtu"]) if values.get("mtu") else None
    return Nic(key, values["model"], mac, values.get("bridge"), tag, trunks, values.get("link_down") == "1", mtu)


def _ranges(text: str) -> Iterable[int]:
    for part in re.split(r"[;\s]+", text):
        low, _, high = part.partition("-")
        if low:
            yield from range(int(low), int(high or low) + 1)


def device_args(nic: Nic, netdev: str, *, bootindex: int | None, rom: bool) -> str:
    """The value of -device. Without `rom` the NIC has no boot ROM, which saves the firmware seconds."""
    parts = [DEVICES.get(nic.model, nic.model), f"mac={nic.mac}", f"netdev={netdev}", place(nic.key), f"id={nic.key}"]
    if nic.mtu is not None and nic.mtu > 1 and nic.model == "virtio":
        parts.append(f"host_mtu={nic.mtu}")
    if bootindex is not None:
        parts.append(f"bootindex={bootindex}")
    if not rom:
        parts.append("romfile=")
    return ",".join(parts)


def hub_id(nic: Nic) -> str:
    """Id of the hub port the NIC is plugged into."""
    return f"hub-{nic.key}"


def netdev_args(nic: Nic, way: Way) -> list[str]:
    """-netdev arguments of a NIC: straight to a tap, or hub port - hub - hub port - switch."""
    described = ",".join([way.netdev["type"], *(f"{k}={v}" for k, v in way.netdev.items() if k != "type")])
    if way.direct:
        return ["-netdev", described]
    number = nic.number
    near, far = (
        f"hubport,id={hub_id(nic)},hubid={number}",
        f"hubport,id=far-{nic.key},hubid={number},netdev={way.netdev['id']}",
    )
    return ["-netdev", described, "-netdev", near, "-netdev", far]
