# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks in the configuration of a guest: who holds one, waiting for it, and telling a forgotten one from one in use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from .api_errors import Held, Locked, NotFound
from .api_tasks import Upid, upid
from .api_wire import Reply, Request
from .core import complaints

# Their tasks hold locks of guests that are not the ones in their names: a backup of many, the target of a clone.
_OF_OTHERS = frozenset({"vzdump", "qmclone", "vzclone", "qmigrate", "vzmigrate"})
_GUEST = re.compile(r"(/nodes/([^/]+)/(qemu|lxc)/(\d+))(?:/.*)?")
_POLL_S = 1.0
# A worker sets its lock and shows up among the tasks at about the same time.
_OWNERLESS_FOR_S = 5.0


class Line(Protocol):
    """What waiting for a lock needs of the seam."""

    def ask(self, path: str, /, **params: Any) -> Reply:
        """One GET. Raises Failure."""


class Locks:
    """Waits until the task that holds a guest's lock has released it. The lock is never skipped."""

    def __init__(self, line: Line, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self._line = line
        self._clock = clock
        self._pause = pause

    def wait(self, locked: Locked, request: Request, give_up: float, limit_s: float) -> None:
        """Return when the lock is gone. Raises Held after ``give_up`` (on the clock) and when no task holds it; Locked
        when it has only just gone."""
        found = _GUEST.fullmatch(request.path)
        lock = complaints.config_lock(locked.msg)
        if found is None or lock is None:
            raise locked
        guest, node, kind, vmid = found.groups()
        called = f"{'VM' if kind == 'qemu' else 'container'} {vmid}"
        if lock == "suspended":
            raise self._error(locked, f"{called} is suspended to disk. Start it, which resumes it, then run again.")
        owned = self._clock()
        while True:
            owner = self._owner(unquote(node), vmid)
            if not self._held(guest):
                # Gone, or it is the lock of another guest that the request is about: the next try tells.
                self._pause(_POLL_S)
                if self._clock() >= give_up:
                    raise locked
                return
            if owner is not None:
                owned = self._clock()
            elif self._clock() - owned > _OWNERLESS_FOR_S:
                tool = "qm" if kind == "qemu" else "pct"
                raise self._error(
                    locked,
                    f"{called} is locked ({lock}), but no task is running that could hold the lock: it was cut off. "
                    f"Check what it left behind, then remove the lock on {unquote(node)} with: {tool} unlock {vmid}",
                )
            if self._clock() >= give_up:
                by = f" by task {owner} of {owner.user}" if owner else ""
                raise self._error(
                    locked,
                    f"{called} is locked ({lock}){by}, and was not released within {limit_s:g} seconds. "
                    "Run again when that is over, or wait longer with api_lock_timeout.",
                )
            self._pause(_POLL_S)

    def _held(self, guest: str) -> bool:
        try:
            status = self._line.ask(f"{guest}/status/current").data
        except NotFound:
            return False
        return bool(isinstance(status, Mapping) and status.get("lock"))

    def _owner(self, node: str, vmid: str) -> Upid | None:
        """The running task that is likely to hold the guest's lock, or None."""
        listed = self._line.ask(f"/nodes/{node}/tasks", source="active").data or []
        # A running task has no end yet, and RUNNING or nothing for a status (pve-manager Tasks.pm).
        running = [t for t in listed if not t.get("endtime") and t.get("status", "RUNNING") == "RUNNING"]
        tasks = [u for u in (upid(t.get("upid")) for t in running) if u is not None]
        return next((u for u in tasks if u.id == vmid), next((u for u in tasks if u.kind in _OF_OTHERS), None))

    @staticmethod
    def _error(locked: Locked, msg: str) -> Held:
        return Held(msg, status=locked.status, request=locked.request, task_log=locked.task_log)
