# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridges for guests.

Where labnode is root and the kernel has a bridge of that name, a guest gets a tap device on it. Everywhere else a
bridge is a `vde_switch`
process (vde2): detached like the guests, found again after a restart, started anew when it died. VLANs are the
switch's own: a NIC
with a tag is an untagged port of that VLAN, one without is a trunk (all VLANs tagged, or those of `trunks`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labnode.errors import ApiError
from labnode.machine.nics import Nic, Way
from labnode.machine.places import live_pid, make_private, socket_root
from labnode.storage.run import run, tool

PORTS = 512
VLANS = range(2, 4095)
PROMPT = b"vde$ "
SYS_NET = Path("/sys/class/net")


class Switch:
    """The bridges of this node. `bridges` tells which names /etc/network/interfaces defines."""

    def __init__(self, run_dir: Path, bridges: Callable[[], set[str]]) -> None:
        self.run_dir = run_dir
        self.bridges = bridges

    # who is there -------------------------------------------------------------------------------------------------

    def is_kernel(self, name: str) -> bool:
        """Whether the kernel's bridge of that name is used."""
        return os.geteuid() == 0 and (SYS_NET / name / "bridge").is_dir()

    def known(self, name: str) -> bool:
        """Whether a guest can be plugged into the bridge."""
        return name in self.bridges() or self.is_kernel(name)

    def need(self, name: str) -> None:
        """ApiError "bridge 'vmbr99' does not exist"."""
        if not self.known(name):
            raise ApiError(f"bridge '{name}' does not exist")

    def directory(self, name: str) -> Path:
        """Files of one switch process."""
        return self.run_dir / "switch" / name

    def sockets(self, name: str) -> Path:
        """Its sockets, below a path short enough for them."""
        return socket_root(self.run_dir) / "switch" / name

    def pid(self, name: str) -> int | None:
        """The switch process, None when there is none."""
        return live_pid(self.directory(name) / "pid", str(self.sockets(name) / "mgmt"))

    def active(self, name: str) -> bool:
        """Whether the bridge is up now."""
        return self.is_kernel(name) or self.pid(name) is not None

    def running(self) -> list[str]:
        """Bridges with a switch process."""
        top = self.run_dir / "switch"
        return [path.name for path in sorted(top.iterdir()) if self.pid(path.name)] if top.is_dir() else []

    # processes ----------------------------------------------------------------------------------------------------

    async def up(self, name: str) -> bool:
        """Start the switch of a bridge if it does not run; True when it was started now (its ports are then empty)."""
        if self.is_kernel(name) or self.pid(name) is not None:
            return False
        program = tool("vde_switch")
        if program is None:
            raise ApiError(f"bridge '{name}' needs program 'vde_switch', which is not installed - apt install vde2")
        where, sockets = self.directory(name), self.sockets(name)
        shutil.rmtree(sockets / "ctl", ignore_errors=True)
        for path in (where, sockets):
            make_private(path, self.run_dir)
        (sockets / "mgmt").unlink(missing_ok=True)
        (where / "ports.json").unlink(missing_ok=True)  # a new switch has no ports yet
        (where / "pid").unlink(missing_ok=True)  # vde_switch gives up when there is one already
        # the long lines of the command: data socket, management socket, no terminal, pid file
        argv = [
            program,
            "-s",
            str(sockets / "ctl"),
            "-M",
            str(sockets / "mgmt"),
            "-n",
            str(PORTS),
            "-m",
            "600",
            "-d",
            "-p",
            str(where / "pid"),
        ]
        await run(argv, error=f"bridge '{name}' did not come up", timeout=10)
        await asyncio.to_thread(self._create_vlans, name)
        return True

    def _create_vlans(self, name: str) -> None:
        with self._manage(name, wait=5.0) as say:
            for vlan in VLANS:
                say(f"vlan/create {vlan}")

    async def down(self, name: str) -> None:
        """End the switch process; guests on it lose the link. None running is no error."""
        pid = self.pid(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 5
            while self.pid(name) is not None and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            if (left := self.pid(name)) is not None:
                os.kill(left, signal.SIGKILL)
        shutil.rmtree(self.sockets(name), ignore_errors=True)
        shutil.rmtree(self.directory(name), ignore_errors=True)

    async def down_all(self) -> None:
        """End every switch process of this node."""
        for name in self.running():
            await self.down(name)

    async def follow(self) -> None:
        """After the network configuration changed: end the switches of bridges that are gone."""
        wanted = self.bridges()
        for name in self.running():
            if name not in wanted:
                await self.down(name)

    # management socket --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _manage(self, name: str, wait: float = 2.0) -> Iterator[Callable[[str], str]]:
        """A management session: a function that sends one command and returns the answer. Blocking, but answers come
        in microseconds."""
        path = self.sockets(name) / "mgmt"
        deadline = time.monotonic() + wait
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(wait)
            while True:
                try:
                    link.connect(str(path))
                    break
                except OSError as err:
                    if time.monotonic() > deadline:
                        raise ApiError(
                            f"switch of bridge '{name}' does not answer ({err}) - restart the guests on it"
                        ) from None
                    time.sleep(0.01)
            _answer(link, name)

            def say(command: str) -> str:
                link.sendall(command.encode() + b"\n")
                return _answer(link, name)

            yield say

    def _ports(self, name: str) -> dict[str, int]:
        path = self.directory(name) / "ports.json"
        if not path.exists():
            return {}
        found: dict[str, int] = json.loads(path.read_text(encoding="ascii"))
        return found

    def _save_ports(self, name: str, ports: dict[str, int]) -> None:
        path = self.directory(name) / "ports.json"
        work = path.with_suffix(".tmp")
        work.write_text(json.dumps(ports), encoding="ascii")
        work.rename(path)

    # NICs ---------------------------------------------------------------------------------------------------------

    async def plug(self, vmid: int, nic: Nic) -> Way:
        """Prepare the network side of a NIC and say how QEMU reaches it. ApiError when the bridge is not there."""
        if nic.bridge is None:
            return Way({"type": "user", "id": f"net-{nic.key}"})
        self.need(nic.bridge)
        if self.is_kernel(nic.bridge):
            return await self._plug_tap(vmid, nic)
        await self.up(nic.bridge)
        port = await asyncio.to_thread(self._plug_port, vmid, nic)
        return Way(
            {"type": "vde", "id": f"net-{nic.key}", "sock": str(self.sockets(nic.bridge) / "ctl"), "port": str(port)}
        )

    def _plug_port(self, vmid: int, nic: Nic) -> int:
        assert nic.bridge is not None
        ports = self._ports(nic.bridge)
        owner = f"{vmid}.{nic.key}"
        port = ports.get(owner) or next(n for n in range(1, PORTS) if n not in ports.values())
        ports[owner] = port
        self._save_ports(nic.bridge, ports)
        with self._manage(nic.bridge) as say:
            say(f"port/remove {port}")
            say(f"port/create {port}")
            say(f"port/setvlan {port} {nic.tag or 0}")
            tagged: Iterable[int] = nic.trunks or (() if nic.tag else VLANS)
            for vlan in tagged:
                say(f"vlan/addport {vlan} {port}")
        return port

    def unplugged(self, vmid: int, names: Iterable[str]) -> bool:
        """Whether the guest has no port on a userspace bridge it should be on (its switch was started anew for
        another)."""
        owners = {name: self._ports(name) for name in names if not self.is_kernel(name)}
        return any(not any(owner.startswith(f"{vmid}.") for owner in ports) for ports in owners.values())

    async def set_vlans(self, vmid: int, nic: Nic) -> None:
        """Another tag or trunk list for a NIC that stays plugged."""
        assert nic.bridge is not None
        if self.is_kernel(nic.bridge):
            await self._tap_vlans(tap_name(vmid, nic), nic)
            return
        await asyncio.to_thread(self._set_vlans, vmid, nic)

    def _set_vlans(self, vmid: int, nic: Nic) -> None:
        assert nic.bridge is not None
        port = self._ports(nic.bridge)[f"{vmid}.{nic.key}"]
        wanted = set(nic.trunks or (() if nic.tag else VLANS)) - {nic.tag}
        with self._manage(nic.bridge) as say:
            for vlan in VLANS:
                say(f"vlan/{'addport' if vlan in wanted else 'delport'} {vlan} {port}")
            say(f"port/setvlan {port} {nic.tag or 0}")

    async def unplug(self, vmid: int, key: str | None = None) -> None:
        """Give back the ports of a guest (or of one of its NICs) on every bridge."""
        await asyncio.to_thread(self._unplug_ports, vmid, key)
        for path in SYS_NET.glob(f"tap{vmid}i{key[3:] if key else '*'}") if os.geteuid() == 0 else []:
            with contextlib.suppress(ApiError):
                await run(["ip", "link", "del", path.name], timeout=10)

    def _unplug_ports(self, vmid: int, key: str | None) -> None:
        for name in self.running():
            ports = self._ports(name)
            gone = {
                o: p for o, p in ports.items() if o == f"{vmid}.{key}" or (key is None and o.startswith(f"{vmid}."))
            }
            if not gone:
                continue
            with self._manage(name) as say:
                for port in gone.values():
                    say(f"port/remove {port}")
            self._save_ports(name, {o: p for o, p in ports.items() if o not in gone})

    def traffic(self, vmid: int) -> dict[str, tuple[int, int]]:
        """Bytes (to the guest, from the guest) of each of its NICs (net0) since it was plugged."""
        found: dict[str, tuple[int, int]] = {}
        for name in self.running():
            mine = {o.partition(".")[2]: p for o, p in self._ports(name).items() if o.startswith(f"{vmid}.")}
            if not mine:
                continue
            with self._manage(name) as say:
                for key, port in mine.items():
                    numbers = re.findall(r"(?:IN|OUT):\s+pkts\s+\d+\s+bytes\s+(\d+)", say(f"port/allprint {port}"))
                    if len(numbers) == 2:
                        found[key] = int(numbers[1]), int(numbers[0])
        for path in SYS_NET.glob(f"tap{vmid}i*"):
            # the tap's transmit side is what the guest receives
            counters = [int((path / "statistics" / f"{way}_bytes").read_text(encoding="ascii")) for way in ("tx", "rx")]
            found[f"net{path.name.rpartition('i')[2]}"] = counters[0], counters[1]
        return found

    # kernel bridges -----------------------------------------------------------------------------------------------

    async def _plug_tap(self, vmid: int, nic: Nic) -> Way:
        assert nic.bridge is not None
        tap = tap_name(vmid, nic)
        if not (SYS_NET / tap).exists():
            await run(
                ["ip", "tuntap", "add", "dev", tap, "mode", "tap"],
                error=f"{nic.key}: no tap device",
                package="iproute2",
                timeout=10,
            )
        mtu = (SYS_NET / nic.bridge / "mtu").read_text(encoding="ascii").strip()
        await run(
            ["ip", "link", "set", "dev", tap, "mtu", mtu, "master", nic.bridge, "up"],
            error=f"{nic.key}: tap on '{nic.bridge}'",
            timeout=10,
        )
        await self._tap_vlans(tap, nic)
        return Way({"type": "tap", "id": nic.key, "ifname": tap, "script": "no", "downscript": "no"}, direct=True)

    async def _tap_vlans(self, tap: str, nic: Nic) -> None:
        assert nic.bridge is not None
        filtering = SYS_NET / nic.bridge / "bridge/vlan_filtering"  # not there where the kernel cannot
        aware = filtering.exists() and filtering.read_text(encoding="ascii").strip() == "1"
        if not aware:
            if nic.tag:
                raise ApiError(
                    f"{nic.key}: tag {nic.tag} needs a VLAN-aware bridge, and '{nic.bridge}' is none"
                    " - set its bridge_vlan_aware"
                )
            return
        await run(["bridge", "vlan", "del", "dev", tap, "vid", "1-4094"], timeout=10)
        own = str(nic.tag or 1)
        await run(
            ["bridge", "vlan", "add", "dev", tap, "vid", own, "pvid", "untagged"],
            error=f"{nic.key}: VLAN {own}",
            timeout=10,
        )
        for low, high in _spans(nic.trunks or (() if nic.tag else VLANS)):
            await run(
                ["bridge", "vlan", "add", "dev", tap, "vid", f"{low}-{high}"],
                error=f"{nic.key}: VLANs {low}-{high}",
                timeout=10,
            )


def tap_name(vmid: int, nic: Nic) -> str:
    """Name of a NIC's tap device, as Proxmox VE names it."""
    return f"tap{vmid}i{nic.number}"


def _spans(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    start = last = None
    for number in sorted(numbers):
        if start is None or last is None:
            start = last = number
        elif number == last + 1:
            last = number
        else:
            yield start, last
            start = last = number
    if start is not None and last is not None:
        yield start, last


def _answer(link: socket.socket, name: str) -> str:
    data = b""
    while not data.endswith(PROMPT):
        try:
            chunk = link.recv(65536)
        except TimeoutError:
            chunk = b""
        if not chunk:
            raise ApiError(f"switch of bridge '{name}' does not answer - restart the guests on it")
        data += chunk
    return data.decode("utf-8", "replace")
