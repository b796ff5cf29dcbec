# SPDX-License-Identifier: GPL-3.0-or-later
"""Many views of one cluster, for work on many objects at once: what one has read, others need not ask for.

A view never sees what is older than its own last write, so it reads back what it has done. Whoever asks for what is
just being read waits for that answer.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from .api_errors import Held, Interrupted, Locked
from .api_termination import Bell
from .core import complaints
from .core.fleet import Need, Schedule, need
from .core.steps import Call, Failure

# What work on guests does not change, so that it is read once in a run.
_FIXED = re.compile(r"/nodes|/version|/pools|/cluster/(?:nextid|options)|/nodes/[^/]+/(?:storage|network)")
_LIST = re.compile(r"(/nodes/[^/]+/qemu)")
# How long one step is tried for again while the node cannot get a lock for it.
BUSY_FOR_S = 300.0

Key = tuple[str, tuple[tuple[str, Any], ...]]


class Part(Protocol):
    """What a view needs of the seam."""

    warnings: list[str]
    busy: Callable[[], None]

    def get(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET. Raises Failure."""

    def do(self, step: Call) -> Any:
        """One write, to its end. Raises Failure."""

    def wait(self, task: str, timeout_s: float | None = None) -> None:
        """Wait for a task. Raises Failure."""


class Member(Protocol):
    """Makes a part of the seam for one thread."""

    def __call__(self, bell: Bell, *, read_only: bool) -> Part:
        """A part that has a list of warnings of its own."""


@dataclass
class _Answer:
    """An answer, or one that is under way. ``began`` is when it was asked for."""

    began: float
    here: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    lost: bool = False


class Kept:
    """What was read, and when. For several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._answers: dict[Key, _Answer] = {}

    def read(self, key: Key, since: float, load: Callable[[], Any]) -> Any:
        """An answer that was asked for at ``since`` or later: one that is here or under way, else that of ``load``."""
        while True:
            with self._lock:
                known = self._answers.get(key)
                if known is None or known.began < since:
                    mine = self._answers[key] = _Answer(self.clock())
                    break
            known.here.wait()
            if not known.lost:
                return known.value
        return self._load(key, mine, load)

    def put(self, path: str, value: Any, began: float, **params: Any) -> None:
        """Keep what another answer has told already, unless something newer is known."""
        told = _Answer(began, value=value)
        told.here.set()
        with self._lock:
            known = self._answers.get(_key(path, params))
            if known is None or known.began < began:
                self._answers[_key(path, params)] = told

    def _load(self, key: Key, mine: _Answer, load: Callable[[], Any]) -> Any:
        try:
            mine.value = load()
        except BaseException:
            mine.lost = True
            with self._lock:
                if self._answers.get(key) is mine:
                    del self._answers[key]
            raise
        finally:
            mine.here.set()
        return mine.value


def _key(path: str, params: Mapping[str, Any]) -> Key:
    return path, tuple(sorted((k, v) for k, v in params.items() if v is not None))


class Gate:
    """Lets steps pass as the schedule says. For several threads."""

    def __init__(self, schedule: Schedule, bell: Bell) -> None:
        self.schedule = schedule
        self.changed = threading.Condition()
        self._bell = bell

    @contextmanager
    def passed(self, name: str, wants: Need) -> Iterator[None]:
        """Wait until a step may be sent, and count it while it goes on. Raises Failure, Interrupted among them."""
        with self.changed:
            while True:
                if self._bell.rung():
                    raise Interrupted("the run was interrupted before this was begun. Run it again for the rest.")
                if self.schedule.enter(name, wants):
                    break
                self.changed.wait(0.5)
        try:
            yield
        finally:
            with self.changed:
                self.schedule.leave(name, wants)
                self.changed.notify_all()

    def busy(self, wants: Need) -> None:
        """The node could not get a lock in time."""
        with self.changed:
            self.schedule.busy(wants)


class View:
    """The cluster as the work on one object sees it. ``refused`` are ids that others had when it wanted them."""

    def __init__(self, part: Part, kept: Kept, since: float, name: str = "", gate: Gate | None = None) -> None:
        self.warnings = part.warnings
        self.refused: set[int] = set()
        self._part = part
        self._kept = kept
        self._since = since
        self._name = name
        self._gate = gate

    def get(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET, as new as this view's last write. Raises Failure."""
        since = float("-inf") if _FIXED.fullmatch(path) else self._since
        return self._kept.read(_key(path, params), since, lambda: self._load(path, params))

    def find(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET, or None when there is no such object. Raises Failure."""
        try:
            return self.get(path, **params)
        except Failure as failure:
            if complaints.is_missing(failure):
                return None
            raise

    def look_again(self) -> None:
        """See nothing from now on that was read before."""
        self._since = self._kept.clock()

    def wait(self, task: str, timeout_s: float | None = None) -> None:
        """Wait for a task of somebody else. Raises Failure."""
        try:
            self._part.wait(task, timeout_s)
        finally:
            self.look_again()

    def do(self, step: Call) -> Any:
        """One write to its end, when the schedule lets it pass, and again while the node has no lock for it.

        Raises Failure.
        """
        wants = need(step)
        give_up = self._kept.clock() + BUSY_FOR_S
        while True:
            try:
                return self._do(step, wants)
            except Held:
                raise
            except Locked as locked:
                if complaints.config_lock(locked.msg) or self._gate is None or self._kept.clock() >= give_up:
                    raise
                self._gate.busy(wants)
            except Failure as failure:
                if complaints.is_taken(failure.msg):
                    self.refused |= {int(step.params[k]) for k in ("vmid", "newid") if step.params.get(k)}
                raise

    def _do(self, step: Call, wants: Need) -> Any:
        if self._gate is None:
            try:
                return self._part.do(step)
            finally:
                self.look_again()
        gate = self._gate
        with gate.passed(self._name, wants):
            self._part.busy = lambda: gate.busy(wants)
            try:
                return self._part.do(step)
            finally:
                self.look_again()

    def _load(self, path: str, params: Mapping[str, Any]) -> Any:
        began = self._kept.clock()
        value = self._part.get(path, **params)
        if _LIST.fullmatch(path):
            self._tell(path, value, began, full=bool(params.get("full")))
        return value

    def _tell(self, path: str, rows: list[dict[str, Any]], began: float, *, full: bool) -> None:
        """A list of guests tells how each runs; whether one that runs is halted it tells only when asked in full."""
        for row in rows:
            if full or row.get("status") == "stopped":
                self._kept.put(f"{path}/{row['vmid']}/status/current", row, began)
        if full:
            self._kept.put(path, rows, began)


class Crew:
    """Makes views that share what they read. To be entered in the main thread, which then only waits."""

    def __init__(self, member: Member, close: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.bell = Bell()
        self.lock = threading.Lock()
        self.kept = Kept(clock)
        self._member = member
        self._close = close

    def __enter__(self) -> Crew:
        self.bell.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bell.__exit__(*error)
        self._close()

    def looking(self) -> View:
        """A view that only reads."""
        return View(self._member(self.bell, read_only=True), self.kept, float("-inf"))

    def working(self, name: str, gate: Gate | None, oldest_s: float) -> View:
        """A view for work on one object, which sees nothing that was read more than ``oldest_s`` seconds ago.

        Without a gate its steps wait for nobody.
        """
        since = self.kept.clock() - oldest_s
        return View(self._member(self.bell, read_only=False), self.kept, since, name, gate)

    def gate(self, schedule: Schedule) -> Gate:
        """Where steps wait until the schedule lets them pass."""
        return Gate(schedule, self.bell)
