# SPDX-License-Identifier: GPL-3.0-or-later
"""GuestService: the guests of this node, their configuration files and their locks.

What is done with guests lives beside this module, a file for each kind of work (create, update, power, snapshot,
clone, ...), as functions that take this service. Two locks guard a guest, as in Proxmox VE: a flock for the moment of a
change (``locked``), and the ``lock:`` option in the configuration for work that takes longer (``check_lock``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError
from labnode.guests import configfile, lifecycle
from labnode.guests.configfile import GuestConfig
from labnode.guests.status import guest_status
from labnode.guests.values import MAC_PREFIX

if TYPE_CHECKING:
    from labnode.machine.service import MachineService
    from labnode.node import Node
    from labnode.storage.service import StorageService


class GuestService:
    """The guests of one node. Configuration is written atomically; whoever changes it holds ``locked`` first."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.store = node.store
        self._jobs: list[asyncio.Task[None]] = []

    @property
    def storage(self) -> StorageService:
        """The node's storages."""
        return self.node.storage

    @property
    def machines(self) -> MachineService:
        """The node's QEMU processes."""
        return self.node.machines

    # configuration files ------------------------------------------------------------------------------------------

    def rel(self, vmid: int) -> str:
        """Where the configuration lies in the store."""
        return self.node.etc(f"qemu-server/{vmid}.conf")

    def vmids(self) -> list[int]:
        """All guests, by number."""
        names = self.store.names(self.node.etc("qemu-server"), ".conf")
        return sorted(int(name[:-5]) for name in names if name[:-5].isdigit())

    def exists(self, vmid: int) -> bool:
        """Whether there is a guest of that number."""
        return self.store.exists(self.rel(vmid))

    def load(self, vmid: int) -> GuestConfig:
        """The configuration; ApiError "Configuration file 'nodes/N/qemu-server/ID.conf' does not exist"."""
        text = self.store.find(self.rel(vmid))
        if text is None:
            path = f"nodes/{self.node.name}/qemu-server/{vmid}.conf"
            raise ApiError(f"Configuration file '{path}' does not exist")
        return configfile.parse(text, str(vmid))

    def save(self, vmid: int, conf: GuestConfig) -> None:
        """Write the configuration durably; its digest is the new one afterwards."""
        text = configfile.render(conf)
        self.store.write(self.rel(vmid), text)
        conf.digest = self.store.digest(text)

    def remove(self, vmid: int) -> None:
        """Delete the configuration file: the guest is gone."""
        self.store.remove(self.rel(vmid))

    # locks --------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def locked(self, vmid: int, timeout: float = 10.0, *, shared: bool = False) -> AsyncIterator[None]:
        """Hold the guest's flock; ApiError "can't lock file '...' - got timeout" when another does for too long."""
        async with self.store.lock(f"qemu-server/lock-{vmid}.conf", timeout, shared=shared):
            yield

    @staticmethod
    def check_lock(conf: GuestConfig) -> None:
        """ApiError "VM is locked (backup)" while longer work is under way or was cut off."""
        if conf.lock:
            raise ApiError(f"VM is locked ({conf.lock})")

    @staticmethod
    def check_protection(conf: GuestConfig, what: str) -> None:
        """ApiError "WHAT - protection mode enabled" for a protected guest."""
        if conf.main.get("protection") == "1":
            raise ApiError(f"{what} - protection mode enabled")

    async def set_lock(self, vmid: int, lock: str) -> GuestConfig:
        """Write ``lock:`` down; ApiError when there already is one."""
        async with self.locked(vmid):
            conf = self.load(vmid)
            self.check_lock(conf)
            conf.main["lock"] = lock
            self.save(vmid, conf)
            return conf

    async def remove_lock(self, vmid: int, lock: str) -> None:
        """Take ``lock:`` away; ApiError when it is another one."""
        async with self.locked(vmid):
            conf = self.load(vmid)
            if conf.lock != lock:
                raise ApiError(f"found lock '{conf.lock}' trying to remove '{lock}' lock")
            del conf.main["lock"]
            self.save(vmid, conf)

    # state --------------------------------------------------------------------------------------------------------

    def running(self, vmid: int) -> bool:
        """Whether the guest's QEMU process lives."""
        return self.machines.alive(vmid)

    def datacenter(self) -> dict[str, str]:
        """Options of datacenter.cfg as text."""
        lines = (line.partition(":") for line in self.store.read("etc/datacenter.cfg").splitlines())
        return {key.strip(): value.strip() for key, colon, value in lines if colon and not key.startswith("#")}

    def mac_prefix(self) -> str:
        """What new MAC addresses begin with."""
        return self.datacenter().get("mac_prefix", MAC_PREFIX)

    async def status(self, vmid: int, *, full: bool = True) -> dict[str, Any]:
        """The row of ``status/current`` (full) or of the list of guests."""
        return await guest_status(self, vmid, full=full)

    # life of the service ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up the guests: settle what a crash cut off, start what starts at boot, watch what runs."""
        self._jobs = await lifecycle.begin(self)

    async def stop(self, *, stop_guests: bool = True, timeout: float = 10.0) -> None:
        """Let go: with ``stop_guests`` this is the node going down, otherwise the guests run on without labnode."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        if stop_guests:
            await lifecycle.down(self, timeout)
