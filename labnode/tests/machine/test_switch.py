# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames through real switches: who reaches whom, what survives, what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest
from machine_lab import until

from labnode.errors import ApiError
from labnode.machine.nics import Nic
from labnode.machine.places import clear_sockets, socket_root
from labnode.machine.switch import Switch

TYPE = b"\x88\xb5"  # an EtherType for local experiments


class Plug:
    """A program on a port of the switch: vde_plug, whose pipes carry frames behind two bytes of length."""

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        self.process = process
        self.mac = bytes([2, 0, 0, 0, 0, number])

    async def send(self, text: bytes, vlan: int | None = None) -> None:
        tag = b"\x81\x00" + vlan.to_bytes(2, "big") if vlan else b""
        frame = (b"\xff" * 6 + self.mac + tag + TYPE + text).ljust(60, b"\0")
        assert self.process.stdin is not None
        self.process.stdin.write(len(frame).to_bytes(2, "big") + frame)
        await self.process.stdin.drain()

    async def receive(self) -> tuple[bytes, int | None]:
        """(text, VLAN tag or None) of the next frame."""
        assert self.process.stdout is not None
        size = int.from_bytes(await asyncio.wait_for(self.process.stdout.readexactly(2), 10), "big")
        frame = await self.process.stdout.readexactly(size)
        vlan = int.from_bytes(frame[14:16], "big") & 0xFFF if frame[12:14] == b"\x81\x00" else None
        return frame[18 if vlan else 14 :].removeprefix(TYPE).rstrip(b"\0"), vlan


class Wires:
    """Plugs by NIC."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.plugs: list[Plug] = []

    async def plug(self, vmid: int, **nic: object) -> Plug:
        made = Nic("net0", "virtio", f"02:00:00:00:00:{vmid:02x}", **{"bridge": "vmbr0", **nic})  # type: ignore[arg-type]
        way = await self.switch.plug(vmid, made)
        argv = ["vde_plug", f"vde://{way.netdev['sock']}[{way.netdev['port']}]"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        plug = Plug(process, vmid)
        self.plugs.append(plug)
        port = way.netdev["port"]

        async def there() -> bool:
            with self.switch._manage(str(made.bridge)) as say:
                return f"Port {int(port):04d}" in say(f"port/print {port}")

        await until(there, f"a plug in port {port}")
        return plug


@pytest.fixture
async def wires(lab) -> AsyncIterator[Wires]:
    found = Wires(lab.switch)
    yield found
    for plug in found.plugs:
        with contextlib.suppress(ProcessLookupError):
            plug.process.kill()
        await plug.process.wait()


async def test_one_vlan_reaches_itself_and_no_other(wires):
    a, b = await wires.plug(1, tag=10), await wires.plug(2, tag=10)
    c, d = await wires.plug(3, tag=20), await wires.plug(4, tag=20)
    await a.send(b"ten")
    assert await b.receive() == (b"ten", None)  # so the switch has dealt with the frame
    await d.send(b"twenty")
    assert await c.receive() == (b"twenty", None)
    await c.send(b"back")
    assert await d.receive() == (b"back", None)


async def test_a_nic_without_a_tag_is_a_trunk(wires):
    trunk, ten = await wires.plug(1), await wires.plug(2, tag=10)
    await ten.send(b"up")
    assert await trunk.receive() == (b"up", 10)
    await trunk.send(b"down", vlan=10)
    assert await ten.receive() == (b"down", None)
    plain = await wires.plug(3)
    await plain.send(b"untagged")
    assert await trunk.receive() == (b"untagged", None)


async def test_trunks_limit_a_trunk(wires):
    trunk, ten, twenty = await wires.plug(1, trunks=(10,)), await wires.plug(2, tag=10), await wires.plug(3, tag=20)
    other = await wires.plug(4, tag=20)
    await twenty.send(b"not for you")
    assert await other.receive() == (b"not for you", None)
    await ten.send(b"for you")
    assert await trunk.receive() == (b"for you", 10)


async def test_a_nic_changes_its_vlan_while_plugged(wires):
    a, b = await wires.plug(1, tag=10), await wires.plug(2, tag=20)
    await wires.switch.set_vlans(1, Nic("net0", "virtio", "02:00:00:00:00:01", "vmbr0", 20))
    await a.send(b"moved")
    assert await b.receive() == (b"moved", None)


async def test_bridges_are_apart(wires):
    a, b, c = await wires.plug(1), await wires.plug(2, bridge="vmbr1"), await wires.plug(3, bridge="vmbr1")
    witness = await wires.plug(4)
    await a.send(b"here")
    assert await witness.receive() == (b"here", None)
    await c.send(b"there")
    assert await b.receive() == (b"there", None)


async def test_traffic_counts_both_ways(wires):
    a, b = await wires.plug(1), await wires.plug(2)
    await a.send(b"x")
    await b.receive()
    assert wires.switch.traffic(1) == {"net0": (0, 60)}
    assert wires.switch.traffic(2) == {"net0": (60, 0)}


async def test_an_unknown_bridge_is_named(lab):
    with pytest.raises(ApiError, match="bridge 'vmbr99' does not exist"):
        await lab.switch.plug(1, Nic("net0", "virtio", "02:00:00:00:00:01", "vmbr99"))


async def test_a_missing_switch_program_is_named(lab, monkeypatch):
    monkeypatch.setattr("labnode.machine.switch.tool", lambda _name: None)
    with pytest.raises(ApiError, match="'vde_switch', which is not installed - apt install vde2"):
        await lab.switch.up("vmbr0")


async def test_a_switch_is_found_again_and_ends_with_its_bridge(lab):
    assert await lab.switch.up("vmbr0")
    again = Switch(lab.state / "run", lambda: lab.bridges)
    assert again.active("vmbr0")
    assert not await again.up("vmbr0")
    lab.bridges.discard("vmbr0")
    await again.follow()
    assert lab.switch.running() == []


async def test_ports_are_given_back(lab):
    ways = [await lab.switch.plug(v, Nic("net0", "virtio", "02:00:00:00:00:01", "vmbr0")) for v in (1, 2)]
    assert [way.netdev["port"] for way in ways] == ["1", "2"]
    await lab.switch.unplug(1)
    way = await lab.switch.plug(3, Nic("net0", "virtio", "02:00:00:00:00:01", "vmbr0"))
    assert way.netdev["port"] == "1"


async def test_a_long_state_path_still_has_sockets(tmp_path):
    deep = tmp_path / ("long" * 25) / "run"
    switch = Switch(deep, lambda: {"vmbr0"})
    try:
        assert await switch.up("vmbr0")
        assert len(str(switch.sockets("vmbr0") / "ctl")) < 108
    finally:
        await switch.down_all()
        assert not switch.running()
        clear_sockets(deep)
    assert socket_root(deep) != deep and not socket_root(deep).exists()


async def test_a_dead_switch_is_replaced(wires):
    await wires.plug(1, tag=10)
    pid = wires.switch.pid("vmbr0")
    assert pid
    os.kill(pid, signal.SIGKILL)

    async def dead() -> bool:
        return not wires.switch.active("vmbr0")

    await until(dead, "the switch is dead")
    a, b = await wires.plug(1, tag=10), await wires.plug(2, tag=10)
    await a.send(b"anew")
    assert await b.receive() == (b"anew", None)
