# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a running guest: devices that come and go, and what can change in place."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labnode.errors import ApiError
from labnode.guests import values
from labnode.guests.drive import Drive, parse_drive
from labnode.machine import command, devices, drives
from labnode.machine.disk_ops import node_of
from labnode.machine.guest import Guest
from labnode.machine.model import Qemu
from labnode.machine.nics import Nic, Way, device_args, hub_id, parse_nic
from labnode.machine.pci import place
from labnode.machine.qmp import Monitor
from labnode.machine.switch import Switch
from labnode.storage import StorageService

Config = Mapping[str, str]
NUMBERS = frozenset({"bootindex", "host_mtu", "vendorid", "productid", "hostbus", "p2", "p3"})
STATS_SECONDS = 2
TRAY_TRIES = 10


@dataclass(frozen=True)
class Live:
    """A running guest and what a change of it may need."""

    guest: Guest
    config: Config
    qemu: Qemu
    storage: StorageService
    switch: Switch

    @property
    def q35(self) -> bool:
        """Whether the running machine is a q35."""
        return "q35" in str(self.guest.meta().get("machine", ""))

    def plan(self) -> command.Plan:
        """For looking up media."""
        return command.Plan(
            self.guest.vmid, self.config, self.qemu, self.guest.places, self.storage, lambda _line: None
        )


async def settle(guest: Guest, config: Config) -> None:
    """After QEMU came up and before its CPUs run: links that are down, throttles, balloon target and statistics."""
    async with guest.monitor() as qmp:
        for nic in command.nics(config):
            if nic.link_down:
                await qmp("set_link", name=nic.key, up=False)
        for drive in command.guest_drives(config):
            if any(drives.throttle(drive).values()) and command.has_medium(drive):
                await _throttle(qmp, drive)
        target = int(config.get("balloon", "0"))
        if config.get("balloon", "1") != "0":
            await qmp(
                "qom-set",
                path="/machine/peripheral/balloon0",
                property="guest-stats-polling-interval",
                value=STATS_SECONDS,
            )
        if target and target < values.memory_mib(config):
            await qmp("balloon", value=target << 20)


async def _throttle(qmp: Monitor, drive: Drive) -> None:
    await qmp("block_set_io_throttle", id=_backend_id(drive.key), **drives.throttle(drive))


def _backend_id(key: str) -> str:
    """What block commands call a drive: virtio-blk has its backend below the PCI device."""
    return f"/machine/peripheral/{key}/virtio-backend" if key.startswith("virtio") else key


def _properties(text: str) -> dict[str, Any]:
    """A `-device` value as device_add takes it, where numbers must be numbers."""
    driver, _, rest = text.partition(",")
    found: dict[str, Any] = {"driver": driver}
    for part in rest.split(","):
        key, _, value = part.partition("=")
        found[key] = int(value, 0) if key in NUMBERS else value
    return found


# coming ---------------------------------------------------------------------------------------------------------------


async def plug(live: Live, key: str, value: str) -> None:
    """Add the device of a key (scsiN, virtioN, netN, usbN)."""
    kind = key.rstrip("0123456789")
    if kind == "net":
        await _plug_nic(live, parse_nic(key, value))
    elif kind in ("scsi", "virtio"):
        await _plug_disk(live, parse_drive(key, value))
    elif kind == "usb":
        await _plug_usb(live, key, value)
    else:
        raise ApiError(f"hotplug problem - '{key}' cannot be added while the guest runs")


async def _plug_usb(live: Live, key: str, value: str) -> None:
    text = devices.usb_device(key, value, lambda _line: None)
    async with live.guest.monitor() as qmp:
        if "xhci" not in await _peripherals(qmp):
            await qmp("device_add", **_properties(f"qemu-xhci,p2=15,p3=15,id=xhci,{place('xhci')}"))
        if text:
            await qmp("device_add", **_properties(text))


async def _plug_disk(live: Live, drive: Drive) -> None:
    key, config = drive.key, {**live.config, drive.key: str(drive)}
    added: list[tuple[str, dict[str, Any]]] = []
    async with live.guest.monitor() as qmp:
        try:
            have = await _peripherals(qmp)
            if drives.uses_thread(config, key, drive):
                threads = {item["id"] for item in await qmp("query-iothreads")}
                if f"iothread-{key}" not in threads:
                    await qmp("object-add", qom_type="iothread", id=f"iothread-{key}")
                    added.append(("object-del", {"id": f"iothread-{key}"}))
            controller = drives.controller_device(config, key, drive)
            if controller and controller[0] not in have:
                await qmp("device_add", **_properties(controller[1]))
                added.append(("device_del", {"id": controller[0]}))
            full = command.has_medium(drive)
            if full:
                await live.storage.activate_volume(drive.file) if ":" in drive.file else None
                node = drives.block_node(key, command.medium(live.plan(), drive), drive.options, cdrom=drive.is_cdrom)
                await qmp("blockdev-add", **node)
                added.append(("blockdev-del", {"node_name": drives.node_name(key)}))
            await qmp("device_add", **drives.device(config, key, drive, q35=live.q35, bootindex=None, empty=not full))
            if any(drives.throttle(drive).values()):
                await _throttle(qmp, drive)
        except ApiError as err:
            for undo, args in reversed(added):
                with contextlib.suppress(ApiError):
                    await qmp(undo, **args)
            raise ApiError(f"hotplug problem - {err.message}") from None


async def _plug_nic(live: Live, nic: Nic) -> None:
    try:
        way = await live.switch.plug(live.guest.vmid, nic)
        async with live.guest.monitor() as qmp:
            netdev = await _add_way(qmp, nic, way, near=True)
            text = device_args(nic, netdev, bootindex=None, rom=False)
            await qmp("device_add", **_properties(text))
            if nic.link_down:
                await qmp("set_link", name=nic.key, up=False)
    except ApiError as err:
        async with live.guest.monitor() as qmp:
            await _drop_netdevs(qmp, nic.key)
        await live.switch.unplug(live.guest.vmid, nic.key)
        raise ApiError(f"hotplug problem - {err.message}") from None


async def _add_way(qmp: Monitor, nic: Nic, way: Way, *, near: bool) -> str:
    """Add the netdevs between a NIC and its switch; the id the NIC is plugged into."""
    await qmp("netdev_add", **{k: int(v) if k == "port" else v for k, v in way.netdev.items()})
    if way.direct:
        return way.netdev["id"]
    number = nic.number
    if near:
        await qmp("netdev_add", type="hubport", id=hub_id(nic), hubid=number)
    await qmp("netdev_add", type="hubport", id=f"far-{nic.key}", hubid=number, netdev=way.netdev["id"])
    return hub_id(nic)


async def _drop_netdevs(qmp: Monitor, key: str, *, near: bool = True) -> None:
    for ident in (f"far-{key}", f"net-{key}", *((f"hub-{key}", key) if near else ())):
        with contextlib.suppress(ApiError):
            await qmp("netdev_del", id=ident)


# going ----------------------------------------------------------------------------------------------------------------


async def unplug(live: Live, key: str, timeout: float) -> None:
    """Take the device of a key away; ApiError when the guest does not let go of it in time."""
    async with live.guest.monitor() as qmp:
        node = ""
        if not key.startswith(("net", "usb")):
            with contextlib.suppress(ApiError):
                node = await node_of(qmp, key)
        await _remove_device(qmp, key, timeout)
        if key.startswith("net"):
            await _drop_netdevs(qmp, key)
        elif not key.startswith("usb"):
            if node:
                await _drop_node(qmp, node, timeout)
            own = f"virtioscsi{key[4:]}" if key.startswith("scsi") else ""
            if own and own in await _peripherals(qmp):
                # a guest that keeps the empty controller does no harm: the next disk of this number uses it again
                with contextlib.suppress(ApiError):
                    await _remove_device(qmp, own, min(timeout, 2.0))
            with contextlib.suppress(ApiError):
                await qmp("object-del", id=f"iothread-{key}")
    if key.startswith("net"):
        await live.switch.unplug(live.guest.vmid, key)


async def _remove_device(qmp: Monitor, ident: str, timeout: float) -> None:
    if ident not in await _peripherals(qmp):
        return
    try:
        await qmp("device_del", id=ident)
    except ApiError as err:
        if "already in the process of unplug" not in err.message:
            raise
    deadline = time.monotonic() + timeout
    while ident in await _peripherals(qmp):
        if time.monotonic() > deadline:
            raise ApiError(
                f"hotplug problem - error unplugging device '{ident}': the guest kept it for {timeout:g} s"
                " - its system must be up and support hot-unplug"
            )
        await asyncio.sleep(0.05)


async def _drop_node(qmp: Monitor, node: str, timeout: float) -> None:
    """A device lets its node go a moment after it has left the device tree."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            await qmp("blockdev-del", node_name=node)
            return
        except ApiError as err:
            if "in use" not in err.message or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.02)


async def _peripherals(qmp: Monitor) -> set[str]:
    return {str(item["name"]) for item in await qmp("qom-list", path="/machine/peripheral")}


# in place -------------------------------------------------------------------------------------------------------------


async def set_live(live: Live, key: str, value: str, old: str) -> bool:
    """Change what can change without taking the device away; False when this change cannot be made so."""
    kind = key.rstrip("0123456789")
    if kind == "net":
        return await _change_nic(live, parse_nic(key, old), parse_nic(key, value))
    if kind in ("ide", "sata", "scsi", "virtio"):
        drive = parse_drive(key, value)
        async with live.guest.monitor() as qmp:
            if drive.is_cdrom:
                await _change_medium(qmp, live, drive)
            else:
                await _throttle(qmp, drive)
        return True
    if key == "balloon":
        async with live.guest.monitor() as qmp:
            await qmp("balloon", value=int(value) << 20)
        return True
    if key == "vcpus":
        return await _more_cpus(live, int(value))
    return False


async def _change_nic(live: Live, old: Nic, new: Nic) -> bool:
    if (old.model, old.mac, old.mtu) != (new.model, new.mac, new.mtu):
        return False
    if old.bridge != new.bridge:
        await _other_bridge(live, old, new)
    elif (old.tag, old.trunks) != (new.tag, new.trunks) and new.bridge:
        await live.switch.set_vlans(live.guest.vmid, new)
    if old.link_down != new.link_down:
        async with live.guest.monitor() as qmp:
            await qmp("set_link", name=new.key, up=not new.link_down)
    return True


async def _other_bridge(live: Live, old: Nic, new: Nic) -> None:
    """Lead the NIC to another bridge: a tap changes its master, a hub gets another far side."""
    if new.bridge:
        live.switch.need(new.bridge)
    kinds = {bool(nic.bridge and live.switch.is_kernel(nic.bridge)) for nic in (old, new)}
    if kinds == {True, False}:
        raise ApiError(
            f"hotplug problem - '{new.key}' cannot move between a kernel bridge and a userspace one while running"
        )
    if kinds == {False}:
        async with live.guest.monitor() as qmp:
            await _drop_netdevs(qmp, new.key, near=False)
        await live.switch.unplug(live.guest.vmid, new.key)
    way = await live.switch.plug(live.guest.vmid, new)
    if not way.direct:
        async with live.guest.monitor() as qmp:
            await _add_way(qmp, new, way, near=False)


async def reconnect(live: Live) -> None:
    """Lead every NIC to its bridge again, after a switch died and was started anew."""
    for nic in command.nics(live.config):
        if nic.bridge and not live.switch.is_kernel(nic.bridge):
            async with live.guest.monitor() as qmp:
                await _drop_netdevs(qmp, nic.key, near=False)
            way = await live.switch.plug(live.guest.vmid, nic)
            async with live.guest.monitor() as qmp:
                await _add_way(qmp, nic, way, near=False)


async def _change_medium(qmp: Monitor, live: Live, drive: Drive) -> None:
    ident, name = _backend_id(drive.key), drives.node_name(drive.key)
    old = ""
    with contextlib.suppress(ApiError):
        old = await node_of(qmp, drive.key)
    await in_open_tray(qmp, ident, "blockdev-remove-medium")
    if old:
        await qmp("blockdev-del", node_name=old)
    if command.has_medium(drive):
        node = drives.block_node(drive.key, command.medium(live.plan(), drive), drive.options, cdrom=True)
        await qmp("blockdev-add", **node)
        try:
            await in_open_tray(qmp, ident, "blockdev-insert-medium", node_name=name)
        except ApiError:
            with contextlib.suppress(ApiError):
                await qmp("blockdev-del", node_name=name)
            raise
    await qmp("blockdev-close-tray", id=ident)


async def in_open_tray(qmp: Monitor, ident: str, action: str, **args: Any) -> None:
    """Open a drive's tray and do something in it; ApiError when the guest is faster each of TRAY_TRIES times.

    A guest may close the tray whenever it likes, and firmware that looks for a medium to boot from does.
    """
    for again in range(TRAY_TRIES - 1, -1, -1):
        await qmp("blockdev-open-tray", id=ident, force=True)
        try:
            await qmp(action, id=ident, **args)
            return
        except ApiError as err:
            if not again or "is not open" not in err.message:
                raise


async def _more_cpus(live: Live, wanted: int) -> bool:
    """Add virtual CPUs; taking them away needs a restart."""
    async with live.guest.monitor() as qmp:
        slots = await qmp("query-hotpluggable-cpus")
        have = [slot for slot in slots if "qom-path" in slot]
        free = [slot for slot in slots if "qom-path" not in slot]
        if wanted < len(have) or wanted - len(have) > len(free):
            return False
        order = sorted(free, key=lambda slot: sorted(slot["props"].items()))
        for number, slot in enumerate(order[: wanted - len(have)], len(have) + 1):
            await qmp(
                "device_add",
                driver=slot["type"],
                id=f"cpu{number}",
                **{k.replace("-", "_"): v for k, v in slot["props"].items()},
            )
    return True
