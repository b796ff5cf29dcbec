# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself, its storages, networks and tasks, in one form with units in the names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FLAGS = ("active", "autostart", "exists", "bridge_vlan_aware")


def status(answer: Mapping[str, Any]) -> dict[str, Any]:
    """GET /nodes/NODE/status (pve-manager API2/Nodes.pm) → the keys that node_info documents."""
    cpu, kernel = answer.get("cpuinfo") or {}, answer.get("current-kernel") or {}
    found = re.search(r"pve-manager/([^/]+)", str(answer.get("pveversion") or ""))
    return {
        "uptime_s": int(answer.get("uptime") or 0),
        "version": found[1] if found else "",
        "kernel": str(kernel.get("release") or answer.get("kversion") or ""),
        "boot_mode": str((answer.get("boot-info") or {}).get("mode") or ""),
        "cpu": {
            "model": str(cpu.get("model") or ""),
            "sockets": int(cpu.get("sockets") or 0),
            "cores": int(cpu.get("cores") or 0),
            "threads": int(cpu.get("cpus") or 0),
            "hvm": str(cpu.get("hvm") or "") not in ("", "0"),
            "usage": round(float(answer.get("cpu") or 0), 4),
        },
        "load": [float(n) for n in answer.get("loadavg") or []],
        "memory": sizes(answer.get("memory") or {}),
        "swap": sizes(answer.get("swap") or {}),
        "rootfs": sizes(answer.get("rootfs") or {}),
        "ksm_shared_bytes": int((answer.get("ksm") or {}).get("shared") or 0),
    }


def sizes(answer: Mapping[str, Any]) -> dict[str, int]:
    """{"total": 1, "used": 1, "avail": 0} → {"total_bytes": 1, "used_bytes": 1, "available_bytes": 0}."""
    names = {"total": "total", "used": "used", "free": "free", "avail": "available", "available": "available"}
    return {f"{names[k]}_bytes": int(answer[k]) for k in names if k in answer}


def storage(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of GET /nodes/NODE/storage."""
    return {
        "storage": str(entry["storage"]),
        "type": str(entry.get("type") or ""),
        "content": sorted(filter(None, re.split(r"[,;\s]+", str(entry.get("content") or "")))),
        **{k: bool(int(entry.get(k) or 0)) for k in ("enabled", "active", "shared")},
        **sizes(entry),
    }


def network(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of GET /nodes/NODE/network, under the names that Proxmox VE uses; flags as booleans."""
    flags = {k: bool(int(entry.get(k) or 0)) for k in FLAGS if k in entry or k in ("active", "autostart")}
    return {**{k: v for k, v in entry.items() if k not in FLAGS}, **flags}


def task(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One task, from a list of tasks or from …/tasks/UPID/status.

    A list has its end as ``status``, and nothing or "RUNNING" there while the task runs; …/status has ``exitstatus``.
    """
    ended = entry.get("exitstatus")
    if ended is None and entry.get("status") not in ("running", "stopped", "RUNNING"):
        ended = entry.get("status")
    began, over = int(entry.get("starttime") or 0), entry.get("endtime")
    return {
        "upid": str(entry["upid"]),
        "node": str(entry.get("node") or ""),
        "type": str(entry.get("type") or ""),
        "id": str(entry.get("id") or ""),
        "user": str(entry.get("user") or ""),
        "running": ended is None,
        "exitstatus": "" if ended is None else str(ended),
        "ok": ended is not None and (str(ended) == "OK" or str(ended).startswith("WARNINGS")),
        "start_epoch_s": began,
        "end_epoch_s": int(over) if over else None,
    }
