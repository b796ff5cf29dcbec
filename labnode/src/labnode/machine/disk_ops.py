# SPDX-License-Identifier: GPL-3.0-or-later
"""Block jobs of a running guest: moving a drive, copying drives as they are at one moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.machine.drives import Medium, block_node, node_name
from labnode.machine.guest import Guest
from labnode.machine.qmp import Monitor
from labnode.storage.images import human

Log = Callable[[str], None]


async def node_of(qmp: Monitor, key: str) -> str:
    """The block node a drive uses now (after a move it is no longer the one it started with); ApiError when it has no
    medium."""
    for item in await qmp("query-block"):
        qdev = str(item.get("qdev", ""))
        if re.fullmatch(rf"(?:/machine/peripheral/)?{key}(?:/virtio-backend)?", qdev) and item.get("inserted"):
            return str(item["inserted"]["node-name"])
    raise ApiError(f"drive '{key}' of VM {qmp.vmid} has no medium")


async def mirror(guest: Guest, key: str, target: Path, fmt: str, log: Log) -> None:
    """Copy the drive to another image while the guest writes on, then switch over. On failure the drive stays where
    it was."""
    job = f"mirror-{key}"
    async with guest.monitor() as qmp:
        old = await node_of(qmp, key)
        name = f"moved-{key}" if old == node_name(key) else node_name(key)
        node = block_node(key, Medium(target, fmt), {})
        node["node-name"], node["file"]["node-name"] = name, f"file-{name}"
        await qmp("blockdev-add", **node)
    try:
        async with guest.monitor() as qmp:
            await qmp(
                "blockdev-mirror", job_id=job, device=old, target=name, sync="full", replaces=old, auto_dismiss=False
            )
        await _wait(guest, job, ready=True, log=log)
        async with guest.monitor() as qmp:
            await qmp("job-complete", id=job)
        await _wait(guest, job, ready=False, log=log)
    except BaseException:
        await _cancel(guest, job)
        async with guest.monitor() as qmp:
            await _try(qmp, "blockdev-del", node_name=name)
        raise
    async with guest.monitor() as qmp:
        await _try(qmp, "blockdev-del", node_name=old)


async def backup(guest: Guest, targets: Mapping[str, Medium], log: Log) -> None:
    """One transaction starts all copies, so they show the drives at one moment. The targets exist and are as large."""
    try:
        async with guest.monitor() as qmp:
            for key, medium in targets.items():
                node = block_node(key, medium, {"cache": "writeback"})
                node["node-name"], node["file"]["node-name"] = f"copy-{key}", f"file-copy-{key}"
                node["discard"] = node["file"]["discard"] = "unmap"
                node["detect-zeroes"] = "unmap"
                await qmp("blockdev-add", **node)
            actions: list[dict[str, Any]] = [
                {
                    "type": "blockdev-backup",
                    "data": {
                        "job-id": f"backup-{key}",
                        "device": await node_of(qmp, key),
                        "target": f"copy-{key}",
                        "sync": "full",
                        "auto-dismiss": False,
                    },
                }
                for key in targets
            ]
            await qmp("transaction", actions=actions)
        for key in targets:
            await _wait(guest, f"backup-{key}", ready=False, log=log)
    except BaseException:
        for key in targets:
            await _cancel(guest, f"backup-{key}")
        raise
    finally:
        async with guest.monitor() as qmp:
            for key in targets:
                await _try(qmp, "blockdev-del", node_name=f"copy-{key}")


async def _wait(guest: Guest, job: str, *, ready: bool, log: Log) -> None:
    """Wait until a job is ready (mirror) or concluded; ApiError when it failed."""
    shown = -1
    while True:
        async with guest.monitor() as qmp:
            found = {item["id"]: item for item in await qmp("query-jobs")}.get(job)
            if found is None:
                raise ApiError(f"{job}: the copy ended without a word")
            total, done = int(found["total-progress"]), int(found["current-progress"])
            percent = 100 * done // total if total else 100
            if percent // 10 > shown:
                shown = percent // 10
                log(f"{job}: transferred {human(done)} of {human(total)} ({percent:.2f}%)")
            if found["status"] == "concluded":
                await qmp("job-dismiss", id=job)
                if error := found.get("error"):
                    raise ApiError(f"{job}: {error}")
                return
            if ready and found["status"] == "ready":
                return
        await asyncio.sleep(0.1)


async def _cancel(guest: Guest, job: str) -> None:
    if guest.pid is None:
        return
    async with guest.monitor() as qmp:
        await _try(qmp, "block-job-cancel", device=job, force=True)
        for _ in range(100):
            found = {item["id"]: item for item in await qmp("query-jobs")}.get(job)
            if found is None:
                return
            if found["status"] == "concluded":
                await _try(qmp, "job-dismiss", id=job)
                return
            await asyncio.sleep(0.05)


async def _try(qmp: Monitor, command: str, /, **args: Any) -> bool:
    try:
        await qmp(command, **args)
    except ApiError:
        return False
    return True
