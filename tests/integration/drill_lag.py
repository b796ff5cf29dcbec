# SPDX-License-Identifier: GPL-3.0-or-later
"""How late this machine is itself, for tests that measure time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lagging() -> Iterator[list[float]]:
    """How much later than asked for this machine lets a thread go on, seconds: what no recorder on it can better."""
    found, ends = [0.0], threading.Event()

    def beat() -> None:
        began = time.monotonic()
        while not ends.wait(0.01):
            found.append(time.monotonic() - began - 0.01)
            began = time.monotonic()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield found
    finally:
        ends.set()
        thread.join()
