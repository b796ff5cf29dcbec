# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a running guest: what takes effect now, what waits for a start (``vmconfig_hotplug_pending``)."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests import apply, cloudinit, disks, options, pending, values
from labnode.guests.configfile import GuestConfig
from labnode.guests.drive import Drive, parse_drive
from labnode.guests.out import Out, Who
from labnode.guests.propstring import parse

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

# a disk that is in use keeps these until the guest starts anew
_FIXED = ("aio", "discard", "iothread", "queues", "product", "cache", "ssd", "vendor", "ro")
_PLUGGABLE = ("scsi", "virtio")
# felt by the control group alone, where a guest has one
_WEIGHED = frozenset({"cpuunits", "cpulimit"})


class Waits(Exception):
    """This change cannot be made now; it stays pending."""


@dataclass
class Change:
    """One pass over the pending changes of a running guest. ``errors`` maps options to what went wrong with them."""

    g: GuestService
    vmid: int
    conf: GuestConfig
    who: Who
    out: Out
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def features(self) -> frozenset[str]:
        """What may be plugged."""
        return values.hotplug_features(self.conf.main)


async def hotplug_pending(
    g: GuestService, vmid: int, conf: GuestConfig, who: Who, out: Out, *, only: Iterable[str]
) -> dict[str, str]:
    """Apply what can be applied to the running guest and write the configuration; errors by option. Hold the flock.

    Options without effect on the process are always applied, of the others only those in ``only``."""
    change = Change(g, vmid, conf, who, out)
    for key in sorted(options.FAST & set(conf.pending)):
        _commit(change, key)
    chosen = set(only)
    for key, force in sorted(pending.deletes(conf).items()):
        if key in chosen:
            await _guarded(change, key, _delete(change, key, force))
    discs = []
    for key in sorted(k for k in conf.pending if k != "delete" and k in chosen):
        if options.is_drive(key) and parse_drive(key, conf.pending[key]).is_cloudinit:
            discs.append(key)  # made last, from the other changes
            continue
        await _guarded(change, key, _set(change, key))
    for key in discs:
        await _guarded(change, key, _cloudinit_drive(change, key))
    g.save(vmid, conf)
    if "cloudinit" in change.features and cloudinit.has_changes(conf):
        await cloudinit.regenerate(g, vmid, conf)
    return change.errors


async def _guarded(change: Change, key: str, doing: Awaitable[None]) -> None:
    try:
        await doing
    except Waits:
        return
    except ApiError as error:
        text = error.message.removeprefix("hotplug problem - ")
        change.errors[key] = f"hotplug problem - {text}"
        return
    _commit(change, key)


def _commit(change: Change, key: str) -> None:
    """The pending state of the option is the present one from now on."""
    conf = change.conf
    old = conf.main.pop(key, None)
    new = conf.pending.pop(key, None)
    if new is not None:
        conf.main[key] = new
    else:
        pending.remove_delete(conf, key)
    cloudinit.record(conf, key, old, new)


async def _delete(change: Change, key: str, force: bool) -> None:
    g, vmid, main = change.g, change.vmid, change.conf.main
    kind = options.kind(key)
    if key in options.FAST:
        return
    if key in _WEIGHED:
        await g.machines.weigh(vmid, {name: text for name, text in main.items() if name != key})
        return
    if kind in ("net", "usb"):
        _need(change, "network" if kind == "net" else "usb")
        await g.machines.unplug(vmid, key, main)
    elif kind in _PLUGGABLE:
        _need(change, "disk")
        await g.machines.unplug(vmid, key, main)
        await apply.delete_drive(g, disks.Request(vmid, change.who, change.conf), key, force, change.out)
    elif key == "balloon" and main.get("balloon") != "0":
        await _live(change, key, str(values.memory_mib(main)))
    else:
        raise Waits


async def _set(change: Change, key: str) -> None:
    kind = options.kind(key)
    value = change.conf.pending[key]
    if key in _WEIGHED:
        await change.g.machines.weigh(change.vmid, {**change.conf.main, key: value})
        return
    if kind == "net":
        await _net(change, key, value)
    elif options.is_drive(key):
        await _drive(change, key, parse_drive(key, value))
    elif kind == "usb":
        _need(change, "usb")
        await change.g.machines.plug(change.vmid, key, value, change.conf.main)
    elif key == "balloon":
        await _balloon(change, value)
    elif key == "agent":
        _agent(change.conf)
    elif key == "hotplug":
        _hotplug(change.conf)
    elif key in ("vcpus", "memory"):
        _need(change, "cpu" if key == "vcpus" else "memory")
        await _live(change, key, value)
    else:
        raise Waits


def _need(change: Change, feature: str) -> None:
    if feature not in change.features:
        raise Waits


async def _live(change: Change, key: str, value: str) -> None:
    main = change.conf.main
    if not await change.g.machines.set_live(change.vmid, key, value, main.get(key, ""), main):
        raise Waits


async def _balloon(change: Change, value: str) -> None:
    main = change.conf.main
    if (main.get("balloon", "1") != "0") != (value != "0"):
        raise Waits  # the device itself comes and goes only at start
    if main.get("shares") == "0":
        await _live(change, "balloon", value if value != "0" else str(values.memory_mib(main)))


def _agent(conf: GuestConfig) -> None:
    if "agent" not in conf.main:
        raise Waits
    old, new = (parse(text, values.AGENT) for text in (conf.main["agent"], conf.pending["agent"]))
    for key in {*old, *new} - {"fstrim_cloned_disks", "freeze-fs"}:
        if old.get(key) != new.get(key):
            raise Waits


def _hotplug(conf: GuestConfig) -> None:
    for text in (conf.main.get("hotplug", ""), conf.pending["hotplug"]):
        if "memory" in text or "cpu" in text:
            raise Waits


async def _net(change: Change, key: str, value: str) -> None:
    g, vmid, main = change.g, change.vmid, change.conf.main
    if key in main:
        old, new = values.parse_net(main[key]), values.parse_net(value)
        same_device = all(old.get(k) == new.get(k) for k in ("model", "macaddr", "queues", "mtu"))
        if same_device and old.get("bridge") and new.get("bridge"):
            await _live(change, key, value)
            return
        _need(change, "network")
        await g.machines.unplug(vmid, key, main)
    _need(change, "network")
    await g.machines.plug(vmid, key, value, main)


async def _drive(change: Change, key: str, new: Drive) -> None:
    g, vmid, conf = change.g, change.vmid, change.conf
    if key in ("efidisk0", "tpmstate0"):
        raise Waits
    if key in conf.main:
        old = parse_drive(key, conf.main[key])
        if new.is_cdrom != old.is_cdrom:
            raise ApiError("unable to change media type")
        if old.is_cdrom:
            await _live(change, key, str(new))
            if old.is_cloudinit and new.file == "none":
                await disks.detach(g, vmid, conf, old, change.out)
            return
        if old.file == new.file:
            await _tune(change, key, old, new)
            return
        if options.kind(key) not in _PLUGGABLE:
            raise Waits
        _need(change, "disk")
        await g.machines.unplug(vmid, key, conf.main)
        await disks.detach(g, vmid, conf, old, change.out)
        del conf.main[key]
    if options.kind(key) not in _PLUGGABLE:
        raise Waits
    _need(change, "disk")
    await g.machines.plug(vmid, key, str(new), conf.main)


async def _tune(change: Change, key: str, old: Drive, new: Drive) -> None:
    if any(old.options.get(name) != new.options.get(name) for name in _FIXED):
        raise Waits
    throttles = ("mbps", "iops", "bps")
    if any(old.options.get(k) != new.options.get(k) for k in {*old.options, *new.options} if k.startswith(throttles)):
        await _live(change, key, str(new))


async def _cloudinit_drive(change: Change, key: str) -> None:
    g, vmid, conf = change.g, change.vmid, change.conf
    after = {**conf.main, key: conf.pending[key]}
    await g.machines.cloudinit_write(vmid, after)
    conf.special.pop("cloudinit", None)
    await _drive(change, key, parse_drive(key, conf.pending[key]))
