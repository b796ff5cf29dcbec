# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a request, checked and rewritten, for a new guest and for a change alike."""

from __future__ import annotations

import base64
import binascii
import os
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote

from labnode.errors import ApiError, ParamError
from labnode.guests import access, disks, options, values
from labnode.guests.configfile import Section, check_line
from labnode.guests.out import Who
from labnode.guests.propstring import PropertyError

if TYPE_CHECKING:
    from labnode.guests.service import GuestService


def resolve_cdrom(settings: Section) -> None:
    """``cdrom`` is another name for the disc in ``ide2``."""
    if value := settings.pop("cdrom", None):
        settings["ide2"] = value if "media=" in value else f"{value},media=cdrom"


def check(
    g: GuestService, who: Who, vmid: int, settings: Section, *, pool: str | None = None, storage: str | None = None
) -> None:
    """Check every option by its value and by what the user may do, and rewrite it as it will be stored.

    ``pool`` is the pool a new guest joins, ``storage`` where its volumes go when they name none."""
    for key, value in settings.items():
        if key != "description":
            check_line(key, value)
    found = [disks.prepared(g, key, settings[key]) for key in sorted(settings) if options.is_drive(key)]
    access.check_storage(g, who, vmid, found, storage)
    access.check_options(who, vmid, settings, pool=pool)
    for key, value in settings.items():
        access.check_value(who, vmid, key, value, pool=pool)
    access.check_bridges(who, settings)
    settings.update({drive.key: str(drive) for drive in found})
    for key in settings:
        if options.kind(key) == "net":
            settings[key] = _net(g, key, settings[key])
    if "cpuunits" in settings:
        settings["cpuunits"] = values.clamp_cpuunits(settings["cpuunits"])
    if "sshkeys" in settings:
        check_ssh_keys(unquote(settings["sshkeys"]))
    if "hookscript" in settings:
        try:
            hookscript(g, settings["hookscript"])
        except ApiError as error:
            raise ParamError({"hookscript": error.message + "\n"}) from None


def _net(g: GuestService, key: str, text: str) -> str:
    try:
        return values.with_mac(text, g.mac_prefix())
    except PropertyError as error:
        raise ParamError({key: f"invalid format - {error}\n"}) from None


def check_ssh_keys(text: str) -> None:
    """ApiError unless every line holds a public key: its type, then base64 that begins with the same type."""
    for line in text.splitlines():
        words = line.split()
        if words and not any(_is_key(kind, blob) for kind, blob in pairwise(words)):
            raise ApiError("SSH public key validation error")


def _is_key(kind: str, blob: str) -> bool:
    try:
        data = base64.b64decode(blob, validate=True)
    except binascii.Error:
        return False
    size = int.from_bytes(data[:4], "big")
    return size > 0 and data[4 : 4 + size] == kind.encode()


def hookscript(g: GuestService, volid: str) -> str:
    """Path of a hook script; ApiError when it is no executable snippet."""
    path = g.storage.path(volid)
    if g.storage.parse(volid).kind != "snippets":
        raise ApiError(f"'{volid}' is not in the snippets directory")
    if not path.is_file():
        raise ApiError(f"script '{volid}' does not exist")
    if not os.access(path, os.X_OK):
        raise ApiError(f"script '{volid}' is not executable")
    return str(path)
