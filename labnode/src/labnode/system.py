# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about the machine labnode runs on, from /proc and psutil. Sizes in bytes, times in seconds."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil


class System:
    """Reads the machine. ``cpu`` is the share of all CPUs in use since it was last asked (0..1)."""

    def __init__(self) -> None:
        self._times: tuple[float, float] | None = None
        self._share = 0.0

    def cpu(self) -> float:
        """Share of CPU time in use since the last look that was at least half a second ago."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        total = float(sum(times[:8]))
        if self._times is None:
            self._times = (total, idle)
        elif total - self._times[0] > 0.5 * self.cpus():
            spent, idled = total - self._times[0], idle - self._times[1]
            self._share = max(0.0, min(1.0, 1.0 - idled / spent))
            self._times = (total, idle)
        return self._share

    def cpus(self) -> int:
        """Logical CPUs."""
        return psutil.cpu_count() or 1

    def memory(self) -> dict[str, int]:
        """total, used, free, available."""
        mem = psutil.virtual_memory()
        return {"total": mem.total, "used": mem.total - mem.available, "free": mem.free, "available": mem.available}

    def swap(self) -> dict[str, int]:
        """total, used, free."""
        swap = psutil.swap_memory()
        return {"total": swap.total, "used": swap.used, "free": swap.free}

    def disk(self, path: Path) -> dict[str, int]:
        """total, used, avail, free of the file system that holds ``path``."""
        usage = os.statvfs(path)
        total, free, avail = (usage.f_frsize * blocks for blocks in (usage.f_blocks, usage.f_bfree, usage.f_bavail))
        return {"total": total, "used": total - free, "avail": avail, "free": free}

    def uptime(self) -> int:
        """Seconds since boot."""
        return int(float(Path("/proc/uptime").read_text().split()[0]))

    def load(self) -> list[str]:
        """Load averages as text."""
        return Path("/proc/loadavg").read_text().split()[:3]

    def cpuinfo(self) -> dict[str, Any]:
        """Model, vendor, flags, cores and sockets as ``GET /nodes/{node}/status`` shows them."""
        blocks = [_fields(block) for block in Path("/proc/cpuinfo").read_text().strip().split("\n\n")]
        first = blocks[0]
        sockets = len({block.get("physical id", "0") for block in blocks})
        flags = first.get("flags", first.get("Features", ""))
        return {
            "cores": int(first.get("cpu cores", len(blocks))),
            "cpus": len(blocks),
            "family": first.get("cpu family", ""),
            "flags": flags,
            "hvm": "1" if {"vmx", "svm"} & set(flags.split()) else "",
            "mhz": first.get("cpu MHz", "0"),
            "model": first.get("model name", platform.machine()),
            "sockets": sockets,
            "user_hz": os.sysconf("SC_CLK_TCK"),
            "vendor": first.get("vendor_id", ""),
        }

    def kernel(self) -> dict[str, str]:
        """Running kernel."""
        name = os.uname()
        return {"sysname": name.sysname, "release": name.release, "version": name.version, "machine": name.machine}

    def boot_mode(self) -> str:
        """efi or legacy-bios."""
        return "efi" if Path("/sys/firmware/efi").exists() else "legacy-bios"

    def ksm_shared(self) -> int:
        """Bytes that kernel samepage merging saves."""
        try:
            pages = int(Path("/sys/kernel/mm/ksm/pages_sharing").read_text())
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def iowait(self) -> float:
        """Share of CPU time spent waiting for disks since boot."""
        times = psutil.cpu_times()
        return float(getattr(times, "iowait", 0.0)) / max(float(sum(times[:8])), 1.0)

    def timezone(self) -> str:
        """Name of the local time zone."""
        text = Path("/etc/timezone").read_text().strip() if Path("/etc/timezone").exists() else ""
        return text or time.tzname[0]


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
