# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of volumes that are being made, so that a killed node leaves no orphan.

A volume is entered before it is made. The entry goes when the work that made it ends (well or with an error it
cleaned up after) or
when the volume is removed. After a kill the entries are still there: at the next start a volume that no configuration
names is removed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from labnode.store import Store

FILE = "run/volumes-in-the-making.json"


class Journal:
    """Volume ids of unfinished work, on disk."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def entries(self) -> list[str]:
        """What is in the making."""
        text = self.store.read(FILE)
        return [str(item) for item in json.loads(text)] if text else []

    def enter(self, volid: str) -> None:
        """Note a volume; forgotten by itself when the current asyncio task ends in this process."""
        self.store.write(FILE, json.dumps(sorted({*self.entries(), volid})))
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(self._done(volid))

    def _done(self, volid: str) -> Callable[[asyncio.Task[object]], None]:
        return lambda _task: self.forget(volid)

    def forget(self, *volids: str) -> None:
        """Strike volumes off."""
        have = self.entries()
        left = [item for item in have if item not in volids]
        if left != have:
            self.store.write(FILE, json.dumps(left))

    def rename(self, old: str, new: str) -> None:
        """The volume goes by another id now."""
        if old in self.entries():
            self.forget(old)
            self.enter(new)
