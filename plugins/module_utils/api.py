# SPDX-License-Identifier: GPL-3.0-or-later
"""Seam 1: the Proxmox VE API. Nothing else speaks to it.

Reads are repeated while that can help. A write is repeated only when it certainly was not carried out; when that is
unknown, its trace is looked for among the node's tasks. See docs/api.md for the whole of the rules.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote

from . import api_traces
from .api_crew import Crew
from .api_errors import Forbidden, Locked, NotFound, Scrubber, Unknown, Unreachable, advice, refusal, silence
from .api_files import LocalFile, measure
from .api_https import HttpsWire
from .api_local import LocalWire, have_pvesh
from .api_locks import Locks
from .api_options import CONNECTION, CONSTRAINTS, Settings, settings
from .api_pool import Pool
from .api_tasks import Upid, Waiter, upid
from .api_termination import Bell, Termination
from .api_wire import MissingLibrary, NoAnswer, Refused, Reply, Request, Wire
from .core import complaints, sight
from .core.progress import Progress
from .core.steps import Call, Failure

# A write that is carried out before it is answered may take long: a storage is activated, a device is plugged in.
WRITE_TIMEOUT_S = 120.0
# How long a node may take to show the task of a write whose answer got lost: it may have to activate a storage first,
# and a request that got lost between nodes may be under way for as long as they wait for each other, which is 30 s.
TRACE_FOR_S = 15.0
TRACE_BETWEEN_NODES_FOR_S = 35.0
_ONCE_PER_RUN = frozenset({"/version", "/access/permissions"})
T = TypeVar("T")
R = TypeVar("R")


class Api:
    """One user's view of one cluster. Connects and logs in at the first request; ``warnings`` is for the user to see.

    With ``read_only`` every write is refused, whatever the caller thinks: the second line of defence of check mode.
    """

    OPTIONS: ClassVar[Mapping[str, Any]] = CONNECTION
    CONSTRAINTS: ClassVar[Mapping[str, Any]] = CONSTRAINTS

    def __init__(
        self,
        wire: Wire,
        options: Settings,
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.warnings: list[str] = []
        self.progress = Progress()
        self.read_only = read_only
        self.busy: Callable[[], None] = lambda: None
        """Called when the node could not keep up: a lock was not to be had in time, or it did not answer."""
        self._told: Callable[[], bool] = lambda: False
        self._wire = wire
        self._options = options
        self._clock = clock
        self._pause = pause
        self._scrub = Scrubber(options.secrets)
        self._waiter = Waiter(self, clock, pause)
        self._locks = Locks(self, clock, pause)
        self._tasks: set[str] = set()
        self._kept: dict[str, Reply] = {}

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool = False) -> Api:
        """An Api for the connection options of a module. Sends nothing yet. Raises Failure for wrong options."""
        options = settings(params, have_pvesh=have_pvesh())
        wire: Wire = HttpsWire(options) if options.hosts else LocalWire()
        return cls(wire, options, read_only=read_only)

    @classmethod
    def for_many(cls, params: Mapping[str, Any], *, read_only: bool = False) -> Api:
        """The same for reads from several threads: each has a connection of its own, and all have one login."""
        options = settings(params, have_pvesh=have_pvesh())
        return cls(Pool(options) if options.hosts else LocalWire(), options, read_only=read_only)

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Api({self._wire.where} as {self._wire.user})"

    def close(self) -> None:
        """Give the connections back."""
        self._wire.close()

    def each(self, work: Callable[[T], R], items: Iterable[T], *, parallel: int) -> list[R]:
        """``work(item)`` for each item, so many at once: the results, in the order of the items.

        For an Api ``for_many``. Raises the first Failure, once what had been begun is over.
        """
        waiting = list(items)
        with ThreadPoolExecutor(max(1, min(parallel, len(waiting)))) as pool:
            begun = [pool.submit(work, item) for item in waiting]
            try:
                return [future.result() for future in begun]
            finally:
                for future in begun:
                    future.cancel()

    def hurried(self, timeout_s: float) -> Api:
        """The same for reads that are asked once and waited for no longer than this. There is nothing more to close."""
        other = copy(self)
        other._options = replace(self._options, timeout_s=timeout_s, retries=0)
        return other

    def crew(self) -> Crew:
        """For work on many objects at once: connections of its own, with one login for all."""
        wire = Pool(self._options) if self._options.hosts else self._wire

        def member(bell: Bell, *, read_only: bool) -> Api:
            part = Api(wire, self._options, read_only=read_only or self.read_only, pause=bell.pause)
            part._told, part._tasks, part._kept = bell.rung, self._tasks, self._kept
            part._waiter.pace = self._waiter.pace
            part.progress = self.progress
            return part

        return Crew(member, wire.close)

    def get(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET. ``path`` is below /api2/json and URL-encoded; parameters that are None are not sent.

        Raises Failure, of the types in api_errors; NotFound when the object does not exist.
        """
        return self.ask(path, **params).data

    def find(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET, or None when there is no such object. Raises Failure."""
        try:
            return self.get(path, **params)
        except NotFound:
            return None

    def ask(self, path: str, /, **params: Any) -> Reply:
        """One GET with what the API puts beside its data: ``total`` and ``changes``. Raises Failure."""
        if path in self._kept and not params:
            return self._kept[path]
        reply = self._send(Request("GET", path, params, timeout_s=self._options.timeout_s))
        if path in _ONCE_PER_RUN and not params:
            self._kept[path] = reply
        self._look_behind(path, params, reply.data)
        return reply

    def _look_behind(self, path: str, params: Mapping[str, Any], data: Any) -> None:
        """Raises Forbidden for a list in which nothing shows because its user may see nothing of it, ever."""
        blank = sight.blank(path, params, data)
        if blank is None or self._wire.user == "root@pam":
            return
        granted = self.ask("/access/permissions").data
        if not sight.held(granted).intersection(blank.privileges):
            raise Forbidden(f"{blank.cause(self._wire.user)}. {advice(self._wire.user)}", request=f"GET {path}")

    def do(self, step: Call) -> Any:
        """Carry out one write and, if it starts a task, wait for its end. Returns the ``data``: the UPID of a task.

        A lock in the guest's configuration is waited for while its owner works. Raises Failure: TaskFailed with the end
        of the log; TimedOut, with the task running on; Locked, Stale, NoQuorum, Forbidden and ParameterErrors, with
        nothing done; Unknown, when it may or may not have been carried out.
        """
        request = self._request(step)
        if self.read_only and request.writes:
            raise Failure(f"a write was attempted in check mode, which is a bug: {request}.", request=str(request))
        if step.label:
            self.progress.tell(text=step.label)
        give_up = self._clock() + self._options.lock_timeout_s
        tries = self._pauses()
        while True:
            try:
                return self._carry_out(request, step.timeout_s or self._options.task_timeout_s)
            except Locked as locked:
                if complaints.config_lock(locked.msg):
                    self._locks.wait(locked, request, give_up, self._options.lock_timeout_s)
                    continue
                # A lock on a file that the answer itself told of has been tried for already.
                pause = next(tries) if locked.status is None else None
                if pause is None:
                    raise
                self.busy()
                self._pause(pause)

    def version(self) -> tuple[int, ...]:
        """The node's version of Proxmox VE: (9, 1, 7). Raises Failure."""
        text = str(self.get("/version")["version"])
        return tuple(int(n) for n in re.findall(r"\d+", text.partition("~")[0])[:3])

    def wait(self, task: str, timeout_s: float | None = None) -> None:
        """Wait for a task by its UPID. Raises Failure as ``do`` does."""
        known = upid(task)
        if known is None:
            raise Failure(f"'{task}' is not a task: it does not have the form of a UPID.")
        with Termination(self._told) as termination:
            self._waiter.wait(known, timeout_s or self._options.task_timeout_s, termination)

    def log(self, task: str, lines: int = 50) -> list[str]:
        """The last lines of a task's log. Raises Failure."""
        known = upid(task)
        if known is None:
            raise Failure(f"'{task}' is not a task: it does not have the form of a UPID.")
        return self._waiter.tail(known, lines)

    def file(self, path: str, algorithm: str | None = None) -> LocalFile:
        """Size and, on request, checksum of a local file that is to be uploaded. Raises Missing or Failure."""
        return measure(path, algorithm)

    def _request(self, step: Call) -> Request:
        """A step as a request. pvesh answers only when the task is over, so there it may take that long."""
        patience = max(self._options.timeout_s, WRITE_TIMEOUT_S)
        if not self._options.hosts:
            patience = max(patience, step.timeout_s or self._options.task_timeout_s)
        tell = self._tell if step.file and self.progress.listens else None
        return Request(step.method, step.path, step.params, step.file, patience, tell)

    def _tell(self, text: str) -> None:
        self.progress.tell(text=text)

    def _carry_out(self, request: Request, timeout_s: float) -> Any:
        with Termination(self._told) as termination:
            # pvesh answers when the task is over, which may take hours: there the signal has its way at once.
            with termination.held() if self._options.hosts else nullcontext():
                data = self._send(request).data
            task = upid(data)
            if task is not None:
                self._tasks.add(task.text)
                try:
                    self._waiter.wait(task, timeout_s, termination)
                except Failure as failure:
                    failure.request = failure.request or str(request)
                    raise
            return data

    def _send(self, request: Request) -> Reply:
        """Send, and again while it helps and harms nothing. Raises Failure."""
        for pause in self._pauses():
            began = time.time()
            try:
                return self._wire.send(request)
            except MissingLibrary as missing:
                raise Failure("to reach the Proxmox VE API", library=missing.library) from missing
            except NoAnswer as problem:
                if problem.sent and request.writes:
                    return self._recover(request, problem.cause, began, TRACE_FOR_S)
                failure: Failure = silence(problem, request, self._scrub)
                again = not problem.permanent
            except Refused as refused:
                self._blame_node(request, refused)
                if request.writes and is_ambiguous(refused):
                    cause = f"{refused.status} {refused.message}"
                    return self._recover(request, cause, began, TRACE_BETWEEN_NODES_FOR_S)
                failure = refusal(refused, request, self._wire.user, self._scrub)
                self._name_version(failure)
                again = is_passing(refused) or (not request.writes and complaints.is_timeout(refused.message))
            if not again or pause is None:
                raise failure
            self.busy()
            self._pause(pause)
        raise AssertionError("the last pause is None")

    def _pauses(self) -> Iterator[float | None]:
        """How long to wait before each further try; None after the last."""
        for attempt in range(self._options.retries):
            yield min(0.5 * 2**attempt, 8.0)
        yield None

    def _recover(self, request: Request, cause: str, began: float, patience_s: float) -> Reply:
        """Find out what became of a write whose answer got lost: adopt its task. Raises Unknown when there is none."""
        expected = api_traces.trace(request)
        found, looked = self._look_for(expected, began, patience_s) if expected else (None, "")
        cause = self._scrub(" ".join(cause.split())).rstrip(".")
        if found is None:
            raise Unknown(
                f"{cause}; so it is not known whether {request} was carried out.{looked} "
                "Look at the object and at the task list of the node, then run the task again: "
                "it goes on from what is there.",
                request=str(request),
            )
        self.warnings.append(f"{cause}; found the task that {request} had started and waited for it: {found.text}")
        return Reply(found.text)

    def _look_for(self, expected: api_traces.Trace, began: float, patience_s: float) -> tuple[Upid | None, str]:
        """The task or, without one, what came of looking for it: a sentence with a space before it."""
        deadline = self._clock() + patience_s
        pause = 0.2
        looked = f" {expected.node} cannot be reached to look for a task of it."
        while True:
            try:
                listed = self._send(Request("GET", expected.path, {"source": "all", "limit": 100})).data
                looked = f" There is no task of it on {expected.node}."
            except Unreachable:
                listed = []
            since = began + self._wire.skew_s
            fitting = expected.fitting(listed, self._wire.user, since, frozenset(self._tasks))
            found = next((task for task in fitting if self._is_it(expected, task)), None)
            if found is not None or self._clock() >= deadline:
                return found, looked
            self._pause(pause)
            pause = min(pause * 1.5, 2.0)

    def _is_it(self, expected: api_traces.Trace, task: Upid) -> bool:
        try:
            return expected.told_by(self._waiter.head(task) if expected.made else ())
        except Unreachable:
            return False

    def _name_version(self, failure: Failure) -> None:
        """Say which version of Proxmox VE it is that does not know an option."""
        if complaints.UNKNOWN_OPTION not in failure.msg:
            return
        try:
            version = self._wire.send(Request("GET", "/version")).data["version"]
        except (Refused, NoAnswer):
            return
        failure.msg = failure.msg.replace(complaints.UNKNOWN_OPTION, f"Proxmox VE {version} does not know that option.")

    def _blame_node(self, request: Request, refused: Refused) -> None:
        """Say so when the trouble is the node in the path, whose wrong name looks like a certificate that is wrong."""
        named = re.match(r"/nodes/([^/]+)", request.path)
        suspect = complaints.is_wrong_node(refused.status, refused.message) or "node" in refused.errors
        if named is None or not suspect:
            return
        try:
            nodes = self._wire.send(Request("GET", "/nodes")).data
        except (Refused, NoAnswer):
            return
        node = unquote(named[1])
        state = {str(n["node"]): str(n.get("status", "unknown")) for n in nodes}
        if node not in state:
            raise Failure(
                f"there is no node '{node}'; the cluster has {', '.join(sorted(state))}. "
                "Use the node's short name, not its domain name or address.",
                status=refused.status,
                request=str(request),
            ) from refused
        if state[node] == "offline":
            raise Unreachable(
                f"the node '{node}' is offline. Start it or look at its network, then run again.",
                status=refused.status,
                request=str(request),
            ) from refused


def is_ambiguous(refused: Refused) -> bool:
    """True when a node or proxy in between answered, so that a write may or may not have been carried out.

    595 is a connection that never stood, 596 one that broke, 597 to 599 an answer that did not come (AnyEvent::HTTP).
    """
    never_stood = complaints.is_wrong_node(0, refused.message)
    return refused.status in (502, 504) or (refused.status in (596, 597, 598, 599) and not never_stood)


def is_passing(refused: Refused) -> bool:
    """True when the same request may well succeed a moment later, and was not carried out now (or only reads)."""
    passing = refused.status in (502, 503, 504) or refused.status >= 595
    return passing or complaints.is_lock_timeout(refused.message) or complaints.is_no_quorum(refused.message)
