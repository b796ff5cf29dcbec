# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending changes of a stopped guest become its configuration (``vmconfig_apply_pending`` of qemu-server)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests import disks, options, pending
from labnode.guests.configfile import GuestConfig
from labnode.guests.drive import parse_drive
from labnode.guests.out import Out, Who
from labnode.guests.propstring import PropertyError

if TYPE_CHECKING:
    from labnode.guests.service import GuestService


class NodeItself:
    """The node doing by itself what a user was already allowed to ask for."""

    user = "root@pam"
    is_root = True

    def may(self, path: str, privs: object, *, any_of: bool = False) -> bool:
        """Everything."""
        return True

    def check(self, path: str, privs: object, *, any_of: bool = False) -> None:
        """Nothing is refused."""


ITSELF = NodeItself()


async def apply_pending(
    g: GuestService, vmid: int, conf: GuestConfig, out: Out, *, who: Who = ITSELF
) -> dict[str, str]:
    """Apply what waits and write the configuration; texts of what could not be applied by option. Hold the flock."""
    errors: dict[str, str] = {}

    def failed(key: str, error: ApiError) -> None:
        errors[key] = f"unable to apply pending change {key} : {error.message}"
        out.warn(errors[key])

    for key, force in sorted(pending.deletes(conf).items()):
        try:
            if options.is_drive(key) and key in conf.main:
                await delete_drive(g, disks.Request(vmid, who, conf), key, force, out)
        except ApiError as error:
            failed(key, error)
            continue
        pending.remove_delete(conf, key)
        conf.main.pop(key, None)
    pending.cleanup(conf)
    regenerate = False
    for key in sorted(k for k in conf.pending if k != "delete"):
        try:
            if options.is_drive(key):
                regenerate |= await _replace_drive(g, vmid, conf, key, out)
        except ApiError as error:
            failed(key, error)
            continue
        conf.main[key] = conf.pending.pop(key)
    g.save(vmid, conf)
    if regenerate:
        await g.machines.cloudinit_write(vmid, conf.main)
        conf.special.pop("cloudinit", None)
        g.save(vmid, conf)
    return errors


async def _replace_drive(g: GuestService, vmid: int, conf: GuestConfig, key: str, out: Out) -> bool:
    new = parse_drive(key, conf.pending[key])
    if key in conf.main:
        try:
            old = parse_drive(key, conf.main[key])
        except PropertyError:
            return new.is_cloudinit
        if old.file != new.file:
            await disks.detach(g, vmid, conf, old, out)
    return new.is_cloudinit


async def delete_drive(g: GuestService, req: disks.Request, key: str, force: bool, out: Out) -> None:
    """A drive leaves the configuration; with ``force`` its volume goes too."""
    conf = req.conf
    drive = parse_drive(key, conf.main[key])
    if force:
        await disks.deallocate(g, req, drive, out)
    else:
        await disks.detach(g, req.vmid, conf, drive, out)
