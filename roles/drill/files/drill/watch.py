# SPDX-License-Identifier: GPL-3.0-or-later
"""What guest_watch has said while a drill ran: whether anybody would have been told of the fault, and when.

It is read once, after the drill, from the journal of systemd, so that it takes nothing from a host in trouble. Its
times are those of CLOCK_MONOTONIC, which no clock that is set ahead or back changes.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from . import clock, shell
from .plan import Plan
from .shell import Trouble

UNIT = "pvelab-guest-watch.service"
# One that has died is there all the same as long as systemd has it start again.
THERE = ("active", "activating", "reloading")
RAISED, CHANGED = "raised: ", "changed: "
READ = ("journalctl", f"--unit={UNIT}", "--boot", "--output=json", "--output-fields=MESSAGE", "--no-pager", "--quiet")
_GUEST = re.compile(rf"(?:{RAISED}|{CHANGED})guest (\d+)\b")

Event = dict[str, Any]


def look(plan: Plan, inject: float | None, recover: float | None) -> tuple[list[Event], dict[str, float | None]]:
    """What it has said from the fault on, and the mark ``watch``: when it first raised an alert while the fault was
    there, None where it did not. There is no mark where it does not run, or where what it has said cannot be read."""
    if inject is None or plan.supervisor != "systemd":
        return [], {}
    try:
        if shell.unit(UNIT, "ActiveState").get("ActiveState") not in THERE:
            return [], {}
        lines = shell.run(READ).splitlines()
    except Trouble as why:
        told = f"what guest_watch has said cannot be read: {why}"
        return [{"at": clock.now(), "source": "runner", "guest": None, "text": told}], {}
    found = sorted((row for line in lines if (row := _said(line)) and row[0] >= inject), key=lambda row: row[0])
    first = next((at for at, told in found if told.startswith(RAISED) and (recover is None or at <= recover)), None)
    events = [{"at": at, "source": "guest_watch", "guest": _guest(plan, told), "text": told} for at, told in found]
    return events, {"watch": first}


def _said(line: str) -> tuple[float, str] | None:
    """When and what, from an entry of the journal; None for what is not an alert that begins or changes."""
    with suppress(ValueError, TypeError, KeyError):
        entry = json.loads(line)
        told = text(entry["MESSAGE"])
        if told.startswith((RAISED, CHANGED)):
            return round(clock.of_this_boot(int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6), 3), told
    return None


def text(message: str | list[int]) -> str:
    """A message as it was written: journald gives a list of bytes where it cannot print each of its characters."""
    return message if isinstance(message, str) else bytes(message).decode("utf-8", "replace")


def _guest(plan: Plan, told: str) -> int | None:
    found = _GUEST.match(told)
    return int(found[1]) if found and int(found[1]) in plan.listed else None
