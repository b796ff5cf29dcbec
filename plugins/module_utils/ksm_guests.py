# SPDX-License-Identifier: GPL-3.0-or-later
"""What same-page merging does for each QEMU process, through the seam that is handed in."""

from __future__ import annotations

from typing import Any

_ENGINES = ("kvm", "qemu-system-")


def processes(host: Any) -> list[dict[str, Any]]:
    """``{pid, vmid, name, merging_pages, zero_pages, rmap_items, profit_bytes}`` of each QEMU process, by pid.

    ``vmid`` is None for a process that no node has started. What this kernel does not count is None: Linux counts
    merging pages of a process since 5.19, and the rest since 6.1 (fs/proc/base.c).
    """
    found = (_process(host, pid) for pid in sorted(int(n) for n in host.names("/proc") if n.isdecimal()))
    return [process for process in found if process is not None]


def _process(host: Any, pid: int) -> dict[str, Any] | None:
    comm = (host.read(f"/proc/{pid}/comm") or "").strip()
    if not comm.startswith(_ENGINES):
        return None
    argv = (host.read(f"/proc/{pid}/cmdline") or "").split("\0")
    stat = _counters(host.read(f"/proc/{pid}/ksm_stat"))
    merging = stat.get("ksm_merging_pages")
    if merging is None:
        merging = _number(host.read(f"/proc/{pid}/ksm_merging_pages"))
    return {
        "pid": pid,
        "vmid": _number(_after(argv, "-id")) or _scope_vmid(host.read(f"/proc/{pid}/cgroup")),
        "name": (_after(argv, "-name") or "").split(",")[0].removeprefix("guest=") or None,
        "merging_pages": merging,
        "zero_pages": stat.get("ksm_zero_pages"),
        "rmap_items": stat.get("ksm_rmap_items"),
        "profit_bytes": stat.get("ksm_process_profit"),
    }


def _scope_vmid(cgroup: str | None) -> int | None:
    """The guest's id from its scope: "0::/qemu.slice/104.scope" → 104."""
    for line in (cgroup or "").splitlines():
        leaf = line.rpartition("/")[2]
        if leaf.endswith(".scope") and "/qemu.slice/" in line:
            return _number(leaf.removesuffix(".scope"))
    return None


def _after(argv: list[str], option: str) -> str | None:
    place = argv.index(option) + 1 if option in argv else len(argv)
    return argv[place] if place < len(argv) else None


def _counters(text: str | None) -> dict[str, int]:
    words = (line.split() for line in (text or "").splitlines())
    return {w[0]: int(w[1]) for w in words if len(w) == 2 and w[1].removeprefix("-").isdecimal()}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None
