# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud-init data of a guest: what its drive was last made from, what changed since, and making it anew.

``[special:cloudinit]`` keeps, for every option changed since, the value the drive was made from; ``added`` lists
options that were not there then (``cloudinit_record_changed`` of qemu-server).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labnode.guests import options
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import drives
from labnode.guests.pending import MASK
from labnode.guests.propstring import split_list

if TYPE_CHECKING:
    from labnode.guests.service import GuestService


def concerns(key: str) -> bool:
    """Whether an option goes into the cloud-init data."""
    return key in options.CLOUDINIT or key == "name" or options.kind(key) in ("net", "ipconfig")


def drive_key(section: Section) -> str | None:
    """The option that holds the guest's cloud-init drive, None when it has none."""
    return next((d.key for d in drives(section) if d.is_cloudinit), None)


def record(conf: GuestConfig, key: str, old: str | None, new: str | None) -> None:
    """Note that an option of a running guest changed from ``old`` to ``new`` (None: not set)."""
    if not concerns(key) or (old is None and new is None) or drive_key(conf.main) is None:
        return
    made = conf.special.setdefault("cloudinit", {})
    added = set(split_list(made.pop("added", "")))
    if key in made:
        if made[key] == new:
            del made[key]
    elif key in added:
        if new is None:
            added.discard(key)
    elif old is None:
        added.add(key)
    else:
        made[key] = old
    if added:
        made["added"] = ",".join(sorted(added))
    if not made:
        del conf.special["cloudinit"]


def has_changes(conf: GuestConfig) -> bool:
    """Whether the drive is no longer what its options say."""
    return bool(conf.special.get("cloudinit")) and drive_key(conf.main) is not None


def listing(conf: GuestConfig) -> list[dict[str, Any]]:
    """``GET .../cloudinit``: ``value`` as on the drive, ``pending`` as it would be, ``delete`` 1 for what would go."""
    made = {k: v for k, v in conf.special.get("cloudinit", {}).items() if k != "added"}
    added = split_list(conf.special.get("cloudinit", {}).get("added", ""))
    rows: list[dict[str, Any]] = [{"key": k, "pending": _value(conf.main, k)} for k in added if k in conf.main]
    for key in sorted(k for k in conf.main if concerns(k) and k not in added):
        if key in made:
            rows.append({"key": key, "value": _value(made, key), "pending": _value(conf.main, key)})
        elif key != "name" and options.kind(key) != "net":
            rows.append({"key": key, "value": _value(conf.main, key)})
    return rows + [{"key": k, "delete": 1} for k in sorted(made) if k not in conf.main]


def _value(section: Section, key: str) -> int | str:
    return MASK if key == "cipassword" else options.typed(key, section[key])


async def regenerate(g: GuestService, vmid: int, conf: GuestConfig) -> None:
    """Make the drive anew from the present options (a running guest sees the new medium). Hold the flock."""
    if drive_key(conf.main) is None:
        return
    await g.machines.cloudinit_write(vmid, conf.main)
    if conf.special.pop("cloudinit", None) is not None:
        g.save(vmid, conf)
