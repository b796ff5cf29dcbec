# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending changes: what waits in ``[PENDING]`` until a running guest stops (pure)."""

from __future__ import annotations

from typing import Any

from labnode.guests import options
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.propstring import split_list

MASK = "**********"


def deletes(conf: GuestConfig) -> dict[str, bool]:
    """Options that wait to be deleted; True where the deletion also destroys the volume (``!scsi1``)."""
    return {item.lstrip("!"): item.startswith("!") for item in split_list(conf.pending.get("delete", ""))}


def set_deletes(conf: GuestConfig, found: dict[str, bool]) -> None:
    """Write the deletions down, sorted; none at all leaves no ``delete`` line."""
    if found:
        conf.pending["delete"] = ",".join(("!" if force else "") + key for key, force in sorted(found.items()))
    else:
        conf.pending.pop("delete", None)


def add_delete(conf: GuestConfig, key: str, force: bool = False) -> None:
    """Let ``key`` wait to be deleted."""
    set_deletes(conf, {**deletes(conf), key: force})


def remove_delete(conf: GuestConfig, key: str) -> None:
    """``key`` no longer waits to be deleted."""
    set_deletes(conf, {k: v for k, v in deletes(conf).items() if k != key})


def cleanup(conf: GuestConfig) -> bool:
    """Forget pending values equal to the current ones and deletions of what is not there; whether any were."""
    before = dict(conf.pending)
    for key in list(conf.pending):
        if key != "delete" and conf.main.get(key) == conf.pending[key]:
            del conf.pending[key]
    set_deletes(conf, {k: v for k, v in deletes(conf).items() if k in conf.main})
    return conf.pending != before


def merged(conf: GuestConfig) -> Section:
    """The configuration as it will be after the next start."""
    gone = deletes(conf)
    found = {**conf.main, **{k: v for k, v in conf.pending.items() if k != "delete"}}
    return {k: v for k, v in found.items() if k not in gone}


def shown(section: Section, digest: str | None = None) -> dict[str, Any]:
    """A section as the API shows it: numbers where the option is one, passwords masked, ``digest`` added when given."""
    found: dict[str, Any] = {k: options.typed(k, v) for k, v in section.items()}
    if "cipassword" in found:
        found["cipassword"] = MASK
    if digest is not None:
        found["digest"] = digest
    return found


def listing(conf: GuestConfig) -> list[dict[str, Any]]:
    """``GET .../pending``: options with value, pending value, and ``delete`` 1 or 2 (2 destroys the volume)."""
    waiting = shown({k: v for k, v in conf.pending.items() if k != "delete"})
    gone = deletes(conf)
    rows: list[dict[str, Any]] = []
    for key, value in shown(conf.main, conf.digest).items():
        row = {"key": key, "value": value}
        if key in waiting:
            row["pending"] = waiting.pop(key)
        if key in gone:
            row["delete"] = 2 if gone.pop(key) else 1
        rows.append(row)
    rows += [{"key": key, "pending": value} for key, value in waiting.items()]
    return rows + [{"key": key, "delete": 2 if force else 1} for key, force in gone.items()]
