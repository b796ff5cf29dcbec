# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel counts: pressure, memory, sharing, load. Each file stays open, for ten times a second its name need
not be looked up anew; what changes slowly, or costs the kernel more, is for once a second.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

KSM = "/sys/kernel/mm/ksm/"
FILES = {
    **{f"psi.{name}": f"/proc/pressure/{name}" for name in ("cpu", "memory", "io")},
    "memory": "/proc/meminfo",
    "vmstat": "/proc/vmstat",
    "load": "/proc/loadavg",
    "sharing": f"{KSM}pages_sharing",
    "profit": f"{KSM}general_profit",
}
# What a sample calls it, and what /proc/meminfo does.
MEMORY = {
    "mem_available_mib": b"MemAvailable:",
    "swap_free_mib": b"SwapFree:",
    "dirty_mib": b"Dirty:",
    "writeback_mib": b"Writeback:",
}
NO_SWAP = b"SwapTotal:             0 kB"
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Gauges:
    """The files that there are on this host, each by its name in FILES; ``open_all`` makes one."""

    doors: dict[str, int] = field(default_factory=dict)

    def quick(self) -> dict[str, Any]:
        """Pressure (microseconds in all since the boot) and memory in MiB; without swap space nothing of it is free."""
        found: dict[str, Any] = {"psi": {}}
        for name in self.doors:
            if name.startswith("psi.") and (value := _pressure(self._read(name))) is not None:
                found["psi"][name.removeprefix("psi.")] = value
        text = self._read("memory")
        for name, line in MEMORY.items():
            if (kib := _after(text, line)) is not None and not (name == "swap_free_mib" and NO_SWAP in text):
                found[name] = kib // 1024
        return found

    def slow(self) -> dict[str, Any]:
        """Sharing (KSM) in MiB, processes that the kernel has killed for want of memory since the boot, load."""
        found: dict[str, Any] = {}
        ksm = {}
        if (pages := _number(self._read("sharing"))) is not None:
            ksm["sharing_mib"] = round(pages * PAGE / 2**20, 1)
        if (profit := _number(self._read("profit"))) is not None:
            ksm["profit_mib"] = round(profit / 2**20, 1)
        if ksm:
            found["ksm"] = ksm
        if (kills := _after(self._read("vmstat"), b"\noom_kill ")) is not None:
            found["oom_kills"] = kills
        with suppress(ValueError):
            found["load"] = float(self._read("load").partition(b" ")[0])
        return found

    def close(self) -> None:
        for door in self.doors.values():
            os.close(door)
        self.doors.clear()

    def _read(self, name: str) -> bytes:
        """What a file says now; nothing where there is none, or it does not say it."""
        try:
            return os.pread(self.doors[name], 16384, 0) if name in self.doors else b""
        except OSError:
            return b""


def open_all() -> Gauges:
    """Those that this kernel has, and this user may read."""
    made = Gauges()
    for name, path in FILES.items():
        with suppress(OSError):
            made.doors[name] = os.open(path, os.O_RDONLY)
    return made


def available_mib() -> int | None:
    """Memory that the host could still give, now."""
    with open(FILES["memory"], "rb") as file:
        kib = _after(file.read(), MEMORY["mem_available_mib"])
    return None if kib is None else kib // 1024


def _pressure(text: bytes) -> int | None:
    return _number(text.partition(b"\n")[0].rpartition(b"total=")[2])


def _after(text: bytes, word: bytes) -> int | None:
    """The number that follows a word; it ends with a space or the line."""
    at = text.find(word)
    return _number(text[at + len(word) : at + len(word) + 32].split(None, 1)[0]) if at >= 0 else None


def _number(text: bytes) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
