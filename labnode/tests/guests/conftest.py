# SPDX-License-Identifier: GPL-3.0-or-later
"""A node with real storage, tasks and API checks; only the QEMU processes are stood in for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labnode import dispatch
from labnode.app import load_handlers
from labnode.errors import ApiError
from labnode.guests.service import GuestService
from labnode.machine.model import ANEW, Earlier, RunInfo
from labnode.node import Node, Settings
from labnode.route import Ctx
from labnode.storage.service import StorageService


@dataclass
class Machines:
    """Guests that run without a process. ``did`` records what was done to them, ``refuse`` what they do not do."""

    storage: StorageService
    states: dict[int, str] = field(default_factory=dict)
    did: list[tuple[Any, ...]] = field(default_factory=list)
    refuse: set[str] = field(default_factory=set)
    static: set[str] = field(default_factory=set)

    async def settled(self) -> None:
        pass

    def alive(self, vmid: int) -> bool:
        return vmid in self.states

    def running(self) -> dict[int, int]:
        return {vmid: 1000 + vmid for vmid in self.states}

    async def status(self, vmid: int) -> str:
        return self.states.get(vmid, "stopped")

    async def start(self, vmid: int, config: dict[str, str], *, earlier: Earlier = ANEW, **_how: Any) -> int:
        if "start" in self.refuse:
            raise ApiError("bridge 'vmbr99' does not exist")
        self.states[vmid] = "running"
        self.did.append(("start", vmid, dict(config), earlier.state_file))
        return 1000 + vmid

    async def stop(self, vmid: int, **_how: Any) -> None:
        self.states.pop(vmid, None)

    async def quit(self, vmid: int, **_how: Any) -> None:
        self.states.pop(vmid, None)

    async def stop_all(self, **_how: Any) -> None:
        self.states.clear()

    async def cleanup(self, vmid: int) -> None:
        self.did.append(("cleanup", vmid))

    async def shutdown(self, vmid: int, **_how: Any) -> bool:
        if "shutdown" in self.refuse:
            return False
        self.states.pop(vmid, None)
        return True

    async def pause(self, vmid: int) -> None:
        self.states[vmid] = "paused"

    async def cont(self, vmid: int) -> None:
        self.states[vmid] = "running"

    async def reset(self, vmid: int) -> None:
        self.did.append(("reset", vmid))

    async def info(self, vmid: int, _config: Any = None) -> RunInfo | None:
        if vmid not in self.states:
            return None
        return RunInfo(1000 + vmid, self.states[vmid], 5, 0.0, 1, 1, 0, 0, 0, 0, running_machine="pc-i440fx-7.2")

    def command_line(self, _vmid: int, _config: Any, **_how: Any) -> list[str]:
        return ["qemu-system-x86_64", "-cpu", "qemu64"]

    def ram_size(self, _config: Any) -> int:
        return 1 << 20

    async def save_ram(self, vmid: int, path: Path, **_how: Any) -> int:
        if "save_ram" in self.refuse:
            raise ApiError("unable to save VM state and RAM - no space")
        path.write_bytes(b"state")
        self.states[vmid] = "paused"
        return 5

    async def copy(self, vmid: int, targets: dict[str, str], **_how: Any) -> None:
        if "copy" in self.refuse:
            raise ApiError("the copy failed")
        self.did.append(("copy", vmid, dict(targets)))

    async def block_snapshot(self, vmid: int, drive: str, name: str) -> None:
        if "block_snapshot" in self.refuse:
            raise ApiError("qmp command failed")
        self.did.append(("block_snapshot", vmid, drive, name))

    async def block_snapshot_delete(self, vmid: int, drive: str, name: str) -> None:
        self.did.append(("block_snapshot_delete", vmid, drive, name))

    async def resize(self, vmid: int, drive: str, size: int) -> None:
        self.did.append(("resize", vmid, drive, size))

    async def plug(self, vmid: int, key: str, value: str, _config: Any) -> None:
        if key in self.refuse:
            raise ApiError("hotplug problem - no slot left")
        self.did.append(("plug", key, value))

    async def unplug(self, vmid: int, key: str, _config: Any, **_how: Any) -> None:
        if key in self.refuse:
            raise ApiError("hotplug problem - error on hot-unplugging device")
        self.did.append(("unplug", key))

    async def set_live(self, _vmid: int, key: str, value: str, _old: str, _config: Any) -> bool:
        self.did.append(("set_live", key, value))
        return key not in self.static

    async def agent(self, _vmid: int, command: str, _args: Any = None, **_how: Any) -> Any:
        if "agent" in self.refuse:
            raise ApiError("QEMU guest agent is not running")
        self.did.append(("agent", command))
        return {}

    async def cloudinit_write(self, vmid: int, config: Any) -> None:
        self.did.append(("cloudinit", vmid, dict(config)))

    def cloudinit_files(self, _vmid: int, config: Any) -> dict[str, str]:
        return {"user": str(sorted(config)), "network": "", "meta": ""}


class Lab:
    """Calls the API as a user would, past HTTP; waits for tasks."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.machines: Any = node.machines
        self.guests = node.guests

    async def call(self, method: str, path: str, user: str = "root@pam", /, **params: Any) -> Any:
        """What the method answers, at once."""
        raw = {key.replace("__", "-"): str(value) for key, value in params.items()}
        full = path if path.startswith("/") else f"/nodes/pve1/qemu/{path}".rstrip("/")
        return await dispatch.call(Ctx(self.node, user, {}, "127.0.0.1", method, full), raw)

    async def done(self, method: str, path: str, /, **params: Any) -> str:
        """The exit status of the task that the method starts."""
        upid = await self.call(method, path, **params)
        status = await self.node.tasks.wait(upid, 30)
        assert status is not None, f"{upid} still runs"
        return status

    async def config(self, vmid: int) -> dict[str, Any]:
        """The guest's configuration without what the node adds by itself."""
        found: dict[str, Any] = await self.call("GET", f"{vmid}/config")
        return {k: v for k, v in found.items() if k not in ("digest", "meta", "smbios1", "vmgenid")}

    async def volumes(self, vmid: int) -> list[str]:
        """Volumes the guest owns."""
        return sorted(await self.node.storage.owned_by(vmid))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    load_handlers()
    made = Node(Settings(state_dir=tmp_path, auth_delay=0.0))
    made.tasks.load()
    made.auth.load("secret")
    made.storage = StorageService(made.store, made.name)
    await made.storage.start()
    machines: Any = Machines(made.storage)
    made.machines = machines
    made.guests = GuestService(made)
    yield made
    await made.tasks.stop()
    await made.guests.stop(stop_guests=False)


@pytest.fixture
async def lab(node: Node) -> Lab:
    return Lab(node)
