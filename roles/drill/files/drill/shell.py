# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the host, and what systemd says of its units."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

# A host that is busy, or emulated, takes its time; one that hangs is not waited for without end.
LIMIT_S = 120.0
STOP_FILE = Path("/run/pvelab-drill.stop")


class Trouble(Exception):
    """Something that a drill needs is not so; the message says what, where, and what to do."""


class Skip(Trouble):
    """This host cannot have this fault; the message says why."""


def run(argv: Sequence[str], *, timeout_s: float = LIMIT_S) -> str:
    """Standard output of a command. Raises Trouble with its own words where it fails or hangs."""
    code, out, err = attempt(argv, timeout_s=timeout_s)
    if code:
        raise Trouble(f"{' '.join(argv)} ended with {code}: {(err or out).strip()}")
    return out


def attempt(argv: Sequence[str], *, timeout_s: float = LIMIT_S) -> tuple[int, str, str]:
    """Exit status, standard output and standard error. Raises Trouble where there is no such command or it hangs;
    one that hangs is ended with all that it has started, for its undo must not race with it."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Trouble(f"{argv[0]} is not on this host, and this drill needs it") from None
    with process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Trouble(f"{' '.join(argv)} was not done after {timeout_s:g} s") from None
    return process.returncode, out, err


def unit(name: str, *properties: str) -> dict[str, str]:
    """Properties of a unit, as `systemctl show` has them. Raises Trouble."""
    out = run(["systemctl", "show", f"--property={','.join(properties)}", name])
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file whole or not at all, and have it on the disk when this returns."""
    draft = path.with_name(f".{path.name}.new")
    with open(draft, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
