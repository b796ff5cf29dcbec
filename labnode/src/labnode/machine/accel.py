# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU is here, and whether KVM really works.

/dev/kvm being there proves nothing: it may be forbidden, or hang. So a guest is run with it for a moment, under a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal

from labnode.errors import ApiError
from labnode.machine.model import Qemu
from labnode.storage.run import run, tool

BINARY = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"


async def find_qemu(kvm: str) -> Qemu:
    """The installed QEMU. `kvm` is auto, on or off; `on` where KVM does not work is ApiError."""
    path = tool(BINARY)
    if path is None:
        raise ApiError(f"program '{BINARY}' is not installed - apt install {PACKAGE}")
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", await run([BINARY, "--version"], package=PACKAGE, timeout=30))
    if match is None:
        raise ApiError(f"'{path} --version' does not tell its version")
    listing = await run([BINARY, "-cpu", "help"], package=PACKAGE, timeout=30)
    models = frozenset(re.findall(r"^(?:x86 )?\s*([A-Za-z0-9][\w.-]*)", listing.partition("Recognized")[0], re.M))
    works = kvm != "off" and await kvm_works(path)
    if kvm == "on" and not works:
        raise ApiError("KVM was asked for (--kvm on) and does not work on this machine - use --kvm auto or off")
    return Qemu(path, (int(match[1]), int(match[2]), int(match[3])), models, works)


async def kvm_works(qemu: str, timeout: float = 3.0) -> bool:
    """Run the firmware under KVM and ask over QMP whether the guest's CPU runs; False when that takes longer than `timeout` seconds."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = [qemu, "-accel", "kvm", "-m", "16", "-display", "none", "-nodefaults", "-S", "-qmp", "stdio"]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        return await asyncio.wait_for(_runs(process), timeout)
    except (TimeoutError, OSError):
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            # one that hangs inside the kernel cannot be reaped; it goes when the kernel lets go
            await asyncio.wait_for(process.wait(), 1.0)


async def _runs(process: asyncio.subprocess.Process) -> bool:
    assert process.stdin is not None and process.stdout is not None
    await process.stdout.readline()
    wanted = b'"status": "running"'
    for command in (b"qmp_capabilities", b"cont", b"system_reset", b"query-status"):
        process.stdin.write(b'{"execute": "' + command + b'"}\n')
        await process.stdin.drain()
    while line := await process.stdout.readline():
        if b'"return"' in line and wanted in line:
            # registers that moved away from the reset vector prove that the CPU executes
            process.stdin.write(b'{"execute": "human-monitor-command", "arguments": {"command-line": "info registers"}}\n')
            await process.stdin.drain()
        elif b"EIP=" in line or b"RIP=" in line:
            return b"EIP=0000fff0" not in line
    return False
