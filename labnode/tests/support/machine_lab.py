# SPDX-License-Identifier: GPL-3.0-or-later
"""Real QEMU processes and real switches, without the API in front."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labnode.machine.service import MachineService
from labnode.machine.switch import Switch
from labnode.storage import StorageService

# A boot sector that adds one to the word at 0x7E00 for ever, so that memory tells how far it got.
COUNTER = bytes.fromhex("31c08ed8ff06007eebfa").ljust(510, b"\0") + b"\x55\xaa"
MAC = "BC:24:11:00:00:0"


@dataclass
class Lab:
    """The services of one node, and what its guests and tasks said."""

    state: Path
    storage: StorageService
    switch: Switch
    machines: MachineService
    bridges: set[str]
    warnings: list[str] = field(default_factory=list)

    async def start(self, vmid: int, config: dict[str, str], **how: Any) -> int:
        """Start a guest, keeping its warnings."""
        return await self.machines.start(vmid, config, warn=self.warnings.append, **how)

    async def disk(self, vmid: int, fmt: str = "qcow2", content: bytes = COUNTER) -> str:
        """A volume with the given first sectors."""
        image = self.state / "image.raw"
        image.write_bytes(content.ljust(1 << 20, b"\0"))
        return await self.storage.clone_full(str(image), "local", vmid, fmt)

    async def count(self, vmid: int) -> int:
        """How far the counting guest got."""
        text = await self.machines.hmp(vmid, "xp /1hx 0x7e00")
        return int(text.split(":")[1].strip(), 16)

    def again(self) -> MachineService:
        """The machines as a labnode started anew finds them."""
        return MachineService(self.state / "run", "pve1", self.storage, self.switch, self.machines.qemu)


async def until(condition: Callable[[], Awaitable[Any]], what: str, timeout_s: float = 20.0) -> Any:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + timeout_s
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        await asyncio.sleep(0.02)
    return value
