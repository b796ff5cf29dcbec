# SPDX-License-Identifier: GPL-3.0-or-later
"""The node: its settings and the services that make it up. Pure wiring."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labnode.auth import Auth
from labnode.samples import Samples
from labnode.store import Store
from labnode.system import System
from labnode.tasks import TaskService

if TYPE_CHECKING:
    from labnode.guests.service import GuestService
    from labnode.machine.service import MachineService
    from labnode.machine.switch import Switch
    from labnode.storage.service import StorageService


@dataclass(frozen=True)
class Settings:
    """What the command line decides. ``auth_delay`` is the pause in seconds before a 401 is answered."""

    state_dir: Path
    node_name: str = "pve1"
    host: str = "127.0.0.1"
    port: int = 8006
    kvm: str = "auto"
    auth_delay: float = 3.0
    root_password: str | None = field(default=None, repr=False)


class Node:
    """One embedded node. ``kvm`` is settled (True or False) once ``start`` has run."""

    guests: GuestService
    storage: StorageService
    machines: MachineService
    switch: Switch

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.node_name
        self.state_dir = settings.state_dir
        self.kvm = False
        self.store = Store(settings.state_dir)
        self.tasks = TaskService(self.name, self.store)
        self.auth = Auth(self.store, settings.auth_delay)
        self.system = System()
        self.samples = Samples()
        self._sampler: asyncio.Task[None] | None = None

    def etc(self, rel: str) -> str:
        """Store path of a file in the node's own part of /etc/pve, e.g. ``qemu-server/100.conf``."""
        return f"etc/nodes/{self.name}/{rel}"

    def start_sampling(self) -> None:
        """Take samples for ``rrddata`` from now on."""
        self._sampler = asyncio.get_running_loop().create_task(self.samples.run(self))

    async def stop_sampling(self) -> None:
        """Take no more samples."""
        if self._sampler:
            self._sampler.cancel()
            await asyncio.gather(self._sampler, return_exceptions=True)


async def build(settings: Settings) -> Node:
    """Wire a node: read what is on disk, make the services, find running guests again."""
    node = Node(settings)
    node.kvm = await use_kvm(settings.kvm)
    node.tasks.load()
    node.auth.load(settings.root_password)
    run_dir = settings.state_dir / "run"
    node.storage = _class("storage.service", "StorageService")(node.store, node.name)
    node.switch = _class("machine.switch", "Switch")(run_dir)
    node.machines = _class("machine.service", "MachineService")(run_dir, node.name, node.storage, node.switch, node.kvm)
    node.guests = _class("guests.service", "GuestService")(node)
    for service in (node.storage, node.guests):
        if service:
            await service.start()
    node.start_sampling()
    return node


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"labnode.{module}"), name)
    except ImportError as err:
        logging.getLogger(__name__).warning("%s", err)
        return lambda *args: None


async def shutdown(node: Node) -> None:
    """Stop guests and tasks, in the order that lets each finish cleanly."""
    await node.stop_sampling()
    await node.tasks.stop()
    if node.guests:
        await node.guests.stop()
    if node.machines:
        await node.machines.stop_all()


async def use_kvm(choice: str) -> bool:
    """Settle ``auto | on | off``. A device that is there may still hang, so ``auto`` asks for proof within a bound."""
    if choice != "auto":
        return choice == "on"
    device = Path("/dev/kvm")
    if not (device.exists() and os.access(device, os.R_OK | os.W_OK)):
        return False
    return await kvm_works()


async def kvm_works(timeout: float = 5.0) -> bool:
    """Whether a QEMU with KVM runs a virtual CPU: an empty machine must reach QMP and quit in ``timeout`` seconds."""
    binary = shutil.which("qemu-system-x86_64")
    if not binary:
        return False
    argv = [binary, "-accel", "kvm", "-machine", "q35", "-m", "16", "-display", "none", "-nodefaults", "-no-reboot",
            "-device", "isa-debug-exit", "-monitor", "stdio"]  # fmt: skip
    proc = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(timeout):
            await proc.communicate(b"info status\nstop\nquit\n")
        return proc.returncode == 0
    except TimeoutError:
        return False
    finally:
        if proc.returncode is None:
            proc.kill()
            await proc.wait()
