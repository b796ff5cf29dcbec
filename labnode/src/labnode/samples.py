# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of node, guests and storages over time, kept in memory for a day: what Proxmox VE keeps in RRD files."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError
from labnode.resources import guest_rows, node_row, storage_rows

if TYPE_CHECKING:
    from labnode.node import Node

STEP_S = 60
_KEPT = 24 * 60
# Seconds a point stands for, and how many points, by time frame.
FRAMES = {
    "hour": (60, 59),
    "day": (1800, 48),
    "week": (10800, 56),
    "month": (43200, 60),
    "year": (604800, 52),
    "decade": (604800, 520),
}
_FIELDS = ("cpu", "maxcpu", "mem", "maxmem", "disk", "maxdisk", "netin", "netout", "diskread", "diskwrite")


class Samples:
    """A series of points by object id (``node``, ``qemu/100``, ``storage/local``)."""

    def __init__(self) -> None:
        self._points: dict[str, deque[dict[str, Any]]] = {}

    def add(self, ident: str, row: dict[str, Any], when: float) -> None:
        """Keep one point of an object."""
        point = {"time": int(when) // STEP_S * STEP_S, **{key: row[key] for key in _FIELDS if key in row}}
        self._points.setdefault(ident, deque(maxlen=_KEPT)).append(point)

    def series(self, ident: str, frame: str) -> list[dict[str, Any]]:
        """Points of a time frame, oldest first; where nothing was sampled a point has only its time."""
        step, count = FRAMES[frame]
        last = int(time.time()) // step * step - step
        grid = range(last - (count - 1) * step, last + 1, step)
        by_time: dict[int, dict[str, Any]] = {}
        for point in self._points.get(ident, ()):
            by_time[point["time"] // step * step] = point
        return [{**by_time.get(when, {}), "time": when} for when in grid]

    async def run(self, node: Node) -> None:
        """Take a sample of everything, once a minute, until cancelled."""
        while True:
            # A storage or guest that went away in between is sampled again in a minute, or not at all.
            with contextlib.suppress(ApiError):
                await self._take(node)
            await asyncio.sleep(STEP_S)

    async def _take(self, node: Node) -> None:
        now = time.time()
        self.add("node", node_row(node, node.system), now)
        for row in await guest_rows(node):
            self.add(row["id"], row, now)
        for row in await storage_rows(node):
            self.add(f"storage/{row['storage']}", row, now)
