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
from dataclasses import astuple
from typing import IO, Any

from . import clock, gauges, links, monitors, pulses, said, silence, site, web
from .canary import Ack, Heard
from .node import Node, Silent
from .plan import Plan, where
from .shell import Trouble
from .silence import Try

HZ = 10.0
LATE_S = 0.5
API_EVERY_S = 1.0
FILL_EVERY_S = 1.0
# How long a listener waits before it knocks again where nobody answers.
AGAIN_S = 0.1
# How often what changes slowly is put into a sample, seconds.
SLOW_S = 1.0
# What a node says of a guest that shows nobody that something is wrong: also that it does not know for the moment.
NO_NEWS = ("running", "unknown")
# Each acknowledgement as it was heard: vmid, and what canary.Ack has.
ACKS = "acks.jsonl"
# Each try of a probe, as silence.line has it.
TRIES = "probes.jsonl"

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
        # When the node answered last.
        self.answered = 0.0
        # When the node showed that something is wrong.
        self.told: list[tuple[float, str]] = []
        self.kernel: list[tuple[float, str]] = []
        self.events: list[Event] = []
        self.reached: dict[str, list[tuple[float, float | None]]] = {}
        # Why an agent could not tell the last time that it was asked to.
        self.untold: dict[str, str] = {}
        self.tries: dict[str, list[Try]] = {}
        self.node_status: str | None = None
        self.cursor = ""
        self.gaps: list[dict[str, float]] = []
        self.samples = 0
        self.began = 0.0
        self._levels: dict[str, float] = {}
        self._gauges = gauges.Gauges()
        self._slow = 0.0
        self._kills: int | None = None
        self._kernel_said = -1
        self._log = threading.Lock()
        self._lives: dict[int, tuple[int, int]] = {}
        self._last = 0.0
        self._resumed = False
        self._used = 0.0
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        self.cursor = self.cursor or said.cursor(self.plan)
        self._last, self._used = clock.now(), _used_s()
        self.began = self.began or self._last
        loops = [self._listen, self._sample, self._ask, self._follow_links]
        loops += [self._reach] if self.plan.reach else []
        loops += [self._follow_monitors] if "qmp" in self.plan.places else []
        loops += [self._probe] if self.plan.probes else []
        loops += [self._measure_fill] if self.fill else []
        loops += pulses.loops(self.plan, self.heard, self._ends, self._node, self.plan.home / ACKS)
        for loop in loops:
            thread = threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True)
            thread.start()
            self._threads.append(thread)

    def go_on(self, began: float, events: list[Event], cursor: str = "") -> None:
        """Before ``start``: take over what this run has seen before its host went down."""
        self.began, self.events, self.cursor, self._resumed = began, events, cursor, True
        with suppress(FileNotFoundError), (self.plan.home / TRIES).open(encoding="utf-8", errors="replace") as file:
            self.tries, _gaps = silence.read(file)
        with suppress(FileNotFoundError), (self.plan.home / ACKS).open(encoding="utf-8") as file:
            for line in file:
                # The last line may have been cut off with the power.
                with suppress(ValueError, TypeError, KeyError):
                    vmid, *ack = json.loads(line)
                    self.heard[vmid].acks.append(Ack(*ack))

    def stop(self) -> None:
        """End; returns when the last sample is written."""
        now = clock.now()
        self._ends.set()
        for thread in self._threads:
            thread.join(30.0)
        self._tick(now)

    def event(self, source: str, text: str, guest: int | None = None, at: float | None = None) -> None:
        """Note something that happened."""
        self.events.append({"at": clock.now() if at is None else at, "source": source, "guest": guest, "text": text})

    def summary(self) -> dict[str, Any]:
        """How well it has looked: rate, number of samples, gaps, and its own share of one processor."""
        used = _used_s() - self._used
        lasted = max(clock.now() - self.began, 1e-3)
        return {"hz": HZ, "samples": self.samples, "gaps": self.gaps, "cpu_share": round(used / lasted, 4)}

    # canaries -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        waiting = dict.fromkeys(self.plan.known_by("serial"), 0.0)
        rest: dict[int, bytes] = {}
        path = self.plan.home / ACKS
        with selectors.DefaultSelector() as selector, path.open("a", encoding="utf-8", buffering=1) as log:
            while not self._ends.is_set():
                now = clock.now()
                for vmid in [vmid for vmid, again in waiting.items() if again <= now]:
                    line = self._connect(vmid)
                    if line is None:
                        waiting[vmid] = now + AGAIN_S
                    else:
                        del waiting[vmid]
                        rest[vmid] = b""
                        selector.register(line, selectors.EVENT_READ, vmid)
                for key, _mask in selector.select(AGAIN_S):
                    if not self._take(key, rest, log):
                        selector.unregister(key.fileobj)
                        waiting[int(key.data)] = clock.now() + AGAIN_S
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

    def _take(self, key: selectors.SelectorKey, rest: dict[int, bytes], log: IO[str]) -> bool:
        """Read what is there; False where the line has ended."""
        vmid, at = int(key.data), clock.now()
        try:
            data = key.fileobj.recv(65536) if isinstance(key.fileobj, socket.socket) else b""
        except BlockingIOError:
            return True
        except OSError:
            return False
        *lines, rest[vmid] = (rest[vmid] + data).split(b"\n")
        for line in lines:
            if ack := self.heard[vmid].line(line.decode("ascii", "replace"), at):
                log.write(f"{json.dumps([vmid, *astuple(ack)])}\n")
        return bool(data)

    # samples --------------------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        kmsg = _kernel_log(os.SEEK_SET if self._resumed else os.SEEK_END)
        self._gauges = gauges.open_all()
        due = clock.now()
        with (self.plan.home / "samples.jsonl").open("a", encoding="utf-8") as out:
            while not self._ends.is_set():
                now = clock.now()
                self._tick(now)
                self._read_kernel(kmsg)
                out.write(json.dumps(self._look(now), separators=(",", ":")) + "\n")
                out.flush()
                self.samples += 1
                due = max(due + 1 / HZ, clock.now())
                self._ends.wait(max(0.0, due - clock.now()))
        self._gauges.close()
        for number in [*(door for _pid, door in self._lives.values()), kmsg]:
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
        sample = {"at": round(now, 3), "guests": guests, "api": self.api, **self._gauges.quick()}
        if self.tries:
            sample["probes"] = {name: tries[-1].ms for name, tries in list(self.tries.items())}
        if now - self._slow >= SLOW_S:
            self._slow = now
            sample |= {"node": self.node_status, "wall": round(time.time() - (clock.now() - now), 3)}
            sample |= self._gauges.slow()
            self._count_kills(sample.get("oom_kills"), now)
        if self._levels:
            sample["fill"] = dict(self._levels)
        return sample

    def _count_kills(self, kills: int | None, now: float) -> None:
        """The kernel counts whom it kills for want of memory, also where its log has run over."""
        more = 0 if kills is None or self._kills is None else kills - self._kills
        if more > 0:
            self.event("kernel", f"it has killed {more} process{'es' * (more > 1)} for want of memory", at=now)
        self._kills = kills

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
            number, at = int(head.split(",")[1]), clock.of_this_boot(int(head.split(",")[2]) / 1e6)
            if 0 <= self._kernel_said < number - 1:
                lost = number - 1 - self._kernel_said
                self.event("kernel", f"{lost} lines of its log were overwritten before they could be read", at=at)
            self._kernel_said = number
            text = text.splitlines()[0]
            self.kernel.append((at, text))

    # the node, and who reaches whom ---------------------------------------------------------------------------------

    def _node(self) -> Node:
        return Node(self.plan.api, self.plan.node, timeout_s=self.plan.limits.answer_s)

    def _ask(self) -> None:
        node = self._node()
        took = 0.0
        # A node that is slow to answer is asked less often, or the drill would be what slows it down.
        while not self._ends.wait(max(API_EVERY_S, 3 * took)):
            began = clock.now()
            try:
                rows = node.get("/nodes/{node}/qemu", full=1)
                self._node_told(node.get("/nodes"))
            except Silent as why:
                if self.api is not False:
                    self.event("api", str(why))
                    self.told.append((clock.now(), "silent"))
                self.api = False
                continue
            took = clock.now() - began
            if self.api is False:
                self.event("api", "the node answers again")
            self.api, self.answered = True, clock.now()
            for row in rows:
                self.names[int(row["vmid"])] = str(row.get("name", ""))
                self._told(int(row["vmid"]), str(row.get("qmpstatus") or row["status"]))
                if "diskwrite" in row and int(row["vmid"]) in self.heard:
                    self.heard[int(row["vmid"])].written.append((clock.now(), int(row["diskwrite"])))
        node.close()

    def _node_told(self, rows: list[dict[str, Any]]) -> None:
        """What the nodes of the cluster think of this one: online, offline or unknown."""
        before = self.node_status
        self.node_status = next((str(row.get("status")) for row in rows if row.get("node") == self.plan.node), None)
        if before not in (None, self.node_status):
            self.event("api", f"node {self.plan.node} is {self.node_status}, as it says itself")

    def _told(self, vmid: int, status: str) -> None:
        before = self.status.get(vmid)
        self.status[vmid] = status
        if vmid in self.heard and before not in (None, status):
            self.event("api", f"guest {vmid} is {status}, as the node says", vmid)
            if status not in NO_NEWS:
                self.told.append((clock.now(), f"{vmid} {status}"))

    def _reach(self) -> None:
        node = self._node()
        while not self._ends.wait(0.5):
            for pair in self.plan.reach:
                name = f"{pair['from']} {where(pair)}"
                began = clock.now()
                try:
                    found = ping(node, int(pair["from"]), str(pair["to"]), int(pair.get("size") or 0))
                except (Silent, Trouble) as why:
                    self.untold[name] = str(why)
                    continue
                self.reached.setdefault(name, []).append((began, found))
        node.close()

    def _probe(self) -> None:
        """Whoever is to answer the host itself."""
        with (self.plan.home / TRIES).open("a", encoding="utf-8", buffering=1) as out:

            def note(name: str, one: Try) -> None:
                with self._log:
                    self.tries.setdefault(name, []).append(one)
                    out.write(silence.line(name, one))

            web.ask(self.plan.probes, note, self._ends)

    def _follow_links(self) -> None:
        links.follow(lambda name, text: self.event("link", text, links.guest(name)), self._ends)

    def _follow_monitors(self) -> None:
        places = {vmid: self.plan.place("qmp", vmid) for vmid in self.plan.listed}
        monitors.follow(places, lambda vmid, text: self.event("qmp", text, vmid), self._ends)

    def _measure_fill(self) -> None:
        while not self._ends.wait(FILL_EVERY_S):
            for name, measure in self.fill.items():
                try:
                    self._levels[name] = round(measure(), 2)
                except (OSError, Trouble) as why:
                    self.event("runner", f"{name} cannot be measured: {why}")
                    self._levels.pop(name, None)


def ping(node: Node, vmid: int, address: str, size: int = 0) -> float | None:
    """Round trip from within a guest, in milliseconds, by its agent; None where nothing comes back. ``size``: with so
    many bytes in one packet, else as many as ping takes by itself. Raises Silent or Trouble where the agent does not
    do it."""
    path = f"/nodes/{{node}}/qemu/{vmid}/agent"
    command = ["ping", "-c", "1", "-W", "3", *(["-s", str(size)] if size else []), address]
    pid = int(node.ask("POST", f"{path}/exec", {"command": command})["pid"])
    ends = clock.now() + 10.0
    while clock.now() < ends:
        found = node.get(f"{path}/exec-status", pid=pid)
        if found.get("exited"):
            text = str(found.get("out-data", ""))
            if found.get("exitcode") or "time=" not in text:
                return None
            return float(text.partition("time=")[2].split()[0])
        time.sleep(0.1)
    raise Trouble(f"ping in guest {vmid} did not end")


def _kernel_log(since: int) -> int | None:
    try:
        kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    os.lseek(kmsg, 0, since)
    return kmsg


def _used_s() -> float:
    """Processor time of this process and of those it has started and waited for, seconds."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
