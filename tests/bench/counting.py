# SPDX-License-Identifier: GPL-3.0-or-later
"""What was asked of a labnode, counted by itself: with --verbose it tells every request, with its number on its line.

Nothing stands in between that could slow down one client more than another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_REQUEST = re.compile(r"request (\d+): ([A-Z]+) (?:/api2/json)?(\S+) \d+$", re.MULTILINE)
_POLL = re.compile(r"GET /nodes/[^/]+/tasks/[^/]+/status$")


@dataclass
class Asked:
    """Requests, the connections that they came over, and the seconds of CPU of labnode with its children.

    ``requests`` are such as "GET /nodes/pve1/qemu", in their order.
    """

    requests: list[str] = field(default_factory=list)
    connections: int = 0
    cpu_s: float = 0.0

    @property
    def calls(self) -> int:
        """How many requests."""
        return len(self.requests)

    @property
    def needed(self) -> list[str]:
        """Those that are not to find out whether a task has ended, of which a slower node is asked more often."""
        return [request for request in self.requests if not _POLL.search(request)]


class Counter:
    """Counts for a labnode that was started with --verbose and logs to ``log``."""

    def __init__(self, log: Path, pid: int) -> None:
        self._log = log
        self._node = psutil.Process(pid)

    @contextmanager
    def counted(self) -> Iterator[Asked]:
        """What is asked while the block runs; known when it has ended."""
        asked, before = Asked(), self._cpu_s()
        start = self._log.stat().st_size
        yield asked
        asked.cpu_s = self._cpu_s() - before
        with self._log.open("rb") as log:
            log.seek(start)
            told = _REQUEST.findall(log.read().decode("utf-8", "replace"))
        asked.requests = [f"{method} {path}" for _number, method, path in told]
        asked.connections = sum(number == "1" for number, *_rest in told)

    def _cpu_s(self) -> float:
        used = self._node.cpu_times()
        return float(used.user + used.system + used.children_user + used.children_system)
