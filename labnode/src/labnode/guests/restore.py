# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest from a backup: its volumes unpacked, its configuration rewritten for them.

Work that fails leaves the guest unlocked and incomplete, as Proxmox VE does, and says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from labnode.guests import clone, configfile, create, destroy, disks
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import drives
from labnode.guests.out import Out

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

# Takes a backup's volume id, the new guest's number, the storage its volumes go to (None: where they came from) and a
# log; gives the text of the configuration in the backup and the new volume of every drive.
Unpack = Callable[["GuestService", str, int, str | None, Callable[[str], None]], Awaitable[tuple[str, dict[str, str]]]]
_unpackers: list[Unpack] = []


def register(unpack: Unpack) -> Unpack:
    """Let the backup side say how an archive is unpacked (it knows the formats, this module knows guests)."""
    _unpackers[:] = [unpack]
    return unpack


async def work(g: GuestService, req: create.Create, out: Out) -> None:
    """Restore ``req.archive`` as guest ``req.vmid``; volumes of a guest that is overwritten are removed first."""
    try:
        async with g.locked(req.vmid, 1):
            await _restore(g, req, out)
    except BaseException:
        out.log(f"error before or during data restore, some or all disks were not completely restored. VM {req.vmid}")
        out.log("state is NOT cleaned up.")
        if g.exists(req.vmid):
            await g.remove_lock(req.vmid, "create")
        raise
    await create.finish(g, req, out)


async def _restore(g: GuestService, req: create.Create, out: Out) -> None:
    before = g.load(req.vmid)
    await destroy.free_volumes(g, req.vmid, before, out, unreferenced=False)
    g.save(req.vmid, GuestConfig({"lock": "create"}))
    text, volumes = await _unpackers[0](g, req.archive or "", req.vmid, req.storage, out.log)
    old = configfile.parse(text, str(req.vmid)).main
    volumes |= await _cloudinit(g, req, old, out)
    conf = GuestConfig(create.restored_section(g, req, old, volumes))
    was_template = conf.main.pop("template", None) == "1"
    g.save(req.vmid, conf)
    if was_template:
        out.log("Convert to template.")
        conf.main["template"] = "1"
        g.save(req.vmid, conf)
        await clone.make_bases(g, req.vmid, conf)


async def _cloudinit(g: GuestService, req: create.Create, old: Section, out: Out) -> dict[str, str]:
    """A backup does not hold the cloud-init drive: the guest gets a new one, and a start fills it."""
    found = {}
    for drive in drives(old):
        if drive.is_cloudinit and drive.storeid:
            storeid = req.storage or drive.storeid
            found[drive.key] = await disks.cloudinit_copy(g, req.vmid, storeid, drive.file, out)
    return found
