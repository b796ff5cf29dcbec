# SPDX-License-Identifier: GPL-3.0-or-later
"""By what a fault is known: each sign is a question to what the recorder has seen since the fault began."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from . import clock, site
from .recorder import Recorder
from .shell import Trouble

# A write that takes so many times longer than before is slow; a round trip, too.
SLOWER = 3.0
# So many writes in a row say how quick a guest is now.
LAST = 5


@dataclass(frozen=True)
class Sign:
    """``test`` gets the recorder and the time the fault began; it answers with the evidence, or with nothing.
    ``writes_of``: the guest whose writes it looks at, which an answer to an echo is none of."""

    name: str
    test: Callable[[Recorder, float], str | None]
    writes_of: int | None = None


def status(vmid: int, wanted: str) -> Sign:
    """The node says so of a guest's QEMU."""
    return Sign(
        f"the node calls guest {vmid} {wanted}",
        lambda seen, _since: f"qmpstatus {wanted}" if seen.status.get(vmid) == wanted else None,
    )


def gone(vmid: int) -> Sign:
    """The guest's process has ended."""
    return Sign(
        f"the process of guest {vmid} has ended",
        lambda seen, _since: "no such process" if vmid in seen.alive and seen.alive[vmid] is None else None,
    )


def stalled(vmid: int, after_s: float) -> Sign:
    """The canary has acknowledged nothing for a time; the node need not know."""

    def test(seen: Recorder, since: float) -> str | None:
        acks = seen.heard[vmid].acks
        if not acks:
            return None
        quiet = clock.now() - max(acks[-1].at, since)
        return f"no acknowledgement for {quiet:.1f} s, the last was {acks[-1].seq}" if quiet > after_s else None

    return Sign(f"the canary of guest {vmid} stands still for {after_s:g} s", test)


def failing(vmid: int, after_s: float) -> Sign:
    """The guest's writes fail: its canary says so, or says nothing any more."""
    silence = stalled(vmid, after_s)

    def test(seen: Recorder, since: float) -> str | None:
        heard = seen.heard[vmid]
        if heard.last_error is not None and heard.last_error >= since:
            return f"its canary says: {', '.join(heard.errors)}"
        return silence.test(seen, since)

    return Sign(f"writes of guest {vmid} fail", test)


def unnoticed(vmid: int, after_s: float) -> Sign:
    """The node goes on calling a guest running whose canary has acknowledged nothing for a time."""
    silence = stalled(vmid, after_s)

    def test(seen: Recorder, since: float) -> str | None:
        quiet = silence.test(seen, since)
        running = seen.api is not False and seen.status.get(vmid) == "running"
        return f"qmpstatus running, and {quiet}" if quiet and running else None

    return Sign(f"the node calls guest {vmid} running all the same", test)


def again(vmid: int) -> Sign:
    """The canary's writes are acknowledged again: three of them."""

    def test(seen: Recorder, since: float) -> str | None:
        acks = [ack.seq for ack in seen.heard[vmid].acks if ack.at >= since]
        return f"acknowledged up to {acks[-1]}" if len(acks) >= 3 else None

    return Sign(f"writes of guest {vmid} are acknowledged again", test, vmid)


def stopped_process(vmid: int) -> Sign:
    """The guest's process is held by a signal."""

    def test(seen: Recorder, _since: float) -> str | None:
        number = seen.alive.get(vmid)
        return f"process {number} is in state T" if number and site.state(number) == "T" else None

    return Sign(f"the process of guest {vmid} is held", test)


def kernel(name: str, pattern: str) -> Sign:
    """The kernel has said something since."""

    def test(seen: Recorder, since: float) -> str | None:
        return next((text for at, text in seen.kernel if at >= since - 1 and re.search(pattern, text)), None)

    return Sign(name, test)


def silent() -> Sign:
    """The node's API answers nobody."""
    return Sign("the node's API is silent", lambda seen, _since: "no answer" if seen.api is False else None)


def slow_writes(vmid: int, times: float = SLOWER) -> Sign:
    """The canary's writes take so many times as long as before the fault, by half of them."""

    def test(seen: Recorder, since: float) -> str | None:
        before = [ack.latency_ms for ack in seen.heard[vmid].acks if ack.at < since]
        after = [ack.latency_ms for ack in seen.heard[vmid].acks if ack.at >= since]
        if len(before) < 3 or len(after) < 3:
            return None
        usual, now = median(before), median(after)
        return f"{now:.0f} ms instead of {usual:.0f} ms, by half" if now > times * usual else None

    return Sign(f"writes of guest {vmid} take {times:g} times as long", test, vmid)


def slow_then_quick(vmid: int, times: float, most: float, still: Callable[[], bool]) -> tuple[Sign, Sign]:
    """As ``slow_writes``, and the sign of its relief: by half of the last few, writes take at most ``most`` times as
    long as before the fault, while ``still`` says that the fault is there."""
    slow = slow_writes(vmid, times)
    began: list[float] = []

    def slows(seen: Recorder, since: float) -> str | None:
        began[:] = began or [since]
        return slow.test(seen, since)

    def quickens(seen: Recorder, since: float) -> str | None:
        acks = seen.heard[vmid].acks
        before = [ack.latency_ms for ack in acks if began and ack.at < began[0]]
        last = [ack.latency_ms for ack in acks if ack.at >= since][-LAST:]
        if len(before) < 3 or len(last) < LAST or not still():
            return None
        usual, now = median(before), median(last)
        return f"{now:.0f} ms, and {usual:.0f} ms before the fault, by half" if now <= most * usual else None

    quick = f"writes of guest {vmid} take at most {most:g} times as long again"
    return Sign(slow.name, slows, vmid), Sign(quick, quickens, vmid)


def unreached(source: int, address: str) -> Sign:
    """From within a guest an address is not reached any more, twice in a row."""

    def test(seen: Recorder, since: float) -> str | None:
        tried = [found for at, found in seen.reached.get(f"{source} {address}", []) if at >= since]
        return "two pings without an answer" if tried[-2:] == [None, None] else None

    return Sign(f"guest {source} does not reach {address}", test)


def reached(source: int, address: str) -> Sign:
    """From within a guest an address is reached as before, twice in a row."""

    def test(seen: Recorder, since: float) -> str | None:
        tried = [found for at, found in seen.reached.get(f"{source} {address}", []) if at >= since]
        return "two pings with an answer" if len(tried) > 1 and None not in tried[-2:] else None

    return Sign(f"guest {source} reaches {address} all the same", test)


def far(source: int, address: str, more_ms: float) -> Sign:
    """From within a guest an address is reached by so much later than before the fault, by half of the round trips."""

    def test(seen: Recorder, since: float) -> str | None:
        tried = [(at, found) for at, found in seen.reached.get(f"{source} {address}", []) if found is not None]
        before = [found for at, found in tried if at < since]
        after = [found for at, found in tried if at >= since]
        if not before or len(after) < 3:
            return None
        usual, now = median(before), median(after)
        return f"{now:.0f} ms there and back instead of {usual:.0f} ms" if now >= usual + more_ms else None

    return Sign(f"guest {source} reaches {address} by {more_ms:g} ms later", test)


def says(name: str, read: Callable[[], str], pattern: str) -> Sign:
    """A command of the host says so."""

    def test(_seen: Recorder, _since: float) -> str | None:
        try:
            found = re.search(pattern, read())
        except Trouble:
            return None
        return found[0] if found else None

    return Sign(name, test)
