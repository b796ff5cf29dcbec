# SPDX-License-Identifier: GPL-3.0-or-later
"""Overcommitment: what guests are promised against what the host has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .hypervisor_guests import config_floor, config_memory, config_vcpus

Guests = Sequence[Mapping[str, Any]]
Configs = Mapping[int, Mapping[str, str]]


def overcommit(guests: Guests, configs: Configs, *, threads: int, memory_bytes: int, ksm_saved_bytes: int) -> Any:
    """Promised against present, of the guests that run and of all that are defined.

    ``guests``: as hypervisor_reads.guests lists them; ``configs``: vmid → configuration. Ballooning counts for guests
    that have the device and a lower limit in their configuration. What merging saves today may be gone tomorrow, as
    soon as guests write to their pages: so the sum without it is what the host must stand in the worst case.
    """
    promised = sum(g["memory_bytes"] for g in guests)
    floor = sum(_floor(g, configs) for g in guests)
    bills = {
        "as_promised": promised,
        "with_ksm": promised - ksm_saved_bytes,
        "with_ballooning": floor,
        "with_both": floor - ksm_saved_bytes,
    }
    vms = [c for c in configs.values() if c.get("template", "0") != "1"]
    return {
        "vcpu": _against(sum(g["vcpus"] for g in guests), threads, "promised", "present"),
        "memory": {
            "present_bytes": memory_bytes,
            "resident_bytes": sum(g["rss_bytes"] for g in guests),
            "ksm_saved_bytes": ksm_saved_bytes,
            **{name: _bill(max(size, 0), memory_bytes) for name, size in bills.items()},
        },
        "defined": {
            "guests": len(vms),
            "vcpu": _against(sum(config_vcpus(c) for c in vms), threads, "promised", "present"),
            "memory": _bill(sum(config_memory(c) for c in vms), memory_bytes),
        },
    }


def _floor(guest: Mapping[str, Any], configs: Configs) -> int:
    entries = configs.get(guest["vmid"] or 0)
    if not guest["balloon"] or entries is None:
        return int(guest["memory_bytes"])
    return min(config_floor(entries), int(guest["memory_bytes"]))


def _against(promised: int, present: int, one: str, other: str) -> dict[str, Any]:
    return {one: promised, other: present, "ratio": round(promised / present, 3) if present else 0.0}


def _bill(size: int, present: int) -> dict[str, Any]:
    return {"bytes": size, "ratio": round(size / present, 3) if present else 0.0, "fits": size <= present}
