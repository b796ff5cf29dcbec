# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services of the host have said while a drill ran: those of Proxmox VE, qmeventd, ZFS, device-mapper.

The journal of systemd keeps it, so it is read once, after the drill, from where it stood when the drill began: nothing
is taken from a host in trouble, and what a run that is cut off has not read is still there. A cursor is a place in the
journal that no clock changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import clock, shell
from .plan import Plan
from .shell import Trouble
from .watch import text

# qmeventd is told by each QEMU of its end, and has Proxmox VE clean up: "Starting cleanup for 103".
UNITS = ("pve*", "qmeventd*", "spiceproxy*", "corosync*", "zfs*", "dm-event*", "lvm2*", "smartmontools*", "ksmtuned*")
MOST = 150
BOOT = Path("/proc/sys/kernel/random/boot_id")
COMMON = ("journalctl", "--output=json", "--no-pager", "--quiet")
FIELDS = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_BOOT_ID,__MONOTONIC_TIMESTAMP"

Event = dict[str, Any]


def cursor(plan: Plan) -> str:
    """The place in the journal at which it ends now; nothing where there is none, or nobody may read it."""
    if plan.supervisor != "systemd":
        return ""
    with suppress(Trouble, ValueError, KeyError, IndexError, TypeError):
        return str(json.loads(shell.run([*COMMON, "--lines=1"], timeout_s=20.0).splitlines()[-1])["__CURSOR"])
    return ""


def since(place: str) -> list[Event]:
    """What they have said after it. Where it cannot be read, one event that says why."""
    if not place:
        return []
    units = [f"--unit={unit}" for unit in UNITS]
    try:
        lines = shell.run([*COMMON, FIELDS, f"--after-cursor={place}", *units]).splitlines()
    except Trouble as why:
        told = f"what the services of the host have said cannot be read: {why}"
        return [{"at": clock.now(), "source": "runner", "guest": None, "text": told}]
    return _few([event for line in lines if (event := _event(line))])


def _event(line: str) -> Event | None:
    """One entry; None for what is none."""
    with suppress(ValueError, TypeError, KeyError):
        entry = json.loads(line)
        at = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
        # The clock of a run goes on after a boot; before it, it was that boot's own.
        now = entry.get("_BOOT_ID") == BOOT.read_text(encoding="ascii").strip().replace("-", "")
        told = f"{entry.get('SYSLOG_IDENTIFIER', 'somebody')}: {text(entry['MESSAGE'])}"
        return {"at": round(clock.of_this_boot(at) if now else at, 3), "source": "journal", "guest": None, "text": told}
    return None


def _few(events: Iterable[Event]) -> list[Event]:
    """Not more than can be read; what is left out is said."""
    found = list(events)
    if len(found) <= MOST:
        return found
    kept = found[:MOST]
    told = f"{len(found) - MOST} more lines of the host's services are in its own journal"
    return [*kept, {"at": kept[-1]["at"], "source": "runner", "guest": None, "text": told}]
