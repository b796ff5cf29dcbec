# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks: long work with a UPID, a log and an exit status.

On disk: ``tasks/HEX/UPID`` is the log (HEX the last digit of the start time, as Proxmox VE shards them), whose
last line
carries the exit status; ``tasks/index`` has one line for every finished task: UPID, end time in hexadecimal, exit
status.
A task that was running when labnode died has a log and no line there: it gets ``unexpected status`` at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from labnode.errors import ApiError
from labnode.store import Store

log = logging.getLogger(__name__)

Worker = Callable[["Task"], Awaitable[None]]
UPID_RE = re.compile(
    r"^UPID:(?P<node>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?):(?P<pid>[0-9A-Fa-f]{8}):(?P<pstart>[0-9A-Fa-f]{8,9}):"
    r"(?P<start>[0-9A-Fa-f]{8}):(?P<type>[^:\s]+):(?P<id>[^:\s]*):(?P<user>[^:\s]+):$"
)
UNEXPECTED = "unexpected status"
INDEX = "tasks/index"


@dataclass(frozen=True)
class Upid:
    """The parts of a task id. ``pid`` and ``pstart`` are those of labnode with a counter, so ids never repeat."""

    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str

    def __str__(self) -> str:
        head = f"UPID:{self.node}:{self.pid:08X}:{self.pstart:08X}:{self.starttime:08X}"
        return f"{head}:{self.type}:{self.id}:{self.user}:"

    @staticmethod
    def parse(text: str) -> Upid:
        """Raises ApiError 400 for a text that is no UPID."""
        match = UPID_RE.match(text)
        if not match:
            raise ApiError(f"unable to parse worker upid '{text}'", 400)
        number = {k: int(match[k], 16) for k in ("pid", "pstart", "start")}
        return Upid(
            match["node"], number["pid"], number["pstart"], number["start"], match["type"], match["id"], match["user"]
        )


class Task:
    """What a worker gets: somewhere to write its log, and its own identity."""

    def __init__(self, upid: Upid, path: Path) -> None:
        self.upid = upid
        self.path = path
        self.warnings = 0

    @property
    def user(self) -> str:
        """Who started it."""
        return self.upid.user

    def log(self, line: str) -> None:
        """Append text to the log (several lines are allowed); visible to readers at once."""
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line.rstrip("\n") + "\n")

    def warn(self, line: str) -> None:
        """Log "WARN: ..." and count it: the task then ends with ``WARNINGS: n`` in place of ``OK``."""
        self.warnings += 1
        self.log(f"WARN: {line}")


@dataclass
class Entry:
    """One task as the lists show it; ``endtime`` and ``status`` are None while it runs."""

    upid: Upid
    endtime: int | None = None
    status: str | None = None

    def as_dict(self) -> dict[str, object]:
        """The fields of ``GET /nodes/{node}/tasks``."""
        u = self.upid
        shown: dict[str, object] = {
            "upid": str(u), "node": u.node, "pid": u.pid, "pstart": u.pstart, "starttime": u.starttime,
            "type": u.type, "id": u.id, "user": u.user,
        }  # fmt: skip
        if self.endtime is not None:
            shown["endtime"] = self.endtime
            shown["status"] = self.status
        return shown


class TaskService:
    """Starts tasks and remembers them. Call ``load`` once before use and ``stop`` before the end."""

    def __init__(self, node: str, store: Store) -> None:
        self.node = node
        self.store = store
        self._count = 0
        self._running: dict[str, tuple[Entry, asyncio.Task[None]]] = {}
        self._done: dict[str, Entry] = {}

    # life -----------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the index; tasks that have a log and no entry were cut off and get ``unexpected status``."""
        for line in self.store.read(INDEX).splitlines():
            entry = _parse_index(line)
            if entry:
                self._done[str(entry.upid)] = entry
        known = {upid.replace("/", "_") for upid in self._done}
        for shard in sorted(self.store.path("tasks").glob("[0-9A-F]")):
            for path in sorted(shard.iterdir()):
                if UPID_RE.match(path.name) and path.name not in known:
                    self._finish(Entry(Upid.parse(path.name), int(path.stat().st_mtime), UNEXPECTED))

    async def stop(self) -> None:
        """Cancel what runs and wait for it."""
        jobs = [job for _, job in self._running.values()]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def start(self, kind: str, ident: str, user: str, worker: Worker) -> str:
        """Run ``worker(task)`` in the background; returns the UPID at once (the log file exists by then)."""
        upid = self._new_upid(kind, ident, user)
        path = self._path(upid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o640)
        task = Task(upid, path)
        entry = Entry(upid)
        job = asyncio.get_running_loop().create_task(self._run(entry, task, worker), name=str(upid))
        self._running[str(upid)] = (entry, job)
        return str(upid)

    async def wait(self, upid: str, timeout: float | None = None) -> str | None:
        """The exit status once the task is over, or None when ``timeout`` seconds pass first."""
        found = self._running.get(upid)
        if found:
            await asyncio.wait({found[1]}, timeout=timeout)
        entry = self.get(upid)
        return entry.status if entry else None

    def cancel(self, upid: str) -> None:
        """Interrupt a running task (it ends with "received interrupt"); nothing happens when it is over."""
        found = self._running.get(upid)
        if found:
            found[1].cancel()

    # reading --------------------------------------------------------------------------------------------------------

    def get(self, upid: str) -> Entry | None:
        """The entry of a task, None when there never was one."""
        found = self._running.get(upid)
        return found[0] if found else self._done.get(upid)

    def active(self) -> list[Entry]:
        """Running tasks, newest first."""
        return [entry for entry, _ in reversed(self._running.values())]

    def archive(self) -> list[Entry]:
        """Finished tasks, the one that ended last first."""
        return list(reversed(self._done.values()))

    def log(self, upid: str, start: int = 0, limit: int = 50) -> tuple[list[dict[str, object]], int]:
        """Lines ``{n, t}`` from ``start`` (0 is the first), at most ``limit`` (0 means all), and the number of lines.

        An empty log reads as one line "no content", as Proxmox VE has it.
        """
        path = self._path(Upid.parse(upid))
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines = text.splitlines() or ["no content"]
        chosen = lines[start : start + limit] if limit else lines[start:]
        return [{"n": start + i + 1, "t": line} for i, line in enumerate(chosen)], len(lines)

    # inside ---------------------------------------------------------------------------------------------------------

    def _new_upid(self, kind: str, ident: str, user: str) -> Upid:
        while True:
            self._count += 1
            pid = (os.getpid() + self._count) & 0x7FFFFFFF
            upid = Upid(self.node, pid, process_start(), int(time.time()), kind, ident, user)
            if not self._path(upid).exists():
                return upid

    def _path(self, upid: Upid) -> Path:
        name = str(upid)
        return self.store.path(f"tasks/{upid.starttime % 16:X}/{name.replace('/', '_')}")

    async def _run(self, entry: Entry, task: Task, worker: Worker) -> None:
        status = await _outcome(task, worker)
        task.log(
            "TASK OK"
            if status == "OK"
            else f"TASK {status}"
            if status.startswith("WARNINGS: ")
            else f"TASK ERROR: {status}"
        )
        entry.endtime, entry.status = int(time.time()), status
        self._running.pop(str(entry.upid), None)
        self._finish(entry)

    def _finish(self, entry: Entry) -> None:
        self._done[str(entry.upid)] = entry
        path = self.store.path(INDEX)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as out:
            out.write(f"{entry.upid} {entry.endtime:08X} {entry.status}\n")
            out.flush()
            os.fsync(out.fileno())


async def _outcome(task: Task, worker: Worker) -> str:
    """Run a worker and say how it went: OK, WARNINGS: n or the text of its error on one line."""
    try:
        await worker(task)
    except ApiError as err:
        return re.sub(r"\s*\n\s*", " ", err.task_text().strip())
    except asyncio.CancelledError:
        return "received interrupt"
    except Exception as err:
        log.exception("task %s failed", task.upid)
        return re.sub(r"\s*\n\s*", " ", f"internal error: {type(err).__name__}: {err}")
    return f"WARNINGS: {task.warnings}" if task.warnings else "OK"


def _parse_index(line: str) -> Entry | None:
    parts = line.split(" ", 2)
    if len(parts) != 3 or not UPID_RE.match(parts[0]):
        return None
    return Entry(Upid.parse(parts[0]), int(parts[1], 16), parts[2])


def process_start() -> int:
    """Start time of this process in clock ticks since boot (field 22 of /proc/self/stat)."""
    return int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
