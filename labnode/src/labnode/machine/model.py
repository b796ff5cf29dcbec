# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain data the machine layer hands out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """What a running guest is doing now.

    qmpstatus is QEMU's own word (running, paused, io-error, prelaunch, ...); uptime in whole seconds; cpu is the
    share of all
    its virtual CPUs in use (0..1) since the last look; mem is the bytes the guest uses (by balloon statistics, else
    resident
    memory of the process); the counters are bytes since start. `nics` and `blockstat` are by device (`tap100i0`,
    `scsi0`).
    """

    pid: int
    qmpstatus: str
    uptime: int
    cpu: float
    mem: int
    memhost: int
    netin: int
    netout: int
    diskread: int
    diskwrite: int
    balloon: int | None = None
    ballooninfo: dict[str, Any] = field(default_factory=dict)
    nics: dict[str, dict[str, int]] = field(default_factory=dict)
    blockstat: dict[str, Any] = field(default_factory=dict)
    running_machine: str = ""
    running_qemu: str = ""
    running_cpu: str = ""


@dataclass(frozen=True)
class Earlier:
    """What a guest had in an earlier run and starts with again: its memory (the path of a vmstate volume), the machine
    type and the CPU (an argument of `-cpu`). None where the start is to find its own."""

    state_file: Path | None = None
    machine: str | None = None
    cpu: str | None = None


ANEW = Earlier()


@dataclass
class Qemu:
    """The installed QEMU: its version and the CPU models it knows, and whether KVM works on this node.

    As long as there is a `probe`, that is not known yet, and `kvm` is False."""

    binary: str
    version: tuple[int, int, int]
    models: frozenset[str]
    kvm: bool
    probe: asyncio.Task[bool] | None = None

    async def settled(self) -> Qemu:
        """Itself, once it is known whether KVM works."""
        if self.probe is not None:
            # whoever waits may be cancelled, the probe not
            self.kvm = await asyncio.shield(self.probe)
            self.probe = None
        return self

    async def close(self) -> None:
        """Give up a probe that runs."""
        if self.probe is not None:
            self.probe.cancel()
            await asyncio.gather(self.probe, return_exceptions=True)

    @property
    def text(self) -> str:
        """`7.2.22`."""
        return ".".join(str(part) for part in self.version)
