# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU is here, and whether KVM really works.

/dev/kvm being there proves nothing: it may be forbidden, or hang. So a guest is run with it, under a time limit. How
long a KVM that works takes for that is a matter of the machine: one that is emulated itself takes ten times as long for
everything. So the limit grows with the time that QEMU takes to tell about itself, and the guest runs beside everything
else that a node does when it starts; only what starts guests waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import time

from labnode.errors import ApiError
from labnode.machine.model import Qemu
from labnode.storage.run import bound, run, tool

BINARY = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# sti; mov cx, 8; wait: hlt; loop wait; mov dx, 0xf4; mov al, 0x31; out dx, al - QEMU then exits with 2 * 0x31 + 1
BOOT_SECTOR = bytes.fromhex("fbb90800f4e2fdbaf400b031ee").ljust(510, b"\0") + b"\x55\xaa" + bytes(65536 - 512)
DONE = 99
LEAST_S, MOST_S, PACE = 2.0, 30.0, 10.0
logger = logging.getLogger(__name__)


async def find_qemu(kvm: str) -> Qemu:
    """The installed QEMU. `kvm` is auto, on or off; `on` where KVM does not work is ApiError."""
    path = tool(BINARY)
    if path is None:
        raise ApiError(f"program '{BINARY}' is not installed - apt install {PACKAGE}")
    before = time.monotonic()
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", await run([BINARY, "--version"], package=PACKAGE, timeout=30))
    if match is None:
        raise ApiError(f"'{path} --version' does not tell its version")
    listing = await run([BINARY, "-cpu", "help"], package=PACKAGE, timeout=30)
    models = frozenset(re.findall(r"^(?:x86 )?\s*([A-Za-z0-9][\w.-]*)", listing.partition("Recognized")[0], re.M))
    qemu = Qemu(path, (int(match[1]), int(match[2]), int(match[3])), models, kvm=False)
    if kvm != "off":
        limit = time_limit(time.monotonic() - before)
        qemu.probe = asyncio.get_running_loop().create_task(kvm_works(path, limit), name="probe-kvm")
    if kvm == "on" and not (await qemu.settled()).kvm:
        raise ApiError("KVM was asked for (--kvm on) and does not work on this machine - use --kvm auto or off")
    return qemu


def time_limit(told_in: float) -> float:
    """Seconds that the guest of the probe may take where QEMU takes `told_in` to tell its version and its CPUs."""
    return min(max(LEAST_S, PACE * told_in), MOST_S)


async def kvm_works(qemu: str, timeout: float = LEAST_S, accel: str = "kvm") -> bool:
    """Boot a guest that waits for some timer ticks and then ends QEMU by its debug port; False when that fails or takes
    longer than `timeout` seconds. A KVM that starts guests and loses them later does not pass."""
    if accel == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    before = time.monotonic()
    # in memory only, so that nothing is left behind however this ends
    disk = os.memfd_create("labnode-probe")
    try:
        os.write(disk, BOOT_SECTOR)
        code = await _exit_code(_probe_argv(qemu, accel, disk), disk, timeout)
    finally:
        os.close(disk)
    took = time.monotonic() - before
    logger.info("a guest was tried with %s: exit code %s after %.1f of %.1f s", accel, code, took, timeout)
    return code == DONE


def _probe_argv(qemu: str, accel: str, disk: int) -> list[str]:
    argv = [qemu, "-accel", accel, "-m", "16", "-display", "none", "-nodefaults", "-no-user-config"]
    argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"]
    return [*argv, "-drive", f"file=/proc/self/fd/{disk},format=raw,if=ide,snapshot=on"]


async def _exit_code(argv: list[str], disk: int, timeout: float) -> int | None:
    """None where it took too long; it is killed then, as it is when labnode is."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *bound(argv), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, pass_fds=[disk]
    )
    try:
        return await asyncio.wait_for(process.wait(), timeout)
    except TimeoutError:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            # one that hangs inside the kernel cannot be reaped; it goes when the kernel lets go
            await asyncio.wait_for(process.wait(), 1.0)
