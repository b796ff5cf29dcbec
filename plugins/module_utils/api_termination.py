# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM while a write is under way: the user is told which task goes on, whenever the signal comes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from .api_errors import Interrupted


class Termination:
    """Lets SIGTERM end a wait as Ctrl-C does, for as long as it is entered.

    While it is ``held`` the signal is only noted: a write that is on its way gets its answer first, so that its task
    can be named. An exception out of a signal handler is lost when a finalizer of C code happens to run then (the
    answer of a request that goes out of scope is such a place), hence ``check`` in every round of a wait.
    """

    def __init__(self, told: Callable[[], bool] = lambda: False) -> None:
        self._told = told
        self._came = False
        self._held = False
        self._mine = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Termination:
        if self._mine:
            self._before = signal.signal(signal.SIGTERM, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mine:
            signal.signal(signal.SIGTERM, self._before)
        if self._came and not isinstance(error, Interrupted):
            # Nobody has been told of it: it takes the course that it would have taken without this.
            signal.raise_signal(signal.SIGTERM)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Note the signal, and go on."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raises KeyboardInterrupt when the signal has come, or somebody else has been told of it (``told``)."""
        if self._came or self._told():
            raise KeyboardInterrupt

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        if not self._held:
            raise KeyboardInterrupt


class Bell:
    """Notes SIGTERM and Ctrl-C for work in many threads: none of them is cut off, each asks whether it has rung.

    To be entered in the main thread.
    """

    def __init__(self) -> None:
        self._rung = threading.Event()

    def __enter__(self) -> Bell:
        self._before = {number: signal.signal(number, self._ring) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def rung(self) -> bool:
        """True when the run is to end."""
        return self._rung.is_set()

    def pause(self, seconds: float) -> None:
        """Sleep, but not when the run is to end."""
        self._rung.wait(seconds)

    def ring(self) -> None:
        """The run is to end."""
        self._rung.set()

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self.ring()
