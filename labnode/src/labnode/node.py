# SPDX-License-Identifier: GPL-3.0-or-later
"""The node: its settings and the services that make it up. Pure wiring."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from labnode.auth import Auth
from labnode.guests.service import GuestService
from labnode.machine import scope
from labnode.machine.accel import find_qemu
from labnode.machine.model import Qemu
from labnode.machine.service import MachineService
from labnode.machine.switch import Switch
from labnode.network.config import NetworkConfig
from labnode.samples import Samples
from labnode.storage.service import StorageService
from labnode.store import Store
from labnode.system import System
from labnode.tasks import TaskService

# How long guests of one order may take to shut down; on a host, systemd gives the service 90 s for all of them.
GUESTS_S, HOST_GUESTS_S = 10.0, 25.0


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
    host_network: bool = False


class Node:
    """One embedded node; the services are there once ``build`` has run."""

    guests: GuestService
    storage: StorageService
    machines: MachineService
    switch: Switch
    qemu: Qemu

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.node_name
        self.state_dir = settings.state_dir
        self.store = Store(settings.state_dir)
        self.tasks = TaskService(self.name, self.store)
        self.auth = Auth(self.store, settings.auth_delay)
        self.system = System()
        self.samples = Samples()
        network = Path("/etc/network") if settings.host_network else settings.state_dir / "etc/network"
        self.network = NetworkConfig(self.store, network, on_host=settings.host_network)
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
    """Wire a node: read what is on disk, make the services, find running guests again.

    Raises ApiError when QEMU is not there, or KVM was asked for and does not work.
    """
    node = Node(settings)
    node.qemu = await find_qemu(settings.kvm, settings.state_dir / "qemu.json")
    node.store.sweep()
    node.tasks.load()
    node.auth.load(settings.root_password)
    node.network.load()
    run_dir = settings.state_dir / "run"
    node.storage = StorageService(node.store, node.name)
    node.switch = Switch(run_dir, lambda: set(node.network.bridges()))
    node.machines = MachineService(
        run_dir, node.name, node.storage, node.switch, node.qemu, scopes=settings.host_network
    )
    node.guests = GuestService(node)
    await node.storage.start()
    await node.guests.start()
    node.machines.tend(lambda vmid: node.guests.load(vmid).main, node.guests.locked)
    node.start_sampling()
    return node


async def shutdown(node: Node) -> None:
    """Stop samples, tasks and guests, in the order that lets each finish cleanly.

    On a host of its own labnode is the control plane only, as Proxmox VE's daemons are: guests go on without it, and
    end when the host goes down.
    """
    on_host = node.settings.host_network
    stays = on_host and not await scope.host_goes_down()
    await node.stop_sampling()
    await node.tasks.stop()
    await node.guests.stop(stop_guests=not stays, timeout=HOST_GUESTS_S if on_host else GUESTS_S)
    await (node.machines.leave() if stays else node.machines.stop_all())
    await node.qemu.close()
