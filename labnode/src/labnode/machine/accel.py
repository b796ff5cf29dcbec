# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU is here, and whether KVM really works.

/dev/kvm being there proves nothing: it may be forbidden, hang, or be so slow that emulation is faster (a virtual
machine that leaves each exit of its guests to whoever runs it). So one guest is run twice, with KVM and emulated, side
by side: how long either takes is a matter of the machine, how they compare is not. That goes on beside everything else
that a node does when it starts; only what starts guests waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal

from labnode.errors import ApiError
from labnode.machine.model import Qemu
from labnode.storage.run import bound, run, tool

BINARY = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# sti; mov cx, 8; wait: hlt; loop wait; mov dx, 0xf4; mov al, 0x31; out dx, al - QEMU then exits with 2 * 0x31 + 1
BOOT_SECTOR = bytes.fromhex("fbb90800f4e2fdbaf400b031ee").ljust(510, b"\0") + b"\x55\xaa" + bytes(65536 - 512)
DONE = 99
# KVM takes about as long as emulation for what waits for a timer; where it was too slow for a real guest, five times.
SLOWER, MOST_S = 2.0, 60.0
logger = logging.getLogger(__name__)


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
    qemu = Qemu(path, (int(match[1]), int(match[2]), int(match[3])), models, kvm=False)
    if kvm != "off":
        qemu.probe = asyncio.get_running_loop().create_task(kvm_works(path), name="probe-kvm")
    if kvm == "on" and not (await qemu.settled()).kvm:
        raise ApiError("KVM was asked for (--kvm on) and does not work on this machine - use --kvm auto or off")
    return qemu


async def kvm_works(qemu: str, timeout: float = MOST_S, accel: str = "kvm") -> bool:
    """Boot a guest that waits for some timer ticks and then ends QEMU by its debug port; False when that fails, takes
    longer than `timeout` seconds, or SLOWER times as long as without KVM."""
    if accel == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    # in memory only, so that nothing is left behind however this ends
    disk = os.memfd_create("labnode-probe")
    try:
        os.write(disk, BOOT_SECTOR)
        return await _compared(qemu, accel, disk, timeout)
    finally:
        os.close(disk)


async def _compared(qemu: str, accel: str, disk: int, timeout: float) -> bool:
    clock = asyncio.get_running_loop().time
    before = clock()
    tried, other = (asyncio.create_task(_exit_code(_probe_argv(qemu, name, disk), disk)) for name in (accel, "tcg"))
    try:
        await asyncio.wait({tried, other}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        emulated = clock() - before if other.done() and other.result() == DONE else None
        await asyncio.wait({tried}, timeout=(SLOWER * emulated if emulated else timeout) - (clock() - before))
        code = tried.result() if tried.done() else None
        word = "which was first" if emulated is None else f"which took {emulated:.1f} s emulated"
        logger.info("a guest was tried with %s: exit code %s after %.1f s, %s", accel, code, clock() - before, word)
        return code == DONE
    finally:
        for task in (tried, other):
            task.cancel()
        await asyncio.gather(tried, other, return_exceptions=True)


def _probe_argv(qemu: str, accel: str, disk: int) -> list[str]:
    argv = [qemu, "-accel", accel, "-m", "16", "-display", "none", "-nodefaults", "-no-user-config"]
    argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"]
    return [*argv, "-drive", f"file=/proc/self/fd/{disk},format=raw,if=ide,snapshot=on"]


async def _exit_code(argv: list[str], disk: int) -> int:
    """Whoever gives up waiting for it has it killed, as labnode has when it stops."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *bound(argv), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, pass_fds=[disk]
    )
    try:
        return await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            # one that hangs inside the kernel cannot be reaped; it goes when the kernel lets go
            await asyncio.wait_for(process.wait(), 1.0)
