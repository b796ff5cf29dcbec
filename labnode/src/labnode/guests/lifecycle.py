# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests through the life of labnode: found again after a kill, started with the node, watched, stopped with it.

A node that went down in order leaves no ``run/up`` behind, so the next start of labnode is a boot and guests with
``onboot`` start. With ``run/up`` of this same host boot only labnode was gone, killed or, as a host's service, stopped:
its guests run on, none is started.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests import power, values
from labnode.guests.configfile import GuestConfig
from labnode.guests.out import QUIET, Out

if TYPE_CHECKING:
    from labnode.guests.service import GuestService
    from labnode.tasks import Task, Worker

UP = "run/up"
WATCH_S = 1.0
INTERRUPTS = ("snapshot", "snapshot-delete", "suspending")
HELD = ("paused", "postmigrate", "finish-migrate", "save-vm")
DEFAULT_ORDER = 1 << 30
logger = logging.getLogger(__name__)


def host_boot_id() -> str:
    """The kernel's name for this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


async def begin(g: GuestService) -> list[asyncio.Task[None]]:
    """Settle what was cut off, start what starts at boot if this is one; the jobs that go on in the background."""
    restarted = g.store.read(UP) == host_boot_id()
    await recover(g)
    g.store.write(UP, host_boot_id())
    if not restarted:
        g.node.tasks.start("startall", "", "root@pam", lambda task: start_all(g, task))
    return [asyncio.create_task(watch(g, set(g.machines.running())), name="watch-guests")]


async def recover(g: GuestService) -> None:
    """After a kill: bring each guest into a state that Proxmox VE would leave too, and say what was found."""
    for vmid in g.vmids():
        try:
            async with g.locked(vmid):
                await _recover_one(g, vmid, g.load(vmid))
        except ApiError as error:
            logger.warning("guest %s: %s", vmid, error.message)


async def _recover_one(g: GuestService, vmid: int, conf: GuestConfig) -> None:
    alive = g.running(vmid)
    if conf.lock == "destroyed":
        logger.warning("guest %s: its removal was cut off, removing the rest", vmid)
        g.remove(vmid)
        return
    if conf.lock == "suspended" and alive:
        logger.warning("guest %s: it had resumed from disk, removing the saved state", vmid)
        await power.forget_state(g, vmid, conf, QUIET)
    elif alive and conf.lock in INTERRUPTS and await g.machines.status(vmid) in HELD:
        logger.warning("guest %s: it was stopped for work that was cut off, letting it run on", vmid)
        await g.machines.cont(vmid)
    if conf.lock and conf.lock != "suspended":
        logger.warning("guest %s: work was cut off, its configuration stays locked (%s)", vmid, conf.lock)
    if not alive:
        await power.gone(g, vmid, conf, QUIET)


async def watch(g: GuestService, known: set[int]) -> None:
    """Notice guests that end by themselves: free what they held and apply their pending changes."""
    while True:
        await asyncio.sleep(WATCH_S)
        now = set(g.machines.running())
        for vmid in known - now:
            await _ended(g, vmid)
        known = now


async def _ended(g: GuestService, vmid: int) -> None:
    try:
        async with g.locked(vmid, 1.0):
            if g.exists(vmid) and not g.running(vmid):
                await power.gone(g, vmid, g.load(vmid), QUIET)
    except ApiError as error:
        logger.debug("guest %s ended: %s", vmid, error.message)  # somebody else is at work on it and does the same


def by_order(g: GuestService, vmids: list[int]) -> list[tuple[int, list[int]]]:
    """Guests in the groups of their startup order, lowest first, those without one last."""
    groups: dict[int, list[int]] = defaultdict(list)
    for vmid in vmids:
        order = values.startup(g.load(vmid).main).order
        groups[DEFAULT_ORDER if order is None else order].append(vmid)
    return sorted(groups.items())


async def start_all(g: GuestService, task: Task, chosen: list[int] | None = None) -> None:
    """Start the chosen guests, or those with ``onboot``, in their order, each followed by the pause it asks for."""
    if chosen is None:
        chosen = [v for v in g.vmids() if g.load(v).main.get("onboot") == "1" and not g.load(v).is_template]
    for _, vmids in by_order(g, chosen):
        for vmid in vmids:
            if g.running(vmid):
                continue
            task.log(f"Starting VM {vmid}")
            upid = g.node.tasks.start("qmstart", str(vmid), "root@pam", _starter(g, vmid))
            status = await g.node.tasks.wait(upid)
            if status != "OK":
                task.log(f"Starting VM {vmid} failed: {status}")
            if up := values.startup(g.load(vmid).main).up:
                await asyncio.sleep(up)


def _starter(g: GuestService, vmid: int) -> Worker:
    async def work(task: Task) -> None:
        await power.start(g, vmid, task)

    return work


async def down(g: GuestService, timeout: float) -> None:
    """The node goes down: shut the guests down in the reverse of their order, end those that do not go in time."""
    for _, vmids in reversed(by_order(g, [v for v in g.vmids() if g.running(v)])):
        await asyncio.gather(*(_stop_one(g, vmid, timeout, QUIET) for vmid in vmids))
    g.store.remove(UP)


async def _stop_one(g: GuestService, vmid: int, timeout: float, out: Out) -> None:
    seconds = int(min(timeout, values.startup(g.load(vmid).main).down or timeout))
    try:
        asks = await g.machines.status(vmid) == "running"
        await power.stop(g, vmid, out, shutdown=asks, force=True, timeout=seconds, skiplock=True)
    except ApiError as error:
        logger.warning("guest %s: %s", vmid, error.message)
        await g.machines.stop(vmid)
