# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroy a guest with its volumes (``destroy_vm`` of qemu-server)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests import disks, related
from labnode.guests.configfile import GuestConfig
from labnode.guests.drive import Drive, drives
from labnode.guests.out import Out

if TYPE_CHECKING:
    from labnode.guests.service import GuestService


def check(g: GuestService, vmid: int, *, purge: bool) -> bool:
    """ApiError where the guest must not be destroyed; whether it is managed by HA."""
    conf = g.load(vmid)
    g.check_protection(conf, f"can't remove VM {vmid}")
    managed = related.ha_state(g, vmid) is not None
    if managed and not purge:
        raise ApiError(f"unable to remove VM {vmid} - used in HA resources and purge parameter not set.")
    if g.running(vmid):
        raise ApiError(f"VM {vmid} is running - destroy failed")
    return managed


async def work(g: GuestService, vmid: int, out: Out, *, purge: bool, unreferenced: bool, skiplock: bool) -> None:
    """Remove the guest's volumes, then what else refers to it, its configuration last.

    ``unreferenced`` also removes volumes of that number which the configuration does not name."""
    async with g.locked(vmid):
        managed = check(g, vmid, purge=purge)
        conf = g.load(vmid)
        if not skiplock and conf.lock not in ("", "suspended", "destroyed"):
            g.check_lock(conf)
        await free_volumes(g, vmid, conf, out, unreferenced=unreferenced)
        g.save(vmid, GuestConfig({"lock": "destroyed"}))
        related.forget(g, vmid)
        if purge:
            out.log(f"purging VM {vmid} from related configurations..")
            related.purge(g, vmid)
            if managed:
                out.log(f"NOTE: removed VM {vmid} from HA resource configuration.")
        g.remove(vmid)


async def free_volumes(g: GuestService, vmid: int, conf: GuestConfig, out: Out, *, unreferenced: bool) -> None:
    """Free the volumes the guest owns; ApiError before any is gone when linked clones stand on one of them."""
    if conf.is_template:
        for drive in drives(conf.main, unused=True):
            if not drive.is_cdrom and await _has_clones(g, drive):
                raise ApiError(f"base volume '{drive.file}' is still in use by linked cloned")
    sections = (conf.main, conf.pending, *conf.snapshots.values())
    own = [d for section in sections[:2] for d in drives(section, unused=True, vmstate=True)]
    own += [Drive("vmstate", s["vmstate"]) for s in sections[2:] if s.get("vmstate")]
    volids = dict.fromkeys(d.file for d in own if not d.is_disc and disks.owns(g, vmid, d.file))
    if unreferenced:
        volids.update(dict.fromkeys(await g.storage.owned_by(vmid)))
    for volid in volids:
        try:
            await g.storage.free(volid)
        except ApiError as error:
            out.warn(f"Could not remove disk '{volid}', check manually: {error.message}")


async def _has_clones(g: GuestService, drive: Drive) -> bool:
    """Whether a linked clone on the same storage stands on this base image."""
    if not drive.storeid or drive.file.startswith("/"):
        return False
    own = g.storage.parse(drive.file)
    found = [g.storage.parse(row["volid"]) for row in await g.storage.list(drive.storeid, "images")]
    return own.is_base and any(v.base and v.base.rpartition("/")[2] == own.name.rpartition("/")[2] for v in found)
