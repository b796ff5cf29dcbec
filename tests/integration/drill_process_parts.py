# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of drills without systemd share: a host that has none, and what a user's plan says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host as Seam
from ansible_collections.pvelab.proxmox.plugins.modules import drill_info
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, program, wanted


def without_systemd(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: a host where systemctl and systemd-run say what they say where nobody answers, and note in a file
    that they were asked; what is left in the end is ended."""
    programs = folder / "none"
    programs.mkdir()
    for name in ("systemctl", "systemd-run"):
        refuses(folder, programs / name)
    patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield
    for process in here(folder):
        process.kill()


def refuses(folder: Path, path: Path) -> None:
    program(path, f'#!/bin/sh\necho "$*" >> {folder}/asked-systemd\nexit 1\n')


def here(folder: Path) -> list[psutil.Process]:
    """The processes that work on files of a test."""
    mine = os.getpid()
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.pid != mine
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and any(f"{folder}/" in word for word in process.info["cmdline"] or [])
    ]


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a session of its own, ended with all of it."""
    with subprocess.Popen(argv, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def theirs(folder: Path, **more: Any) -> dict[str, Any]:
    """A plan for processes, all of whose files lie below the folder."""
    base = {"supervisor": "process", "base": str(folder / "base"), "python": sys.executable}
    return wanted(folder, **{**base, **more})


def running(home: Path) -> bool:
    params = {"directory": str(home.parent), "supervisor": "process", "run": home.name}
    (found,) = drill_info.read(Seam(), params)["runs"]
    return bool(found["running"])


def dead_man(drill: Package, folder: Path, undo: str = "", **limits: float) -> Any:
    plan = drill.plan.from_json(theirs(folder, limits=limits))
    plan.home.mkdir(parents=True, exist_ok=True)
    plan.file.write_text(json.dumps(theirs(folder, limits=limits)))
    made = drill.deadman.DeadMan(plan, undo or f"rm -f '{folder}/broken'")
    made.write()
    return made


def waiting(made: Any, drill: Package) -> Any:
    """The process that waits to undo."""
    (life,) = drill.process.read(made.plan.home / "timer.process")
    return life
