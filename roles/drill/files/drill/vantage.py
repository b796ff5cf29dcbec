# SPDX-License-Identifier: GPL-3.0-or-later
"""A look from outside: a process on a machine that the drill does not break, which asks the host and its guests whether
they answer, and keeps each try in a file.

It is started before anything is broken and is nobody's child: it ends when it is told to. Where its time is over, or
the Ansible that has started it on the same machine is gone, it ends by itself and takes away all that it has written,
for nobody will fetch it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import process, shell, silence, web
from .probes import Probe, from_json
from .shell import Trouble
from .silence import Try

TRIES, LIFE = "vantage.jsonl", "vantage.process"
# Beside the rest only where it was brought for this one look.
PROGRAM = "drill.pyz"
STOP_S = 15.0
# A watch that is late by so much has not looked meanwhile.
LATE_S, BEAT_S = 0.5, 0.1
# What Ansible is called as a process; the workers that it forks have its name, too.
ANSIBLE = ("ansible-playbook", "ansible-pull", "ansible")


@dataclass(frozen=True)
class Post:
    """Where somebody looks from: what a report calls it, what is asked, and for how long at most."""

    file: Path
    name: str
    probes: tuple[Probe, ...]
    ends_s: float

    def beside(self, name: str) -> Path:
        return self.file.with_name(name)


def read(path: Path) -> Post:
    """A post from a file: ``{name, probes, ends_s}``. Raises Trouble where it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Post(path, str(data["name"]), from_json(data["probes"]), float(data["ends_s"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Trouble(f"{path} says nothing of where to look from: {type(error).__name__} {error}") from error


def begin(path: Path) -> int:
    """Have a process of its own look, and return when it does. Raises Trouble where it does not."""
    post = read(path)
    if _alive(post):
        raise Trouble(f"{post.beside(LIFE)} names a process that looks already; have it leave first")
    master = _master()
    lost = f"nobody looks from {post.name}: the process ended before it had begun"
    process.begin(lambda word: _apart(post, word, master), lost)
    return 0


def leave(path: Path) -> int:
    """It looks no longer; what it has seen stays. May be called twice."""
    post = read(path)
    for life in process.read(post.beside(LIFE)):
        if life.alive and not life.end(signal.SIGTERM, STOP_S):
            life.end(signal.SIGKILL, STOP_S)
    post.beside(LIFE).unlink(missing_ok=True)
    return 0


def seen(path: Path) -> int:
    """Print what it has seen until now, as JSON, by the clock of the machine that it looked from."""
    post = read(path)
    try:
        with post.beside(TRIES).open(encoding="utf-8", errors="replace") as file:
            head = json.loads(file.readline())
            tries, gaps = silence.read(file)
        print(json.dumps(summary(post, head, tries, gaps)))
    except (OSError, ValueError) as error:
        raise Trouble(f"{post.beside(TRIES)} cannot be read: {type(error).__name__} {error}") from error
    return 0


def summary(
    post: Post, head: Mapping[str, Any], tries: Mapping[str, list[Try]], gaps: list[silence.Gap]
) -> dict[str, Any]:
    """What it has seen: ``mono`` and ``wall`` are one moment by both clocks there, ``dates`` are of the https probe."""
    every = sorted(one.at for found in tries.values() for one in found)
    return {
        "name": post.name,
        "mono": float(head["mono"]),
        "wall": float(head["wall"]),
        "from": every[0] if every else None,
        "to": every[-1] if every else None,
        "gaps": [{"from": begin, "to": end} for begin, end in gaps],
        "probes": [silence.summary(probe.told(), tries.get(probe.name, []), gaps) for probe in post.probes],
        "dates": silence.dates(one for found in tries.values() for one in found),
    }


def _alive(post: Post) -> bool:
    return any(life.alive for life in process.read(post.beside(LIFE)))


def _master() -> process.Life | None:
    """The Ansible that has this process do it, where there is one on this machine: the first of those with its name."""
    named = [life for life in process.before(os.getpid()) if {Path(word).name for word in life.argv()[:3]} & {*ANSIBLE}]
    return named[-1] if named else None


def _apart(post: Post, word: int, master: process.Life | None) -> int:
    """The process that looks, in a session of its own: whoever has started it may go."""
    os.setsid()
    os.chdir("/")
    told = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_none: told.set())
    nothing = os.open(os.devnull, os.O_RDWR)
    for door in (0, 1, 2):
        os.dup2(nothing, door)
    with post.beside(TRIES).open("w", encoding="utf-8", buffering=1) as out:
        shell.write(post.beside(LIFE), process.text(process.life(os.getpid())))
        os.write(word, b".")
        os.close(word)
        look(post, out, told, master)
    if not told.is_set():
        for name in (TRIES, LIFE, PROGRAM, post.file.name):
            post.beside(name).unlink(missing_ok=True)
        with suppress(OSError):  # there is something else in it
            post.file.parent.rmdir()
    return 0


def look(post: Post, out: IO[str], told: threading.Event, master: process.Life | None = None) -> None:
    """Ask until it is told to end, its time is over, or its master is gone. Each try is in the file at once."""
    out.write(json.dumps({"vantage": post.name, "mono": time.monotonic(), "wall": time.time()}) + "\n")
    ends = threading.Event()
    thread = threading.Thread(target=web.ask, args=(post.probes, _into(out), ends), daemon=True)
    thread.start()
    over = time.monotonic() + post.ends_s
    last = time.monotonic()
    while not told.wait(BEAT_S) and last < over and (master is None or master.alive):
        now = time.monotonic()
        if now - last > LATE_S:
            out.write(json.dumps({"gap": [round(last, 3), round(now, 3)]}) + "\n")
        last = now
    ends.set()
    thread.join(STOP_S / 3)


def _into(out: IO[str]) -> Callable[[str, Try], None]:
    """Writes a try whole, from whichever thread."""
    lock = threading.Lock()

    def note(name: str, one: Try) -> None:
        with lock, suppress(ValueError):  # closed: an answer that came too late
            out.write(silence.line(name, one))

    return note
