# SPDX-License-Identifier: GPL-3.0-or-later
"""The way that a module's progress takes to the callback ``progress``: a pipe that the callback holds open.

The callback puts the pipe's place into the environment, which modules inherit that run on the same machine. Nothing of
it lies on a disk, so nothing is left behind, however a run ends. Without a callback, or on another machine, there is no
pipe, and nobody is told anything.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .core.progress import Progress, Told, encode

VARIABLE = "PVELAB_PROGRESS"
"""Names the pipe: "/proc/PID/fd/NUMBER" of the process that runs the playbook."""

# Texts change faster than anybody reads; numbers are told at once.
TEXT_EVERY_S = 0.2


class Pipe(Progress):
    """Tells the callback. ``write`` takes one line; ``scrub`` takes the task's secrets out of a text."""

    listens = True

    def __init__(
        self,
        about: str,
        write: Callable[[bytes], None],
        scrub: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = Told(about=scrub(about))
        self._write = write
        self._scrub = scrub
        self._clock = clock
        self._said_at = -TEXT_EVERY_S
        self._lock = threading.Lock()

    def tell(
        self,
        *,
        done: int | None = None,
        running: int | None = None,
        failed: int | None = None,
        total: int | None = None,
        text: str | None = None,
    ) -> None:
        """As Progress says."""
        with self._lock:
            counted = self._told.updated(done=done, running=running, failed=failed, total=total)
            told = counted if text is None else counted.updated(text=self._scrub(text))
            late = self._clock() - self._said_at >= TEXT_EVERY_S
            if told == self._told or (counted == self._told and not late):
                return
            self._told = told
            self._said_at = self._clock()
            self._write(encode(os.getpid(), told))

    def end(self) -> None:
        """The module ends: nothing of it is to be shown any longer."""
        with self._lock:
            self._write(encode(os.getpid(), None))


@contextmanager
def channel(about: str, scrub: Callable[[str], str]) -> Iterator[Progress]:
    """What a module tells its progress to: a Pipe where the environment names one, else nobody."""
    handle = _opened(os.environ.get(VARIABLE, ""))
    if handle is None:
        yield Progress()
        return

    def write(line: bytes) -> None:
        # The callback is slow or gone: what it misses now, it is told with the next line.
        with suppress(OSError):
            os.write(handle, line)

    pipe = Pipe(about, write, scrub)
    try:
        yield pipe
    finally:
        pipe.end()
        os.close(handle)


def _opened(place: str) -> int | None:
    """The pipe of that name, or None where it is none: nothing else is ever written to."""
    if not place:
        return None
    try:
        handle = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None
    if stat.S_ISFIFO(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None
