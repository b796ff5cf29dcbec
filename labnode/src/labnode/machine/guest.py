# SPDX-License-Identifier: GPL-3.0-or-later
"""One guest's process: making it, looking at it, ending it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.machine.places import Places
from labnode.machine.qmp import Monitor, connect
from labnode.storage.run import run

Log = Callable[[str], None]
MANY = 1 << 40  # bytes a second: memory is saved as fast as the disk takes it
INACTIVE_BY_NODE = (10, 0)


class Guest:
    """The process of one guest, found by its pid file. Holds no state but a lock: one QMP client at a time."""

    def __init__(self, run_dir: Path, vmid: int) -> None:
        self.vmid = vmid
        self.places = Places(run_dir, vmid)
        self.lock = asyncio.Lock()
        self.agent_lock = asyncio.Lock()
        self.seen: tuple[int, float, float] | None = None  # pid, time, CPU seconds at the last look

    @property
    def pid(self) -> int | None:
        """The process id, None when there is no process."""
        return self.places.pid()

    @contextlib.asynccontextmanager
    async def monitor(self, timeout: float = 30.0) -> AsyncIterator[Monitor]:
        """A QMP connection, alone; ApiError "VM 100 not running", or where QEMU lets it wait for `timeout` seconds."""
        if self.pid is None:
            raise ApiError(f"VM {self.vmid} not running")
        async with self.lock, connect(self.vmid, self.places.socket("qmp"), timeout) as monitor:
            yield monitor

    def meta(self) -> dict[str, Any]:
        """What was started; empty when nothing is known."""
        try:
            found: dict[str, Any] = json.loads(self.places.meta.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    async def spawn(self, argv: list[str], meta: dict[str, Any], *, timeout: float) -> int:
        """Start QEMU with its CPUs stopped and return its pid; ApiError with QEMU's own words when it will not
        start."""
        self.places.make()
        for name in ("qmp", "qga", "vnc", *(f"serial{n}" for n in range(4))):
            self.places.socket(name).unlink(missing_ok=True)
        self.places.pid_file.unlink(missing_ok=True)
        self.places.meta.write_text(json.dumps(meta), encoding="utf-8")
        self.seen = None
        await run(argv, error="start failed", package="qemu-system-x86", timeout=timeout)
        pid = self.pid
        if pid is None:
            raise ApiError(f"start failed: QEMU of VM {self.vmid} ended at once - see {self.places.log}")
        return pid

    async def kill(self, *, timeout: float) -> None:
        """End the process: QMP quit, then SIGTERM, then SIGKILL."""
        pid = self.pid
        if pid is None:
            return
        with contextlib.suppress(ApiError):
            async with self.monitor(timeout=2.0) as qmp:
                await qmp("quit")
        for number, wait in ((None, timeout), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
            if number is not None and self.pid == pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if await self.gone(wait):
                return
        raise ApiError(f"process {pid} of VM {self.vmid} does not end - it hangs in the kernel")

    async def gone(self, timeout: float) -> bool:
        """Wait for the process to end; False when it has not after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.pid is not None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def forget(self) -> None:
        """Remove the files of a process that is gone; its logs stay."""
        for path in self.places.socket("x").parent.glob("*.sock"):
            path.unlink(missing_ok=True)
        for path in (self.places.pid_file, self.places.meta, self.places.directory / "efivars.fd"):
            path.unlink(missing_ok=True)

    # memory -------------------------------------------------------------------------------------------------------

    async def save(self, path: Path, version: tuple[int, int, int], *, timeout: float) -> int:
        """Stop the CPUs and write memory and devices to a file or block device that is there already; bytes written.

        The images stay usable by this QEMU, so that snapshots of them can follow."""
        async with self.monitor() as qmp:
            await qmp("stop")
            await qmp("migrate-set-parameters", max_bandwidth=MANY)
            # 1<> opens for writing without cutting a raw volume short
            await qmp("migrate", uri=f"exec:cat 1<>{shlex.quote(str(path))}")
            done = await _finished(qmp, timeout)
            await _activate_images(qmp, version, self.places.socket("nbd"))
        written = done.get("ram", {}).get("transferred", 0)
        return int(written)

    async def load(self, path: Path, *, timeout: float) -> None:
        """Read memory and devices into a QEMU started with `-incoming defer`."""
        async with self.monitor() as qmp:
            await qmp("migrate-incoming", uri=f"exec:cat {shlex.quote(str(path))}")
            await _finished(qmp, timeout)


async def _finished(qmp: Monitor, timeout: float) -> dict[str, Any]:
    """Wait for a migration; ApiError when it fails or takes too long."""
    deadline = time.monotonic() + timeout
    while True:
        found: dict[str, Any] = await qmp("query-migrate")
        status = found.get("status")
        if status == "completed":
            return found
        if status in ("failed", "cancelled"):
            cause = found.get("error-desc", "the state file is damaged or too small")
            raise ApiError(f"VM {qmp.vmid} memory transfer {status}: {cause}")
        if time.monotonic() > deadline:
            await qmp("migrate_cancel")
            raise ApiError(f"VM {qmp.vmid} memory transfer - got timeout after {timeout:g} s")
        await asyncio.sleep(0.05)


async def _activate_images(qmp: Monitor, version: tuple[int, int, int], socket: Path) -> None:
    """After a migration QEMU holds its images as if another process had them. Take them back without running the CPUs.

    QEMU 10 has a command for it; before that, exporting a node over NBD takes it back as a side effect (QEMU
    block/export).
    """
    tops = [str(item["inserted"]["node-name"]) for item in await qmp("query-block") if item.get("inserted")]
    if version[:2] >= INACTIVE_BY_NODE:
        await qmp("blockdev-set-active", active=True)
        return
    if not tops:
        return
    socket.unlink(missing_ok=True)
    await qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
    try:
        for number, name in enumerate(tops):
            await qmp("block-export-add", type="nbd", id=f"take-back{number}", node_name=name, name=name)
            await qmp("block-export-del", id=f"take-back{number}", mode="hard")
    finally:
        await qmp("nbd-server-stop")
        socket.unlink(missing_ok=True)
