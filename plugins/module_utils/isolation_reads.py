# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds a guest's processes apart on this host: its cgroup, its threads' processors, its memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .core import isolation
from .core.hypervisor_guests import status
from .hypervisor_reads import glance

ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def groups(host: Any, running: list[dict[str, Any]]) -> dict[int, str | None]:
    """pid → the path of its cgroup of version 2."""
    return {g["pid"]: isolation.cgroup_path(glance(host, f"/proc/{g['pid']}/cgroup") or "") for g in running}


def look(
    host: Any, guest: Mapping[str, Any], groups: Mapping[int, str | None], config: Mapping[str, str]
) -> dict[str, Any]:
    """What really holds for one guest: ``cgroup``, ``vcpus`` (thread and affinity), memory and oom_score_adj."""
    pid = guest["pid"]
    nodes = isolation.host_nodes(config)
    return {
        "pid": pid,
        "oom_score_adj": int(glance(host, f"/proc/{pid}/oom_score_adj") or 0),
        "cgroup": _cgroup(host, groups[pid], [p for g, p in groups.items() if g != pid]),
        "affinity": _allowed(host, f"/proc/{pid}/status"),
        "vcpus": [
            {**t, "affinity": allowed}
            for t in guest["vcpu_threads"]
            if (allowed := _allowed(host, f"/proc/{pid}/task/{t['tid']}/status"))
        ],
        "hugetlb_bytes": guest["hugetlb_bytes"],
        "ksm_pages": guest["ksm_pages"],
        "numa_nodes": isolation.bound_nodes(glance(host, f"/proc/{pid}/numa_maps") or "") if nodes else "",
    }


def _cgroup(host: Any, path: str | None, others: list[str | None]) -> dict[str, Any]:
    """``own``: it is not the root and holds no other guest; only then do its limits hold for this guest alone."""
    own = path not in (None, "/") and path not in others
    files = ("cpu.weight", "cpu.max", "cpuset.cpus.effective", "memory.max")
    base = f"{root(host)}{path}"
    weight, limit, cpuset, memory = (host.read(f"{base}/{f}") if own else None for f in files)
    return {
        "path": path or "",
        "own": own,
        "cpu_weight": int(weight) if weight else None,
        "cpu_limit": isolation.cpu_limit(limit),
        "cpuset": (cpuset or "").strip(),
        "memory_max_bytes": isolation.memory_limit(memory),
    }


def root(host: Any) -> str:
    """Where version 2 is mounted: alone, or beside version 1."""
    return next((r for r in ROOTS if host.read(f"{r}/cgroup.controllers") is not None), ROOTS[0])


def _allowed(host: Any, path: str) -> str:
    return status(glance(host, path) or "").get("Cpus_allowed_list", "")
