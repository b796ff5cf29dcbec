# SPDX-License-Identifier: GPL-3.0-or-later
"""Which QEMU is here, and whether KVM really works.

/dev/kvm being there proves nothing: it may be forbidden, hang, or be so slow that emulation is faster (a virtual
machine that leaves each exit of its guests to whoever runs it). So one guest is run twice, with KVM and emulated, side
by side: how long either takes is a matter of the machine, how they compare is not. That goes on beside everything else
that a node does when it starts; only what starts guests waits for it.

All of that is noted, because a node that starts again while its host has other things to do is to be back soon: for as
long as QEMU is the same file, and that KVM works until the next boot.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from labnode.errors import ApiError
from labnode.machine.model import Qemu
from labnode.storage.run import bound, run, tool
from labnode.store import write_atomic

BINARY = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
# sti; mov cx, 8; wait: hlt; loop wait; mov dx, 0xf4; mov al, 0x31; out dx, al - QEMU then exits with 2 * 0x31 + 1
BOOT_SECTOR = bytes.fromhex("fbb90800f4e2fdbaf400b031ee").ljust(510, b"\0") + b"\x55\xaa" + bytes(65536 - 512)
DONE = 99
# KVM takes about as long as emulation for what waits for a timer; where it was too slow for a real guest, five times.
SLOWER, MOST_S = 2.0, 60.0
# QEMU says what it is at once, unless the host is busy with a fault.
ASKED_S = 120.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
logger = logging.getLogger(__name__)


@dataclass
class Notes:
    """What is known of the QEMU at ``path`` from earlier starts, in a file of the node's (None: nothing is kept)."""

    file: Path | None
    path: str

    def read(self) -> dict[str, object]:
        """Nothing where there is no such file, or it is about another QEMU."""
        try:
            known = json.loads(self.file.read_text(encoding="utf-8")) if self.file else {}
            return known if known.get("file") == self._stamp() else {}
        except (OSError, ValueError, AttributeError):
            return {}

    def write(self, **known: object) -> None:
        """Beside what is known already. Where it cannot be kept it is found out again."""
        if self.file:
            with contextlib.suppress(OSError):
                text = json.dumps({**self.read(), "file": self._stamp(), **known}, indent=2)
                write_atomic(self.file, text.encode() + b"\n")

    def _stamp(self) -> list[object]:
        status = os.stat(self.path)
        return [self.path, status.st_size, status.st_mtime_ns]


async def find_qemu(kvm: str, noted: Path | None = None) -> Qemu:
    """The installed QEMU. `kvm` is auto, on or off; `on` where KVM does not work is ApiError. What is found out is
    kept in the file `noted`."""
    path = tool(BINARY)
    if path is None:
        raise ApiError(f"program '{BINARY}' is not installed - apt install {PACKAGE}")
    notes = Notes(noted, path)
    told = notes.read().get("says")
    if not isinstance(told, list):
        told = [
            await run([BINARY, *asked], package=PACKAGE, timeout=ASKED_S) for asked in (["--version"], ["-cpu", "help"])
        ]
        notes.write(says=told)
    qemu = _read(path, *map(str, told))
    if kvm != "off":
        qemu.kvm = _works_still(notes)
        qemu.probe = None if qemu.kvm else asyncio.get_running_loop().create_task(_tried(notes), name="probe-kvm")
    if kvm == "on" and not (await qemu.settled()).kvm:
        raise ApiError("KVM was asked for (--kvm on) and does not work on this machine - use --kvm auto or off")
    return qemu


def _read(path: str, version: str, models: str) -> Qemu:
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        raise ApiError(f"'{path} --version' does not tell its version")
    names = re.findall(r"^(?:x86 )?\s*([A-Za-z0-9][\w.-]*)", models.partition("Recognized")[0], re.M)
    return Qemu(path, (int(match[1]), int(match[2]), int(match[3])), frozenset(names), kvm=False)


def _works_still(notes: Notes) -> bool:
    """Whether KVM was seen to work since this machine has booted. That it did not is tried again: it may have been the
    load."""
    return _usable() and notes.read().get("kvm_works_in_boot") == _boot()


async def _tried(notes: Notes) -> bool:
    works = await kvm_works(notes.path)
    if works:
        notes.write(kvm_works_in_boot=_boot())
    return works


def _boot() -> str:
    return BOOT_ID.read_text(encoding="ascii").strip()


def _usable() -> bool:
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


async def kvm_works(qemu: str, timeout: float = MOST_S, accel: str = "kvm") -> bool:
    """Boot a guest that waits for some timer ticks and then ends QEMU by its debug port; False when that fails, takes
    longer than `timeout` seconds, or SLOWER times as long as without KVM."""
    if accel == "kvm" and not _usable():
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
