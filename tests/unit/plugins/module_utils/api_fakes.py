# SPDX-License-Identifier: GPL-3.0-or-later
"""A line to the API that answers from a script, and a clock that only pauses move on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_options import Settings
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import Reply, Request


class Clock:
    """``ticks`` are called with the time after each pause."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.ticks: list[Callable[[float], None]] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        for tick in self.ticks:
            tick(self.now)


class FakeWire:
    """Answers "METHOD /path" from lists, one after the other and the last for ever; exceptions are raised."""

    where = "a node of the test"
    user = "root@pam"
    skew_s = 0.0

    def __init__(self, answers: Mapping[str, Sequence[Reply | Exception] | Reply | Exception]) -> None:
        self.answers = {k: list(v) if isinstance(v, Sequence) else [v] for k, v in answers.items()}
        self.sent: list[Request] = []
        self.closed = False

    def send(self, request: Request) -> Reply:
        self.sent.append(request)
        queue = self.answers.get(str(request))
        if queue is None:
            raise AssertionError(f"the test has no answer for {request}")
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True

    def lines(self, method: str = "") -> list[str]:
        return [str(r) for r in self.sent if r.method.startswith(method)]


def api_over(wire: FakeWire, clock: Clock | None = None, *, read_only: bool = False, **options: Any) -> Api:
    clock = clock or Clock()
    settings = Settings(hosts=("node:8006",), **options)
    return Api(wire, settings, read_only=read_only, clock=clock, pause=clock.pause)
