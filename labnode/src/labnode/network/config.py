# SPDX-License-Identifier: GPL-3.0-or-later
"""The live file, the staged one beside it, and what separates them.

Changes are written to ``interfaces.new``; applying puts that file in place of the live one. On loopback there is
nothing to reload, because a bridge is a switch that a guest's start brings up; on a real host ifupdown2 reloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labnode.errors import ApiError
from labnode.network import taps
from labnode.network.interfaces import Iface, Interfaces, parse, render
from labnode.store import Store, write_atomic

# What a fresh node has: two network cards that lead nowhere and the bridge that guests expect.
SEED = """\
auto lo
iface lo inet loopback

iface eno1 inet manual

iface eno2 inet manual

auto vmbr0
iface vmbr0 inet static
\taddress 192.0.2.10/24
\tgateway 192.0.2.1
\tbridge-ports eno1
\tbridge-stp off
\tbridge-fd 0

source /etc/network/interfaces.d/*
"""


@dataclass(frozen=True)
class Bridge:
    """A bridge that guests can be plugged into. ``vids`` are the VLANs it carries when it is VLAN-aware."""

    name: str
    vlan_aware: bool
    vids: str


class NetworkConfig:
    """The network configuration in ``directory`` (STATE/etc/network, or /etc/network when the host's own is meant)."""

    def __init__(self, store: Store, directory: Path, *, on_host: bool) -> None:
        self.store = store
        self.live_path = directory / "interfaces"
        self.staged_path = directory / "interfaces.new"
        self.on_host = on_host

    def load(self) -> None:
        """Write the seed file on a fresh node; a host's own file is never invented."""
        if not self.on_host and not self.live_path.exists():
            write_atomic(self.live_path, SEED.encode(), 0o644)

    def live(self) -> Interfaces:
        """What is in force."""
        return parse(_text(self.live_path))

    def shown(self) -> Interfaces:
        """What the API shows: the staged file where there is one."""
        staged = self.staged_path
        return parse(_text(staged if staged.exists() else self.live_path))

    def changes(self) -> str | None:
        """A unified diff from the live to the staged file, or None when nothing is staged or nothing differs."""
        if not self.staged_path.exists():
            return None
        pair = [(f"/etc/network/{p.name}", _text(p), _stamp(p)) for p in (self.live_path, self.staged_path)]
        (old_name, old, old_time), (new_name, new, new_time) = pair
        old_lines, new_lines = (t.splitlines(keepends=True) for t in (old, new))
        return "".join(difflib.unified_diff(old_lines, new_lines, old_name, new_name, old_time, new_time)) or None

    def bridges(self) -> dict[str, Bridge]:
        """Bridges in force, by name."""
        return {
            name: Bridge(name, bool(i.get("bridge_vlan_aware")), str(i.get("bridge_vids", "")))
            for name, i in self.live().ifaces.items()
            if i["type"] in ("bridge", "OVSBridge")
        }

    def active(self, name: str, iface: Iface) -> bool:
        """Whether the interface is up: for the host's own network the kernel knows, else what is in force is up."""
        if self.on_host:
            state = Path("/sys/class/net", name, "operstate")
            return state.exists() and state.read_text().strip() in ("up", "unknown")
        in_force = self.live().ifaces.get(name)
        return in_force is not None and (bool(in_force.get("autostart")) or in_force["type"] == "eth")

    @contextlib.asynccontextmanager
    async def staging(self) -> AsyncIterator[Interfaces]:
        """Change the staged configuration: yields it, and writes it when the block ends without an error."""
        async with self.store.lock("network/interfaces.lock"):
            content = self.shown()
            yield content
            write_atomic(self.staged_path, render(content).encode(), 0o644)

    async def revert(self) -> None:
        """Forget what is staged."""
        async with self.store.lock("network/interfaces.lock"):
            self.staged_path.unlink(missing_ok=True)

    async def apply(self) -> None:
        """Put the staged file in force. Raises ApiError when ifupdown2 refuses to reload it."""
        async with self.store.lock("network/interfaces.lock"):
            if self.staged_path.exists():
                self.staged_path.rename(self.live_path)
        if self.on_host:
            async with taps.kept():
                await _reload()


async def _reload() -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *("ifreload", "-a"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise ApiError("you need ifupdown2 to reload network configuration") from error
    output, _ = await process.communicate()
    if process.returncode:
        lines = [line for line in re.split(r"[\r\n]+", output.decode(errors="replace")) if line.strip()]
        raise ApiError(f"command 'ifreload -a' failed: exit code {process.returncode}: {' / '.join(lines[-3:])}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _stamp(path: Path) -> str:
    when = path.stat().st_mtime if path.exists() else 0.0
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S.%f000 +0000")
