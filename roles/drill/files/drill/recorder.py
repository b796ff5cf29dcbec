# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens while a drill runs, seen from the host: ten samples a second, and each line a canary says.

Every sample is on the disk before the next is taken, so a run that is cut off leaves what it has seen. A sample that
comes late is a gap, and the gap is noted.
"""

from __future__ import annotations

import json
import os
import resource
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from . import site
from .canary import Heard
from .node import Node, Silent
from .plan import Plan
from .shell import Trouble

HZ = 10.0
LATE_S = 0.5
API_EVERY_S = 1.0
FILL_EVERY_S = 1.0
# How long a listener waits before it knocks again where nobody answers.
AGAIN_S = 0.1

Event = dict[str, Any]


class Recorder:
    """Listens and looks from ``start`` to ``stop``; what it has seen may be read meanwhile. Times are monotonic."""

    def __init__(self, plan: Plan, fill: Mapping[str, Callable[[], float]] | None = None) -> None:
        self.plan, self.fill = plan, dict(fill or {})
        self.heard: dict[int, Heard] = {vmid: Heard() for vmid in plan.listed}
        self.alive: dict[int, int | None] = {}
        self.status: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self.api: bool | None = None
        self.told: list[tuple[float, str]] = []
        self.kernel: list[tuple[float, str]] = []
        self.events: list[Event] = []
        self.reached: dict[str, list[tuple[float, float | None]]] = {}
        self.gaps: list[dict[str, float]] = []
        self.samples = 0
        self.began = 0.0
        self._levels: dict[str, float] = {}
        self._doors: dict[str, int] = {}
        self._lives: dict[int, tuple[int, int]] = {}
        self._last = 0.0
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        self.began = self._last = time.monotonic()
        loops = [self._listen, self._sample, self._ask]
        loops += [self._reach] if self.plan.reach else []
        loops += [self._measure_fill] if self.fill else []
        for loop in loops:
            thread = threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End; returns when the last sample is written."""
        now = time.monotonic()
        self._ends.set()
        for thread in self._threads:
            thread.join(30.0)
        self._tick(now)

    def event(self, source: str, text: str, guest: int | None = None, at: float | None = None) -> None:
        """Note something that happened."""
        self.events.append(
            {"at": time.monotonic() if at is None else at, "source": source, "guest": guest, "text": text}
        )

    def summary(self) -> dict[str, Any]:
        """How well it has looked: rate, number of samples, gaps, and its own share of one processor."""
        used = sum(
            usage.ru_utime + usage.ru_stime
            for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        )
        lasted = max(time.monotonic() - self.began, 1e-3)
        return {"hz": HZ, "samples": self.samples, "gaps": self.gaps, "cpu_share": round(used / lasted, 4)}

    # canaries -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        waiting = dict.fromkeys(self.plan.listed, 0.0)
        rest: dict[int, bytes] = {}
        with selectors.DefaultSelector() as selector:
            while not self._ends.is_set():
                now = time.monotonic()
                for vmid in [vmid for vmid, again in waiting.items() if again <= now]:
                    line = self._connect(vmid)
                    if line is None:
                        waiting[vmid] = now + AGAIN_S
                    else:
                        del waiting[vmid]
                        rest[vmid] = b""
                        selector.register(line, selectors.EVENT_READ, vmid)
                for key, _mask in selector.select(AGAIN_S):
                    if not self._take(key, rest):
                        selector.unregister(key.fileobj)
                        waiting[int(key.data)] = time.monotonic() + AGAIN_S
                        if isinstance(key.fileobj, socket.socket):
                            key.fileobj.close()
            for key in list(selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()

    def _connect(self, vmid: int) -> socket.socket | None:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.setblocking(False)
        try:
            line.connect(str(self.plan.place("serial", vmid)))
        except OSError:
            line.close()
            return None
        return line

    def _take(self, key: selectors.SelectorKey, rest: dict[int, bytes]) -> bool:
        """Read what is there; False where the line has ended."""
        vmid, at = int(key.data), time.monotonic()
        try:
            data = key.fileobj.recv(65536) if isinstance(key.fileobj, socket.socket) else b""
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, rest[vmid] = (rest[vmid] + data).split(b"\n")
        for line in lines:
            self.heard[vmid].line(line.decode("ascii", "replace"), at)
        return bool(data)

    # samples --------------------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        kmsg = _kernel_log()
        self._doors = _doors()
        due = time.monotonic()
        with (self.plan.home / "samples.jsonl").open("a", encoding="utf-8") as out:
            while not self._ends.is_set():
                now = time.monotonic()
                self._tick(now)
                self._read_kernel(kmsg)
                out.write(json.dumps(self._look(now), separators=(",", ":")) + "\n")
                out.flush()
                self.samples += 1
                due = max(due + 1 / HZ, time.monotonic())
                self._ends.wait(max(0.0, due - time.monotonic()))
        for number in [*self._doors.values(), *(door for _pid, door in self._lives.values()), kmsg]:
            if number is not None:
                os.close(number)

    def _tick(self, now: float) -> None:
        """A sample is taken, or would have been; one that comes late leaves a gap behind it."""
        if now - self._last > LATE_S:
            self.gaps.append({"from": round(self._last, 3), "to": round(now, 3)})
        self._last = now

    def _look(self, now: float) -> dict[str, Any]:
        guests = {}
        for vmid in self.plan.listed:
            was, self.alive[vmid] = self.alive.get(vmid), self._process(vmid)
            if was and was != self.alive[vmid]:
                self.event("runner", f"process {was} of guest {vmid} is gone", vmid, now)
            guests[str(vmid)] = {
                "alive": self.alive[vmid] is not None,
                "status": self.status.get(vmid),
                "acks": len(self.heard[vmid].acks),
            }
        sample: dict[str, Any] = {"at": round(now, 3), "guests": guests, "api": self.api}
        sample["psi"] = {name: value for name, door in self._doors.items() if (value := _pressure(door)) is not None}
        sample["mem_available_mib"] = available_mib()
        if self._levels:
            sample["fill"] = dict(self._levels)
        return sample

    def _process(self, vmid: int) -> int | None:
        """The guest's process; while the one that is known lives, that takes no more than a glance at it."""
        known = self._lives.get(vmid)
        if known and not select.select([known[1]], [], [], 0)[0]:
            return known[0]
        if known:
            os.close(self._lives.pop(vmid)[1])
        number = site.pid(self.plan, vmid)
        if number is not None:
            with suppress(ProcessLookupError):
                self._lives[vmid] = (number, os.pidfd_open(number))
        return number

    def _read_kernel(self, kmsg: int | None) -> None:
        while kmsg is not None:
            try:
                line = os.read(kmsg, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                return
            except OSError:  # a line that was overwritten before it was read
                continue
            head, _semicolon, text = line.partition(";")
            at = int(head.split(",")[2]) / 1e6
            text = text.splitlines()[0]
            self.kernel.append((at, text))

    # the node, and who reaches whom ---------------------------------------------------------------------------------

    def _ask(self) -> None:
        node = Node(self.plan.api, self.plan.node, timeout_s=self.plan.limits.answer_s)
        took = 0.0
        # A node that is slow to answer is asked less often, or the drill would be what slows it down.
        while not self._ends.wait(max(API_EVERY_S, 3 * took)):
            began = time.monotonic()
            try:
                rows = node.get("/nodes/{node}/qemu", full=1)
            except Silent as why:
                if self.api is not False:
                    self.event("api", str(why))
                    self.told.append((time.monotonic(), "silent"))
                self.api = False
                continue
            took = time.monotonic() - began
            if self.api is False:
                self.event("api", "the node answers again")
            self.api = True
            for row in rows:
                self.names[int(row["vmid"])] = str(row.get("name", ""))
                self._told(int(row["vmid"]), str(row.get("qmpstatus") or row["status"]))
        node.close()

    def _told(self, vmid: int, status: str) -> None:
        before = self.status.get(vmid)
        self.status[vmid] = status
        if vmid in self.heard and before not in (None, status):
            self.event("api", f"guest {vmid} is {status}, as the node says", vmid)
            self.told.append((time.monotonic(), f"{vmid} {status}"))

    def _reach(self) -> None:
        node = Node(self.plan.api, self.plan.node, timeout_s=self.plan.limits.answer_s)
        while not self._ends.wait(0.5):
            for pair in self.plan.reach:
                name = f"{pair['from']} {pair['to']}"
                began = time.monotonic()
                try:
                    found = ping(node, int(pair["from"]), str(pair["to"]))
                except (Silent, Trouble):
                    continue
                self.reached.setdefault(name, []).append((began, found))
        node.close()

    def _measure_fill(self) -> None:
        while not self._ends.wait(FILL_EVERY_S):
            for name, measure in self.fill.items():
                try:
                    self._levels[name] = round(measure(), 2)
                except (OSError, Trouble) as why:
                    self.event("runner", f"{name} cannot be measured: {why}")
                    self._levels.pop(name, None)


def ping(node: Node, vmid: int, address: str) -> float | None:
    """Round trip from within a guest, in milliseconds, by its agent; None where nothing comes back. Raises Silent or
    Trouble where the agent does not do it."""
    path = f"/nodes/{{node}}/qemu/{vmid}/agent"
    pid = int(node.ask("POST", f"{path}/exec", {"command": ["ping", "-c", "1", "-W", "3", address]})["pid"])
    ends = time.monotonic() + 10.0
    while time.monotonic() < ends:
        found = node.get(f"{path}/exec-status", pid=pid)
        if found.get("exited"):
            text = str(found.get("out-data", ""))
            if found.get("exitcode") or "time=" not in text:
                return None
            return float(text.partition("time=")[2].split()[0])
        time.sleep(0.1)
    raise Trouble(f"ping in guest {vmid} did not end")


def _kernel_log() -> int | None:
    try:
        kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    os.lseek(kmsg, 0, os.SEEK_END)
    return kmsg


def _doors() -> dict[str, int]:
    """The kernel's pressure files, open: ten times a second their names need not be looked up anew."""
    found = {}
    for name in ("cpu", "memory", "io"):
        with suppress(OSError):
            found[name] = os.open(f"/proc/pressure/{name}", os.O_RDONLY)
    return found


def _pressure(door: int) -> int | None:
    try:
        first = os.pread(door, 256, 0).partition(b"\n")[0]
        return int(first.rpartition(b"total=")[2])
    except (OSError, ValueError):
        return None


def available_mib() -> int | None:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next((int(line.split()[1]) // 1024 for line in file if line.startswith("MemAvailable:")), None)
