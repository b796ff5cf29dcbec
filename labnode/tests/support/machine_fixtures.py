# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: real QEMU processes and real switches, without the API in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from machine_lab import Lab

from labnode.machine.accel import find_qemu
from labnode.machine.model import Qemu
from labnode.machine.service import MachineService
from labnode.machine.switch import Switch
from labnode.storage import StorageService
from labnode.store import Store


@pytest.fixture(scope="session")
def qemu() -> Qemu:
    """The installed QEMU, without KVM."""
    return asyncio.run(find_qemu("off"))


@pytest.fixture
async def lab(tmp_path: Path, qemu: Qemu) -> AsyncIterator[Lab]:
    """Services over an empty state directory; all processes are gone afterwards."""
    storage = StorageService(Store(tmp_path), "pve1")
    await storage.start()
    bridges = {"vmbr0", "vmbr1"}
    switch = Switch(tmp_path / "run", lambda: bridges)
    machines = MachineService(tmp_path / "run", "pve1", storage, switch, qemu)
    yield Lab(tmp_path, storage, switch, machines, bridges)
    await machines.stop_all()
    assert not machines.running()
    assert not switch.running()
