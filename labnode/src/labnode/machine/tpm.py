# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated TPM: a swtpm process beside QEMU, its state in the volume of tpmstate0."""

from __future__ import annotations

import contextlib
import os
import signal

from labnode.errors import ApiError
from labnode.guests.drive import parse_drive
from labnode.machine.command import Plan
from labnode.machine.places import Places, live_pid
from labnode.storage.run import run, tool


async def start(plan: Plan) -> None:
    """Start swtpm when the configuration has a TPM; ApiError when swtpm is not installed."""
    text = plan.config.get("tpmstate0")
    if not text:
        return
    if tool("swtpm") is None:
        raise ApiError(
            "tpmstate0: the TPM needs program 'swtpm', which is not installed - apt install swtpm swtpm-tools"
        )
    drive = parse_drive("tpmstate0", text)
    path = plan.storage.path(drive.file)
    if not path.exists():
        raise ApiError(f"tpmstate0: volume '{drive.file}' does not exist")
    places = plan.places
    backend = f"backend-uri=file://{path},mode=0600"
    argv = ["swtpm", "socket", "--tpmstate", backend, "--ctrl", f"type=unixio,path={places.socket('swtpm')},mode=0600"]
    argv += ["--pid", f"file={places.directory / 'swtpm.pid'}", "--terminate", "--daemon"]
    argv += ["--log", f"file={places.directory / 'swtpm.log'},level=1"]
    argv += ["--tpm2"] if drive.options.get("version") == "v2.0" else []
    await run(argv, error="start of swtpm failed", package="swtpm", timeout=10)


async def stop(places: Places) -> None:
    """End a swtpm that QEMU left behind."""
    pid = live_pid(places.directory / "swtpm.pid", str(places.socket("swtpm")))
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
