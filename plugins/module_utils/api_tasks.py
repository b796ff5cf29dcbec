# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of Proxmox VE: what a UPID says, waiting for its end, and its log where the error is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from .api_errors import Interrupted, Locked, TaskFailed, TimedOut, Unreachable
from .api_termination import Termination
from .api_wire import Reply
from .core import complaints
from .core.progress import Progress
from .core.steps import Failure

# UPID:node:pid:pstart:starttime:type:id:user: (pve-common UPID.pm); the id may be empty.
_UPID = re.compile(
    r"UPID:(?P<node>[A-Za-z0-9][A-Za-z0-9-]*):(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):"
    r"(?P<start>[0-9A-Fa-f]{8}):(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):"
)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
# Of what tasks of the same kind took, so much goes by before the next one is asked for. What is noted is when the end
# was learnt of, which is later than the end, so all of it would only ever grow.
_LEAD, LONGEST_LEAD_S = 0.7, 1.0
# The node may know a task only moments after it has named it.
UNKNOWN_FOR_S = 5.0
# How long the node may be out of reach while a task runs there: pveproxy restarts, networks reload.
OUT_OF_REACH_FOR_S = 60.0
TAIL_LINES = 20
# How often the log of a running task is read for somebody who watches.
WATCHED_EVERY_S = 2.0
_PAGE = 500


@dataclass(frozen=True)
class Upid:
    """A task's name, taken apart. ``start`` is in seconds since 1970, by the clock of ``node``."""

    text: str
    node: str
    start: int
    kind: str
    id: str
    user: str

    @property
    def path(self) -> str:
        """The task's API path. A UPID holds ":", "@" and "!", so it is encoded."""
        return f"/nodes/{quote(self.node, safe='')}/tasks/{quote(self.text, safe='')}"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}".strip() + f" on {self.node}"


def upid(data: Any) -> Upid | None:
    """The Upid that an answer holds, or None where it is something else."""
    found = _UPID.fullmatch(data) if isinstance(data, str) else None
    if found is None:
        return None
    return Upid(found[0], found["node"], int(found["start"], 16), found["type"], found["id"], found["user"])


class Line(Protocol):
    """What waiting needs of the seam."""

    warnings: list[str]
    progress: Progress

    def ask(self, path: str, /, **params: Any) -> Reply:
        """One GET with everything that came beside its data. Raises Failure."""


class Pace:
    """How long tasks of each kind took so far, in seconds. Those who wait for many at once share one.

    Whoever asks while a task cannot be over yet keeps the node from working on it.
    """

    def __init__(self) -> None:
        self._took: dict[str, float] = {}

    def lead_s(self, kind: str) -> float:
        """How long to wait before it is first asked for; 0 where no such task has ended yet."""
        return min(_LEAD * self._took.get(kind, 0.0), LONGEST_LEAD_S)

    def note(self, kind: str, seconds: float) -> None:
        """A task has ended, as far as one knows who asked for it so late. The newest count most."""
        before = self._took.get(kind, seconds)
        self._took[kind] = before + (seconds - before) / 2


class Waiter:
    """Waits for tasks. ``clock`` and ``pause`` are handed in so that tests do not wait."""

    def __init__(self, line: Line, clock: Callable[[], float], pause: Callable[[float], None]) -> None:
        self.pace = Pace()
        self._line = line
        self._clock = clock
        self._pause = pause

    def wait(self, task: Upid, timeout_s: float, termination: Termination) -> None:
        """Return when the task has succeeded, with or without warnings, which go to the seam's own.

        Raises TaskFailed or, for one that could not get its lock and did nothing, Locked; TimedOut and Interrupted,
        with the task running on; Unreachable when the node stays away for a minute; Unauthorized and Forbidden.
        """
        try:
            status = self._ended(task, timeout_s, termination)
        except KeyboardInterrupt:
            raise Interrupted(
                f"the run was interrupted while task {task} was running. The task goes on: {task.text}"
            ) from None
        exit_status = str(status.get("exitstatus") or "no exit status")
        if exit_status == "OK":
            return
        if re.match(r"WARNINGS: \d+$", exit_status):
            self._line.warnings += self._warned(task, exit_status)
            return
        raise self._failed(task, exit_status)

    def head(self, task: Upid, lines: int = TAIL_LINES) -> list[str]:
        """The first lines of the task's log. Raises Failure."""
        return _texts(self._line.ask(f"{task.path}/log", start=0, limit=lines).data)

    def tail(self, task: Upid, lines: int = TAIL_LINES) -> list[str]:
        """The last lines of the task's log. Raises Failure."""
        found = self._line.ask(f"{task.path}/log", start=0, limit=_PAGE)
        log, total = _texts(found.data), found.total or 0
        if total > len(log):
            log = _texts(self._line.ask(f"{task.path}/log", start=max(0, total - lines), limit=lines).data)
        elif found.total is None:
            # pvesh does not say how long the log is.
            page = log
            while len(page) == _PAGE:
                page = _texts(self._line.ask(f"{task.path}/log", start=len(log), limit=_PAGE).data)
                log += page
        return log[-lines:]

    def _ended(self, task: Upid, timeout_s: float, termination: Termination) -> Mapping[str, Any]:
        """Ask with growing pauses until the task has stopped."""
        began = reached = self._clock()
        pause = FIRST_PAUSE_S
        watched = _Watched(self._line, task, began)
        lead = self.pace.lead_s(task.kind)
        if lead:
            termination.check()
            self._pause(min(lead, timeout_s))
        while True:
            termination.check()
            try:
                status = self._line.ask(f"{task.path}/status").data
                reached = self._clock()
                if isinstance(status, Mapping) and status.get("status") == "stopped":
                    self.pace.note(task.kind, reached - began)
                    return status
            except Unreachable:
                if self._clock() - reached > OUT_OF_REACH_FOR_S:
                    raise
            except Failure as failure:
                if failure.status not in (400, 500) or self._clock() - began > UNKNOWN_FOR_S:
                    raise
            left = timeout_s - (self._clock() - began)
            if left <= 0:
                raise TimedOut(
                    f"task {task} is still running after {timeout_s:g} seconds. It goes on; look at its log, "
                    f"or give it longer with api_task_timeout: {task.text}"
                )
            watched.show(self._clock())
            self._pause(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _failed(self, task: Upid, exit_status: str) -> Failure:
        log = self._log_of_failure(task)
        if complaints.is_lock_timeout(exit_status) and _did_nothing(log, exit_status):
            return Locked(_sentence(f"task {task} failed: {exit_status}", exit_status), task_log=log)
        if complaints.config_lock(exit_status) and _did_nothing(log, exit_status):
            return Locked(f"task {task} failed: {exit_status}.", task_log=log)
        if exit_status == "unexpected status":
            cause = f"task {task} was killed or its node restarted while it ran"
            return TaskFailed(f"{cause}. Look at what it left behind, then run again.", task_log=log)
        return TaskFailed(_sentence(f"task {task} failed: {exit_status}", exit_status), task_log=log)

    def _log_of_failure(self, task: Upid) -> list[str]:
        try:
            return self.tail(task)
        except Failure as failure:
            return [f"(the log of {task.text} cannot be read: {failure.msg})"]

    def _warned(self, task: Upid, exit_status: str) -> list[str]:
        lines = [line for line in self._log_of_failure(task) if re.match(r"(?:WARN|WARNING)\b:?", line)]
        told = [re.sub(r"^(?:WARN|WARNING)\b:?\s*", "", line) for line in lines] or [exit_status]
        return [f"task {task}: {text}" for text in told]


class _Watched:
    """Shows the last line of a task's log, where somebody watches; else it asks the node nothing."""

    def __init__(self, line: Line, task: Upid, began: float) -> None:
        self._line = line
        self._task = task
        self._looked = began
        self._read = 0

    def show(self, now: float) -> None:
        """Tell the newest line. A log that cannot be read now is no reason to stop waiting."""
        if not self._line.progress.listens or now - self._looked < WATCHED_EVERY_S:
            return
        self._looked = now
        try:
            found = self._line.ask(f"{self._task.path}/log", start=self._read, limit=_PAGE)
        except Failure:
            return
        texts = _texts(found.data)
        # The last line is read again, so that there is always one; of a long log the middle is left out.
        self._read = max(found.total or 0, self._read + len(texts)) - 1 if texts else self._read
        said = [text for text in texts if text.strip()]
        if said:
            self._line.progress.tell(text=f"{self._task.kind} {self._task.id}: {said[-1]}")


def _did_nothing(log: list[str], exit_status: str) -> bool:
    """True when a log shows nothing but waiting for a lock and failing on it."""
    idle = re.compile(r"trying to a[cq]+uire (?:cfs )?lock|\s*(?:OK|failed)?$|TASK ERROR: ")
    return all(idle.match(line) or line.strip() == exit_status for line in log)


def _sentence(cause: str, text: str) -> str:
    return f"{cause.rstrip('.')}. {complaints.remedy(text)}".rstrip()


def _texts(data: Any) -> list[str]:
    return [str(line.get("t", "")) for line in data or [] if isinstance(line, Mapping)]
