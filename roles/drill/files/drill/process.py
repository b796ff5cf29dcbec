# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive who has started them: each is known by its id and by when it began, in a file.

An id is used again; an id and a time are not, until the next boot. A process that has ended and that nobody has taken
note of (a zombie) does not live.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .shell import Trouble


@dataclass(frozen=True)
class Life:
    """One process. ``start`` is what the kernel has as the 22nd field of its stat: ticks since the boot."""

    pid: int
    start: str

    @property
    def alive(self) -> bool:
        return _stat(self.pid) == self.start

    @property
    def held(self) -> bool:
        """Whether a signal or a debugger holds it."""
        return self.alive and _field(self.pid, 3) in ("T", "t")

    def argv(self) -> list[str]:
        """Its command; nothing where it has ended."""
        try:
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            return []
        return [os.fsdecode(word) for word in words] if self.alive else []

    def end(self, number: signal.Signals, within_s: float, *, group: bool = False) -> bool:
        """Send it a signal, or all of its group, and wait for its end; whether it has ended."""
        try:
            door = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            ended = not self.alive
            if not ended:
                with suppress(ProcessLookupError):
                    if group:
                        os.killpg(self.pid, number)
                    else:
                        signal.pidfd_send_signal(door, number)
                ended = bool(select.select([door], [], [], within_s)[0])
        finally:
            os.close(door)
        # Where it was started from here, nobody else takes note of its end.
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return ended


def begin(work: Callable[[int], int], lost: str) -> None:
    """Do some work in a process of its own, whose exit code it returns. It gets a file descriptor, and writes to it as
    soon as it has begun. Raises Trouble, in the words of `lost`, where it ends before."""
    door, word = os.pipe()
    if os.fork() == 0:
        code = 1
        try:
            os.close(door)
            code = work(word)
        except (OSError, Trouble) as why:
            print(f"drill: {why}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    os.close(word)
    with open(door, "rb") as file:
        if not file.read(1):
            raise Trouble(lost)


def life(pid: int) -> Life:
    """A process that runs now. Raises ProcessLookupError where there is none."""
    start = _stat(pid)
    if start is None:
        raise ProcessLookupError(pid)
    return Life(pid, start)


def before(pid: int) -> list[Life]:
    """Those from which a process comes: its parent, that one's parent, and so on, as far as they live."""
    found: list[Life] = []
    while (parent := int(_field(pid, 4) or 0)) > 1:
        with suppress(ProcessLookupError):
            found.append(life(parent))
        pid = parent
    return found


def text(*lives: Life) -> str:
    """What a file says of processes: a line each."""
    return "".join(f"{one.pid} {one.start}\n" for one in lives)


def read(path: Path) -> list[Life]:
    """The processes that a file names, whether they live or not; none where there is no such file, or it is no such
    file."""
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        return [Life(int(pid), start) for pid, start in rows]
    except (OSError, ValueError):
        return []


def _stat(pid: int) -> str | None:
    """When a process began; None where there is none, or only what is left of one."""
    return None if _field(pid, 3) in (None, "Z", "X") else _field(pid, 22)


def _field(pid: int, number: int) -> str | None:
    """A field of a process's stat, counted from 1; the second, its name, may hold anything."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return line.rpartition(")")[2].split()[number - 3]
