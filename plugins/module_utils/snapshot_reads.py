# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module snapshot asks about a guest before it knows what to do. Reads only, through the given seam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .core.snapshots import Listing, check_snapshot_options
from .core.steps import Failure, Missing
from .reads import GuestRef, Reader, find_guest

# What takes, removes and rolls back snapshots, and the locks that it holds meanwhile (pve-guest-common AbstractConfig).
SNAPSHOT_TASKS = ("qmsnapshot", "qmdelsnapshot", "qmrollback")
SNAPSHOT_LOCKS = ("snapshot", "snapshot-delete")


def survey(api: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The guest and its snapshots before anything is done. Warns of half ones. Raises Missing or Failure.

    Adds ``_guest`` (None: there is none, and nothing is to be), ``_before`` and ``_lock`` (as ``abandoned_lock``).
    """
    check_snapshot_options(params)
    ref = find_guest(api, params)
    if ref is None:
        return {"_guest": None}
    before = Listing.of(api.get(f"{ref.path}/snapshot"))
    asked, series = before.get(params["snapname"]), (params["retention"] or {}).get("pattern")
    if asked is None and params["vmstate"] and params["state"] == "present" and not before.running:
        raise Missing(f"guest {ref} is not running, so it has no RAM to save. Start it or leave out vmstate.")
    api.warnings += [
        f"Snapshot {s.name} of guest {ref} was cut off half way (snapstate {s.half}). Retention leaves it alone."
        for s in before.half(series)
        if s != asked
    ]
    return {"_guest": ref, "_before": before, "_lock": abandoned_lock(api, ref) if asked and asked.half else None}


def abandoned_lock(api: Reader, guest: GuestRef) -> str:
    """The lock that a half snapshot has left on its guest, or "". Raises Failure while a task still works on one."""
    active = api.get(f"/nodes/{quote(guest.node, safe='')}/tasks", source="active", vmid=guest.vmid)
    for task in active:
        if task.get("type") in SNAPSHOT_TASKS and not task.get("endtime"):
            raise Failure(
                f"a task still works on the snapshots of guest {guest} ({task['upid']}). Run again when it is over."
            )
    lock = str(api.get(f"{guest.path}/config").get("lock") or "")
    return lock if lock in SNAPSHOT_LOCKS else ""
