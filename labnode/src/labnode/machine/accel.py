# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU is here, and whether KVM really works.

/dev/kvm being there proves nothing: it may be forbidden, or hang. So a guest is run with it for a moment, under a
time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile

from labnode.errors import ApiError
from labnode.machine.model import Qemu
from labnode.storage.run import run, tool

BINARY = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# sti; mov cx, 8; wait: hlt; loop wait; mov dx, 0xf4; mov al, 0x31; out dx, al - QEMU then exits with 2 * 0x31 + 1
BOOT_SECTOR = bytes.fromhex("fbb90800f4e2fdbaf400b031ee").ljust(510, b"\0") + b"\x55\xaa" + bytes(65536 - 512)
DONE = 99


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


async def kvm_works(qemu: str, timeout: float = 2.0, accel: str = "kvm") -> bool:
    """Boot a guest that waits for some timer ticks and then ends QEMU by its debug port; False when that fails or takes
    longer than `timeout` seconds. A KVM that starts guests and loses them later does not pass."""
    if accel == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.NamedTemporaryFile(prefix="labnode-probe-") as disk:
        disk.write(BOOT_SECTOR)
        disk.flush()
        argv = [qemu, "-accel", accel, "-m", "16", "-display", "none", "-nodefaults", "-no-user-config"]
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"]
        argv += ["-drive", f"file={disk.name},format=raw,if=ide,snapshot=on"]
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
        try:
            return await asyncio.wait_for(process.wait(), timeout) == DONE
        except TimeoutError:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                # one that hangs inside the kernel cannot be reaped; it goes when the kernel lets go
                await asyncio.wait_for(process.wait(), 1.0)
