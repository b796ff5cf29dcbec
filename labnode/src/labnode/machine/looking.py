# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running guest is doing: run state, CPU, memory, traffic."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from labnode.errors import ApiError
from labnode.machine.guest import Guest
from labnode.machine.model import Qemu, RunInfo
from labnode.machine.places import used
from labnode.machine.qmp import Monitor


async def look(guest: Guest, cpus: int, traffic: Mapping[str, tuple[int, int]], qemu: Qemu) -> RunInfo | None:
    """None when the process is gone. A QEMU that does not answer in time shows as `unknown`."""
    pid = guest.pid
    process = used(pid) if pid is not None else None
    if pid is None or process is None:
        return None
    try:
        async with guest.monitor(timeout=3.0) as qmp:
            status, stats, balloon = await _ask(qmp)
    except ApiError:
        if guest.pid is None:
            return None
        status, stats, balloon = "unknown", {}, {}
    meta = guest.meta()
    nics = {f"tap{guest.vmid}i{key[3:]}": {"netin": to, "netout": out} for key, (to, out) in sorted(traffic.items())}
    uses = balloon["total_mem"] - balloon["free_mem"] if {"total_mem", "free_mem"} <= set(balloon) else process.resident
    return RunInfo(
        pid=pid,
        qmpstatus=status,
        uptime=int(process.uptime),
        cpu=_share(guest, pid, process.cpu_seconds, cpus),
        mem=uses,
        memhost=process.resident,
        netin=sum(item["netin"] for item in nics.values()),
        netout=sum(item["netout"] for item in nics.values()),
        diskread=sum(item["rd_bytes"] for item in stats.values()),
        diskwrite=sum(item["wr_bytes"] for item in stats.values()),
        balloon=balloon.get("actual"),
        ballooninfo=balloon,
        nics=nics,
        blockstat=stats,
        running_machine=str(meta.get("machine", "")),
        running_qemu=str(meta.get("qemu", qemu.text)),
    )


def _share(guest: Guest, pid: int, seconds: float, cpus: int) -> float:
    """CPU use between this look and the last one; zero at the first."""
    now, before = time.monotonic(), guest.seen
    if before is None or before[0] != pid:
        guest.seen = (pid, now, seconds)
        return 0.0
    if now - before[1] < 0.5:  # too short a time says nothing; keep the older point
        return max(0.0, seconds - before[2]) / max(now - before[1], 0.5) / cpus
    guest.seen = (pid, now, seconds)
    return max(0.0, seconds - before[2]) / (now - before[1]) / cpus


async def _ask(qmp: Monitor) -> tuple[str, dict[str, Any], dict[str, Any]]:
    status = str((await qmp("query-status"))["status"])
    stats: dict[str, Any] = {}
    for item in await qmp("query-blockstats"):
        match = re.search(r"(?:/machine/peripheral/)?([a-z]+\d+)(?:/|$)", str(item.get("qdev", "")))
        if match:
            stats[match[1]] = item["stats"]
    return status, stats, await _balloon(qmp)


async def _balloon(qmp: Monitor) -> dict[str, Any]:
    try:
        actual = int((await qmp("query-balloon"))["actual"])
    except ApiError:
        return {}
    memory = await qmp("query-memory-size-summary")
    found = {"actual": actual, "max_mem": int(memory["base-memory"]) + int(memory.get("plugged-memory", 0))}
    try:
        guest = await qmp("qom-get", path="/machine/peripheral/balloon0", property="guest-stats")
    except ApiError:
        return found
    stats = guest.get("stats", {})
    names = {
        "stat-free-memory": "free_mem",
        "stat-total-memory": "total_mem",
        "stat-major-faults": "major_page_faults",
        "stat-minor-faults": "minor_page_faults",
        "stat-swap-in": "mem_swapped_in",
        "stat-swap-out": "mem_swapped_out",
    }
    # a guest without the driver leaves every number at -1 (as unsigned 64 bit)
    found.update({name: stats[key] for key, name in names.items() if key in stats and 0 <= stats[key] < 1 << 63})
    if guest.get("last-update"):
        found["last_update"] = guest["last-update"]
    return found
