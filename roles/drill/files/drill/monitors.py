# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU says of itself on a monitor that a guest has for this alone: that it stops, goes on, cannot write, panics.

A monitor serves one client. That of the node's own tools is never touched: whoever sat on it would be a fault himself.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import clock

EVENTS = ("STOP", "RESUME", "RESET", "SHUTDOWN", "POWERDOWN", "BLOCK_IO_ERROR", "GUEST_PANICKED", "WATCHDOG")
# What is worth saying of them.
MORE = ("device", "node-name", "operation", "reason", "guest", "action")
# How long to wait before knocking again, and for how long the same words are not repeated.
AGAIN_S, SAME_S = 1.0, 1.0
Note = Callable[[int, str], None]


def follow(places: Mapping[int, Path], note: Note, ends: threading.Event) -> None:
    """Note each event of the guests' monitors, by the guest, until it is told to end."""
    waiting = dict.fromkeys(places, 0.0)
    rest: dict[int, bytes] = {}
    quiet = _Quiet(note)
    with selectors.DefaultSelector() as selector:
        while not ends.is_set():
            now = clock.now()
            for vmid in [vmid for vmid, again in waiting.items() if again <= now]:
                line = _connect(places[vmid])
                if line is None:
                    waiting[vmid] = now + AGAIN_S
                    continue
                del waiting[vmid]
                rest[vmid] = b""
                selector.register(line, selectors.EVENT_READ, vmid)
            for key, _mask in selector.select(0.25):
                if isinstance(key.fileobj, socket.socket) and not _take(key.fileobj, key.data, rest, quiet):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    waiting[key.data] = clock.now() + AGAIN_S
        for key in list(selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()


class _Quiet:
    """Says the same words of a guest once a second at most: a disk that fails says so with each write."""

    def __init__(self, note: Note) -> None:
        self.note, self.said = note, dict[tuple[int, str], float]()

    def __call__(self, vmid: int, text: str) -> None:
        now = clock.now()
        if now - self.said.get((vmid, text), -SAME_S) >= SAME_S:
            self.said[vmid, text] = now
            self.note(vmid, text)


def _connect(path: Path) -> socket.socket | None:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.setblocking(False)
    try:
        line.connect(str(path))
        # It greets first, but takes this all the same; without it, it says nothing.
        line.send(b'{"execute": "qmp_capabilities"}\n')
    except OSError:
        line.close()
        return None
    return line


def _take(line: socket.socket, vmid: int, rest: dict[int, bytes], note: Note) -> bool:
    """Read what is there; False where the line has ended."""
    try:
        data = line.recv(65536)
    except BlockingIOError:
        return True
    except OSError:
        return False
    *lines, rest[vmid] = (rest[vmid] + data).split(b"\n")
    for one in lines:
        with suppress(ValueError, TypeError, AttributeError):
            said = json.loads(one)
            if said.get("event") in EVENTS:
                note(vmid, _words(said))
    return bool(data)


def _words(said: Mapping[str, Any]) -> str:
    data = said.get("data") or {}
    more = [f"{name} {data[name]}" for name in MORE if data.get(name) not in (None, "")]
    return f"{said['event']}{': ' if more else ''}{', '.join(more)}"
