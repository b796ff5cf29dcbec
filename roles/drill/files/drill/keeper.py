# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service of systemd does for a runner, where there is none: a process that starts it, tells it to end, and
undoes what it leaves where it ends without its own knowledge."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from . import process, shell
from .plan import Plan
from .shell import Trouble
from .supervisor import RUNNER, STOP_S

# What the runner says, as the journal of systemd would have it.
SAID = "runner.out"
LONGEST_S = 3600.0


def begin(wanted: Plan, path: Path) -> None:
    """Have the run of a plan begin in processes of its own, and return as soon as they are known by their file. Raises
    Trouble where it runs already, or does not begin."""
    if any(life.alive for life in process.read(wanted.home / RUNNER)):
        raise Trouble(f"{wanted.run} runs already ({wanted.home / RUNNER})")
    process.begin(lambda word: _keep(wanted, path, word), f"{wanted.run} did not begin; {wanted.home / SAID} says why")


def _keep(wanted: Plan, path: Path, word: int) -> int:
    """The process beside the runner: from its start until nothing of it is left to undo."""
    os.setsid()
    os.chdir("/")
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_none: asked.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _speak_to(wanted.home / SAID)
    program = [wanted.python, wanted.program]
    runner = subprocess.Popen([*program, "run", str(path)], stdin=subprocess.DEVNULL)
    shell.write(wanted.home / RUNNER, process.text(process.life(os.getpid()), process.life(runner.pid)))
    os.write(word, b".")
    os.close(word)
    _wait(runner, asked)
    return subprocess.run([*program, "close", str(path)], stdin=subprocess.DEVNULL, check=False).returncode


def _speak_to(path: Path) -> None:
    """Nothing is read any more, and what is said goes to a file."""
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, to in ((0, nothing), (1, out), (2, out)):
        os.dup2(to, number)
    os.close(out)
    os.close(nothing)


def _wait(runner: subprocess.Popen[bytes], asked: threading.Event) -> None:
    """For its end; one that is asked to end, or goes on for too long, is told so, and killed where it does not."""
    ends, told = time.monotonic() + LONGEST_S, False
    while runner.poll() is None:
        late = time.monotonic() > ends
        if told and late:
            runner.kill()
        elif late or (asked.is_set() and not told):
            runner.terminate()
            ends, told = time.monotonic() + STOP_S, True
        with suppress(subprocess.TimeoutExpired):
            runner.wait(0.1)
