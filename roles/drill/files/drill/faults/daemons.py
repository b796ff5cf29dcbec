# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a node's API where no systemd keeps it: one process, known by its pid file, that a user has started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from shlex import join, quote

from .. import signs, site
from ..plan import Plan
from ..recorder import Recorder
from ..shell import Trouble
from ..signs import Sign
from .fault import Fault

SIGNALS = {"stop": "TERM", "kill": "KILL", "hang": "STOP"}


@dataclass(frozen=True)
class Daemon:
    """A process as it was found, and all that it takes to have it again as it was."""

    pid_file: Path
    pid: int
    argv: list[str]
    folder: str
    log: str

    @classmethod
    def of(cls, pid_file: Path) -> Daemon:
        """Raises Trouble where no process of ours has the number in the file."""
        try:
            pid = int(pid_file.read_text(encoding="ascii"))
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
            folder, log = os.readlink(f"/proc/{pid}/cwd"), os.readlink(f"/proc/{pid}/fd/2")
        except (OSError, ValueError) as error:
            raise Trouble(f"{pid_file} is to name the process of the node's API, and does not: {error}") from error
        return cls(pid_file, pid, argv, folder, log if Path(log).is_file() else os.devnull)

    @property
    def name(self) -> str:
        return Path(self.argv[0]).name

    def is_it(self, number: int) -> bool:
        """Whether a process is one of these, and lives: numbers are used again."""
        try:
            line = Path(f"/proc/{number}/cmdline").read_bytes()
        except OSError:
            return False
        return line == b"".join(os.fsencode(word) + b"\0" for word in self.argv) and site.state(number) != "Z"

    def now(self) -> int:
        """The number in the file, 0 where there is none."""
        try:
            return int(self.pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    @property
    def start(self) -> str:
        """Shell that starts it where it does not run, with what it was started with, and writes down its number."""
        file, log = quote(str(self.pid_file)), quote(self.log)
        same = f'tr "\\0" "\\n" < "/proc/$(cat {file})/cmdline"'
        wanted = f"printf '%s\\n' {join(self.argv)}"
        return (
            f'if [ "$({same} 2>/dev/null)" != "$({wanted})" ]; then\n'
            f"cd {quote(self.folder)}\n"
            f"setsid {join(self.argv)} </dev/null >>{log} 2>&1 &\n"
            f"echo $! > {file}\n"
            "fi"
        )


def broken(plan: Plan, how: str, pid_file: Path) -> Fault:
    """It is stopped, killed or held; guests are processes of their own, and are to notice nothing."""
    daemon = Daemon.of(pid_file)
    go_on = f'[ "$(cat {quote(str(pid_file))})" != {daemon.pid} ] || kill -CONT {daemon.pid} || true'
    return Fault(
        targets=(f"process {daemon.pid}, {daemon.name}",),
        inject=f"kill -{SIGNALS[how]} {daemon.pid}",
        undo="\n".join([go_on, daemon.start]),
        signs=(_held(daemon) if how == "hang" else _gone(daemon), signs.silent()),
        outage=False,
        looks={"the node's process": lambda: _seen(daemon)},
    )


def _held(daemon: Daemon) -> Sign:
    def test(_seen: Recorder, _since: float) -> str | None:
        held = daemon.is_it(daemon.pid) and site.state(daemon.pid) == "T"
        return f"process {daemon.pid} is in state T" if held else None

    return Sign(f"{daemon.name} is held", test)


def _gone(daemon: Daemon) -> Sign:
    def test(_seen: Recorder, _since: float) -> str | None:
        return None if daemon.is_it(daemon.pid) else f"process {daemon.pid} is gone"

    return Sign(f"{daemon.name} is gone, and nothing starts it again", test)


def _seen(daemon: Daemon) -> list[str]:
    number = daemon.now()
    if not daemon.is_it(number):
        return [f"{daemon.name} does not run"]
    return [f"{daemon.name} {'is held' if site.state(number) == 'T' else 'runs'}"]
