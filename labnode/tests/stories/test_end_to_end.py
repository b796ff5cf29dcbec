# SPDX-License-Identifier: GPL-3.0-or-later
"""Linux guests on userspace bridges: cloud-init gives them addresses, VLANs keep them together and apart."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from machine_lab import MAC, until

from labnode.errors import ApiError

IMAGE = Path(__file__).resolve().parents[3] / ".cache/image/canary.qcow2"
BOOT_S = 90.0
pytestmark = pytest.mark.skipif(not IMAGE.exists(), reason="the guest image is not built (make image)")


async def boot(lab, number: int, net: str) -> dict[str, str]:
    """A guest with address 10.7.0.NUMBER on eth0."""
    volid = await lab.storage.clone_full(str(IMAGE.resolve()), "local", number, "qcow2")
    drive = await lab.storage.alloc("local", number, "qcow2", 4 << 20, name=f"vm-{number}-cloudinit.qcow2")
    config = {
        "name": f"guest{number}",
        "memory": "96",
        "kvm": "0",
        "scsihw": "virtio-scsi-single",
        "scsi0": f"{volid},discard=on",
        "ide2": f"{drive},media=cdrom",
        "net0": f"virtio={MAC}{number % 10},bridge={net}",
        "ipconfig0": f"ip=10.7.0.{number}/24",
        "agent": "1",
        "serial0": "socket",
        "boot": "order=scsi0",
        "vga": "none",
    }
    await lab.start(number, config)
    return config


async def ready(lab, vmid: int) -> None:
    """The guest's agent answers."""

    async def pings() -> bool:
        try:
            await lab.machines.agent(vmid, "guest-ping", timeout=1.0)
        except ApiError:
            return False
        return True

    await until(pings, f"the agent of guest {vmid}", BOOT_S)


async def run(lab, vmid: int, *argv: str) -> tuple[int, str]:
    """(exit status, output) of a program in the guest."""
    how = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    pid = (await lab.machines.agent(vmid, "guest-exec", how))["pid"]
    found: dict[str, object] = {}

    async def done() -> bool:
        found.update(await lab.machines.agent(vmid, "guest-exec-status", {"pid": pid}))
        return bool(found["exited"])

    await until(done, f"{argv} in guest {vmid}")
    return int(str(found["exitcode"])), base64.b64decode(str(found.get("out-data", ""))).decode()


def gone(there: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    """The opposite of a condition."""

    async def missing() -> bool:
        return not await there()

    return missing


async def reaches(lab, vmid: int, number: int) -> bool:
    """Whether the guest gets an answer from 10.7.0.NUMBER."""
    return (await run(lab, vmid, "/bin/busybox", "ping", "-c", "1", "-W", "2", f"10.7.0.{number}"))[0] == 0


async def test_guests_of_one_vlan_reach_each_other_and_no_other(lab):
    nets = {111: "vmbr0,tag=10", 112: "vmbr0,tag=10", 113: "vmbr0,tag=20"}
    configs = {number: await boot(lab, number, net) for number, net in nets.items()}
    await asyncio.gather(*(ready(lab, number) for number in nets))
    found = await lab.machines.agent(111, "guest-network-get-interfaces")
    addresses = {a["ip-address"] for i in found for a in i.get("ip-addresses", [])}
    assert "10.7.0.111" in addresses, json.dumps(found)
    await until(lambda: reaches(lab, 111, 112), "111 reaches 112")
    await until(lambda: reaches(lab, 112, 111), "112 reaches 111")
    assert not await reaches(lab, 111, 113)
    # the third joins the VLAN while it runs, then loses its link, then comes back
    old = configs[113]["net0"]
    joined = old.replace("tag=20", "tag=10")
    assert await lab.machines.set_live(113, "net0", joined, old, configs[113])
    await until(lambda: reaches(lab, 111, 113), "111 reaches 113")
    assert await lab.machines.set_live(113, "net0", joined + ",link_down=1", joined, configs[113])
    assert not await reaches(lab, 111, 113)
    moved = joined.replace("vmbr0", "vmbr1")
    assert await lab.machines.set_live(113, "net0", moved, joined + ",link_down=1", configs[113])
    assert not await reaches(lab, 111, 113)
    assert await lab.machines.set_live(113, "net0", joined, moved, configs[113])
    await until(lambda: reaches(lab, 113, 112), "113 reaches 112")
    info = await lab.machines.info(111, configs[111])
    assert info.netin > 0 and info.netout > 0
    assert (lab.state / "run/111/serial.log").stat().st_size > 0
    assert await lab.machines.shutdown(111, timeout=30, agent=True)
    assert await lab.machines.shutdown(112, timeout=30)


async def test_devices_come_and_go_in_a_guest_that_runs(lab):
    config = await boot(lab, 114, "vmbr0,tag=10")
    await ready(lab, 114)
    extra = await lab.storage.alloc("local", 114, "qcow2", 64 << 20)
    await lab.machines.plug(114, "scsi3", f"{extra},iothread=1", config)

    async def disk() -> bool:
        return " 65536 " in (await run(lab, 114, "/bin/busybox", "cat", "/proc/partitions"))[1]

    await until(disk, "the guest sees scsi3")
    await lab.machines.unplug(114, "scsi3", config, timeout=20)
    await until(gone(disk), "the guest has lost scsi3")
    await lab.machines.plug(114, "net1", f"virtio={MAC}9,bridge=vmbr0", config)

    async def nic() -> bool:
        return "eth1" in (await run(lab, 114, "/bin/busybox", "cat", "/proc/net/dev"))[1]

    await until(nic, "the guest sees net1")
    await lab.machines.unplug(114, "net1", config, timeout=20)
    await until(gone(nic), "the guest has lost net1")
    assert set(lab.switch._ports("vmbr0")) == {"114.net0"}
