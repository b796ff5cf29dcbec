# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on many guests at once: what may begin now, and which step may be sent now. Pure: it decides, others wait.

Three things bound it. A window says how much goes on at once; it opens while all goes well and halves when the node
says that it could not get a lock in time (additive increase, multiplicative decrease). Guests that need each other wait
for each other. And no more guests start at once than fit into the memory that the node has.

Nobody waits for work that has not begun, because work begins in the order of ``fleet_entries.begin_order`` only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .fleet_entries import LAST
from .steps import Call, Failure

_GUEST = re.compile(r"/nodes/(?P<node>[^/]+)/qemu(?:/(?P<vmid>\d+)(?P<below>/.*)?)?")
_DRIVE = re.compile(r"(?:ide|sata|scsi|virtio|efidisk|tpmstate)\d+")
# Not a volume that is there already: "local:8", "local:0,import-from=…", "local:cloudinit".
_NEW_VOLUME = re.compile(r"([^:,/]+):(?:[\d.]+|cloudinit)(?:,.*)?")
UP, DOWN = "up", "down"
# How much goes on at once to begin with, in all and of what Proxmox VE serialises.
FIRST = 8.0


@dataclass(frozen=True)
class Need:
    """What a step takes: ``way`` is UP for one that lets a guest run, DOWN for one that stops or removes it, or "".

    ``keys`` are what Proxmox VE serialises: allocations on a storage of a node, clones of one guest, removals.
    """

    way: str = ""
    keys: frozenset[str] = frozenset()


def need(step: Call) -> Need:
    """What a step takes of the node, by its request (PVE/Storage.pm cluster_lock_storage, API2/Qemu.pm clone_vm)."""
    found = _GUEST.fullmatch(step.path)
    if found is None:
        return Need()
    node, below = found["node"], found["below"] or ""
    if step.method == "DELETE" and not below:
        return Need(DOWN, frozenset({f"removals on {node}"}))
    if below in ("/status/start", "/status/resume"):
        return Need(UP)
    if below in ("/status/shutdown", "/status/stop"):
        return Need(DOWN)
    keys = {f"storage {s} on {node}" for s in _allocates(step)}
    if below == "/clone":
        keys.add(f"clones of {found['vmid']}")
    if below == "/resize":
        keys.add(f"resizing on {node}")
    if below == "/snapshot" and step.params.get("vmstate"):
        keys.add(f"saved memory on {node}")
    return Need("", frozenset(keys))


def _allocates(step: Call) -> set[str]:
    """The storages on which a step makes volumes."""
    if step.path.endswith(("/clone", "/move_disk")):
        return {str(step.params["storage"])} if step.params.get("storage") else set()
    heads = (_NEW_VOLUME.fullmatch(str(v)) for k, v in step.params.items() if _DRIVE.fullmatch(k))
    return {head[1] for head in heads if head}


@dataclass
class Window:
    """How much may go on at once: opens by one for each that goes well, more slowly after the first "busy"."""

    size: float
    top: int
    used: int = 0
    calm: bool = True

    @property
    def free(self) -> bool:
        """True when one more fits."""
        return self.used < int(self.size)

    def well(self) -> None:
        """Something went through."""
        self.size = min(float(self.top), self.size + (1.0 if self.calm else 1.0 / self.size))

    def busy(self) -> None:
        """The node could not keep up."""
        self.size, self.calm = max(1.0, self.size / 2), False


@dataclass(frozen=True)
class Job:
    """The work on one guest. ``end`` is UP when it is to run and does not yet, DOWN when it is to stop or go, else "".

    ``depends`` are jobs that it depends on, ``after`` those that have to end before it begins. ``memory`` in MiB.
    """

    name: str
    end: str = ""
    depends: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    order: int = LAST
    node: str = ""
    memory: int = 0


@dataclass
class Schedule:
    """What is under way. ``jobs`` are in the order in which they begin; ``memory`` is what nodes have free, in MiB.

    ``notes`` collects what people should know of its decisions.
    """

    jobs: Sequence[Job]
    window: Window
    memory: dict[str, int] = field(default_factory=dict)
    batch: int = 0
    notes: list[str] = field(default_factory=list)
    halted: str = ""
    _next: int = 0
    _ended: dict[str, bool] = field(default_factory=dict)
    _windows: dict[str, Window] = field(default_factory=dict)
    _starting: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {job.name: job for job in self.jobs}
        self._open = {way: _Orders(j.order for j in self.jobs if j.end == way) for way in (UP, DOWN)}
        self._dependents: dict[str, set[str]] = {}
        for job in self.jobs:
            for other in job.depends:
                self._dependents.setdefault(other, set()).add(job.name)

    @property
    def idle(self) -> bool:
        """True when nothing goes on and nothing will begin."""
        return self.window.used == 0 and (bool(self.halted) or self._next == len(self.jobs))

    @property
    def begun(self) -> int:
        """How many jobs have begun."""
        return self._next

    @property
    def left(self) -> list[str]:
        """The jobs that have not begun."""
        return [job.name for job in self.jobs[self._next :]]

    def begin(self) -> list[str]:
        """The jobs that begin now."""
        begun = []
        while not self.halted and self._next < len(self.jobs) and self.window.free and self._may_begin():
            begun.append(self.jobs[self._next].name)
            self._next += 1
            self.window.used += 1
        return begun

    def _may_begin(self) -> bool:
        if self.batch and self._next % self.batch == 0 and self.window.used:
            return False
        return all(name in self._ended for name in self.jobs[self._next].after)

    def blocked(self, name: str) -> str:
        """Why a job that begins has nothing to begin with, or ""."""
        failed = sorted(n for n in self._by_name[name].after if not self._ended[n])
        return f"it is cloned from {failed[0]}, which failed. Mend that, then run again." if failed else ""

    def end(self, name: str, ok: bool) -> None:
        """A job has come to its end."""
        self._ended[name] = ok
        self.window.used -= 1
        if ok:
            self.window.well()
        job = self._by_name[name]
        if job.end:
            self._open[job.end].drop(job.order)

    def enter(self, name: str, wants: Need) -> bool:
        """Whether a step may be sent now. If so it is counted until ``leave``. Raises Failure when it never may."""
        job = self._by_name[name]
        if wants.way == UP and not self._may_rise(job):
            return False
        if wants.way == DOWN and job.end == DOWN and not self._may_fall(job):
            return False
        windows = [self._window(key) for key in wants.keys]
        if not all(w.free for w in windows) or (wants.way == UP and not self._fits(job)):
            return False
        for window in windows:
            window.used += 1
        return True

    def leave(self, name: str, wants: Need, *, busy: bool = False) -> None:
        """A step is over; ``busy``: the node could not get a lock for it in time."""
        job = self._by_name[name]
        for key in wants.keys:
            window = self._window(key)
            window.used -= 1
            window.busy() if busy else window.well()
        if busy:
            self.window.busy()
        if wants.way == UP:
            self._starting[job.node] = self._starting.get(job.node, 0) - 1

    def busy(self, wants: Need) -> None:
        """The node could not get a lock in time, and is asked again for the same step."""
        for window in (self.window, *(self._window(key) for key in wants.keys)):
            window.busy()

    def _window(self, key: str) -> Window:
        return self._windows.setdefault(key, Window(min(FIRST, float(self.window.top)), self.window.top))

    def _may_rise(self, job: Job) -> bool:
        failed = sorted(d for d in job.depends if self._ended.get(d) is False)
        if failed:
            raise Failure(f"it depends on {failed[0]}, which failed. Mend that, then run again.")
        return all(d in self._ended for d in job.depends) and self._open[UP].first >= job.order

    def _may_fall(self, job: Job) -> bool:
        above = [n for n in self._dependents.get(job.name, ()) if self._by_name[n].end == DOWN]
        failed = sorted(n for n in above if self._ended.get(n) is False)
        if failed:
            raise Failure(f"{failed[0]} depends on it and has not gone down. Mend that, then run again.")
        return all(n in self._ended for n in above) and self._open[DOWN].last <= job.order

    def _fits(self, job: Job) -> bool:
        """More than fits is started one by one, because memory may be shared or swapped; and people are told."""
        starting = self._starting.get(job.node, 0)
        free = self.memory.get(job.node)
        if free is not None and job.memory > free:
            if starting:
                return False
            self._tell(job, free)
        if free is not None:
            self.memory[job.node] = free - job.memory
        self._starting[job.node] = starting + 1
        return True

    def _tell(self, job: Job, free: int) -> None:
        note = f"node {job.node} has no memory left for all guests that are to run, so the rest started one by one"
        if not any(n.startswith(note) for n in self.notes):
            self.notes.append(f"{note}: {job.name} wants {job.memory} MiB, and {max(free, 0)} MiB were left.")


class _Orders:
    """The orders of starting of the jobs that are not at their end."""

    def __init__(self, orders: Iterable[int]) -> None:
        self._count: dict[int, int] = {}
        for order in orders:
            self._count[order] = self._count.get(order, 0) + 1

    def drop(self, order: int) -> None:
        self._count[order] -= 1
        if not self._count[order]:
            del self._count[order]

    @property
    def first(self) -> int:
        return min(self._count, default=LAST)

    @property
    def last(self) -> int:
        return max(self._count, default=-1)
