# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of real QEMU processes: start, look, change, save, end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from machine_lab import MAC, until

from labnode.errors import ApiError
from labnode.machine import hotplug
from labnode.machine.model import Earlier


def config(volid: str | None = None, **more: str) -> dict[str, str]:
    """A small guest."""
    base = {"name": "web1", "memory": "32", "kvm": "0", "scsihw": "virtio-scsi-single"}
    return {**base, **({"scsi0": f"{volid},size=1M"} if volid else {}), **more}


async def counting(lab, vmid: int) -> None:
    """The guest runs and counts on."""

    async def on() -> bool:
        first = await lab.count(vmid)
        return first != await lab.count(vmid)

    await until(on, f"guest {vmid} counts")


async def test_a_guest_runs_pauses_and_ends(lab):
    guest = config(await lab.disk(100), net0=f"virtio={MAC}1,bridge=vmbr0,tag=20", ide2="none,media=cdrom")
    pid = await lab.start(100, guest)
    assert lab.machines.running() == {100: pid}
    await counting(lab, 100)
    with pytest.raises(ApiError, match="VM 100 already running"):
        await lab.start(100, guest)
    await lab.machines.pause(100)
    info = await lab.machines.info(100, guest)
    assert (info.qmpstatus, info.pid, sorted(info.blockstat), list(info.nics)) == (
        "paused",
        pid,
        ["ide2", "scsi0"],
        ["tap100i0"],
    )
    assert info.diskread > 0
    assert info.running_machine.startswith("pc-i440fx-")
    await lab.machines.cont(100)
    await counting(lab, 100)
    assert not await lab.machines.shutdown(100, timeout=0.1)
    await lab.machines.stop(100)
    assert lab.machines.running() == {}
    assert await lab.machines.info(100) is None
    assert await lab.machines.status(100) == "stopped"
    await lab.machines.stop(100)
    with pytest.raises(ApiError, match="VM 100 not running"):
        await lab.machines.reset(100)


async def test_a_guest_is_found_again_and_a_reused_pid_is_not_it(lab):
    pid = await lab.start(100, config())
    again = lab.again()
    assert again.running() == {100: pid}
    assert await again.status(100) == "running"
    os.kill(pid, signal.SIGKILL)
    await until(lambda: asyncio.sleep(0, not again.alive(100)), "it is gone")
    places = again.guest(100).places
    places.pid_file.write_text(str(os.getpid()))
    assert not again.alive(100)
    await again.stop(100)
    assert os.getpid()


async def test_a_killed_guest_gives_back_its_port(lab):
    pid = await lab.start(100, config(net0=f"virtio={MAC}1,bridge=vmbr0"))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: asyncio.sleep(0, not lab.machines.alive(100)), "it is gone")
    await lab.machines.cleanup(100)
    assert lab.switch._ports("vmbr0") == {}


async def test_memory_and_disk_come_back_together(lab):
    volid = await lab.disk(100)
    guest = config(volid, net0=f"virtio={MAC}1,bridge=vmbr0")
    await lab.start(100, guest)
    await counting(lab, 100)
    state = await lab.storage.alloc("local", 100, "raw", lab.machines.ram_size(guest), name="vm-100-state-a.raw")
    size = (await lab.storage.info(state)).size
    await lab.machines.save_ram(100, lab.storage.path(state))
    held = await lab.count(100)
    await lab.machines.block_snapshot(100, "scsi0", "a")
    assert await lab.machines.status(100) == "postmigrate"
    await lab.machines.cont(100)
    await counting(lab, 100)
    await lab.machines.stop(100)
    assert await lab.storage.snapshots(volid) == ["a"]
    assert (await lab.storage.info(state)).size == size
    await lab.storage.snapshot_rollback(volid, "a")
    await lab.start(100, guest, earlier=Earlier(lab.storage.path(state)), paused=True)
    assert await lab.count(100) == held
    await lab.machines.cont(100)
    await counting(lab, 100)
    await lab.machines.block_snapshot_delete(100, "scsi0", "a")
    await lab.machines.block_snapshot_delete(100, "scsi0", "a")


async def test_a_damaged_state_leaves_nothing_running(lab):
    state = lab.state / "state"
    state.write_bytes(b"no state at all" * 100)
    with pytest.raises(ApiError, match="100"):
        await lab.start(100, config(), earlier=Earlier(state))
    assert not lab.machines.alive(100)


async def test_disks_come_and_go(lab):
    guest = config(await lab.disk(100))
    await lab.start(100, guest)
    extra = await lab.storage.alloc("local", 100, "qcow2", 64 << 20)
    for _ in range(2):
        await lab.machines.plug(100, "scsi1", f"{extra},iothread=1,mbps_rd=5", guest)
        assert "scsi1" in (await lab.machines.info(100)).blockstat
        await lab.machines.unplug(100, "scsi1", guest)
        assert "scsi1" not in (await lab.machines.info(100)).blockstat
    with pytest.raises(ApiError, match=r"hotplug problem - scsi2: volume 'local:100/vm-100-disk-9.raw' does not exist"):
        await lab.machines.plug(100, "scsi2", "local:100/vm-100-disk-9.raw", guest)
    blocks = await lab.machines.qmp(100, "query-named-block-nodes", flat=True)
    assert not any("scsi1" in item["node-name"] or "scsi2" in item["node-name"] for item in blocks)


async def test_a_drive_grows_moves_and_is_copied(lab):
    guest = config(await lab.disk(100))
    await lab.start(100, guest)
    await lab.machines.resize(100, "scsi0", 8 << 20)
    target = await lab.storage.alloc("local", 100, "raw", 8 << 20)
    await lab.machines.mirror(100, "scsi0", target)
    assert lab.storage.path(target).read_bytes()[510:512] == b"\x55\xaa"
    back = await lab.storage.alloc("local", 100, "qcow2", 8 << 20)
    await lab.machines.mirror(100, "scsi0", back)
    await lab.machines.block_snapshot(100, "scsi0", "after")
    assert await lab.storage.snapshots(back) == ["after"]
    copy = lab.state / "copy.raw"
    copy.write_bytes(b"")
    os.truncate(copy, 8 << 20)
    await lab.machines.backup(100, {"scsi0": copy})
    assert copy.read_bytes()[510:512] == b"\x55\xaa"
    await counting(lab, 100)


async def test_a_move_to_a_full_place_leaves_the_drive_where_it_was(lab):
    guest = config(await lab.disk(100))
    await lab.start(100, guest)
    small = await lab.storage.alloc("local", 100, "raw", 64 << 10)
    with pytest.raises(ApiError):
        await lab.machines.mirror(100, "scsi0", small)
    await lab.machines.block_snapshot(100, "scsi0", "still")
    await counting(lab, 100)


async def test_media_change(lab):
    iso = lab.state / "storage/local/template/iso/a.iso"
    await lab.storage.activate("local")
    iso.write_bytes(bytes(2048 * 20))
    guest = config(ide2="none,media=cdrom", sata0="none,media=cdrom")
    await lab.start(100, guest)
    for key in ("ide2", "sata0"):
        assert await lab.machines.set_live(100, key, "local:iso/a.iso,media=cdrom", guest[key], guest)
        blocks = {item["qdev"]: item for item in await lab.machines.qmp(100, "query-block") if item.get("qdev")}
        assert any(key in name and item.get("inserted") for name, item in blocks.items())
        assert await lab.machines.set_live(100, key, "none,media=cdrom", "local:iso/a.iso,media=cdrom", guest)
    blocks = await lab.machines.qmp(100, "query-block")
    assert not any(item.get("inserted") for item in blocks)


class Tray:
    """A monitor of a guest that closes the tray of its drive the first ``closes`` times it is open."""

    def __init__(self, closes: int) -> None:
        self.closes = closes
        self.said: list[str] = []

    async def __call__(self, command: str, /, **_args: Any) -> None:
        self.said.append(command)
        if command == "blockdev-insert-medium" and self.closes:
            self.closes -= 1
            raise ApiError("VM 100 qmp command 'blockdev-insert-medium' failed - Tray of the device is not open")


async def test_a_tray_that_the_guest_closes_is_opened_again():
    tray = Tray(closes=2)
    await hotplug.in_open_tray(tray, "ide2", "blockdev-insert-medium", node_name="drive-ide2")
    assert tray.said == ["blockdev-open-tray", "blockdev-insert-medium"] * 3
    stubborn = Tray(closes=1000)
    with pytest.raises(ApiError, match="is not open"):
        await hotplug.in_open_tray(stubborn, "ide2", "blockdev-insert-medium", node_name="drive-ide2")
    assert stubborn.said.count("blockdev-open-tray") == hotplug.TRAY_TRIES


async def test_throttles_balloon_cpus_change(lab):
    guest = config(await lab.disk(100), sockets="1", cores="2", vcpus="1")
    await lab.start(100, guest)
    assert await lab.machines.set_live(100, "scsi0", guest["scsi0"] + ",mbps=2,iops_rd=100", guest["scsi0"], guest)
    block = next(item for item in await lab.machines.qmp(100, "query-block") if "scsi0" in item.get("qdev", ""))
    assert (block["inserted"]["bps"], block["inserted"]["iops_rd"]) == (2 << 20, 100)
    assert await lab.machines.set_live(100, "vcpus", "2", "1", guest)
    assert len(await lab.machines.qmp(100, "query-cpus-fast")) == 2
    assert not await lab.machines.set_live(100, "vcpus", "1", "2", guest)
    assert not await lab.machines.set_live(100, "memory", "64", "32", guest)


async def test_nics_change_their_bridge_vlan_and_link(lab):
    old = f"virtio={MAC}1,bridge=vmbr0,tag=20"
    guest = config(net0=old)
    await lab.start(100, guest)
    new = f"virtio={MAC}1,bridge=vmbr1,tag=30,link_down=1"
    assert await lab.machines.set_live(100, "net0", new, old, guest)
    assert (lab.switch._ports("vmbr0"), lab.switch._ports("vmbr1")) == ({}, {"100.net0": 1})
    assert not await lab.machines.set_live(100, "net0", new.replace("virtio", "e1000"), new, guest)
    with pytest.raises(ApiError, match="bridge 'vmbr9' does not exist"):
        await lab.machines.set_live(100, "net0", new.replace("vmbr1", "vmbr9"), new, guest)


async def test_a_guest_is_led_back_to_a_switch_that_died(lab):
    guest = config(net0=f"virtio={MAC}1,bridge=vmbr0,tag=20")
    await lab.start(100, guest)
    assert not lab.machines.cut_off(100, guest)
    os.kill(lab.switch.pid("vmbr0"), signal.SIGKILL)
    await until(lambda: asyncio.sleep(0, lab.machines.cut_off(100, guest)), "the guest is cut off")
    await lab.machines.reconnect(100, guest)
    assert not lab.machines.cut_off(100, guest)
    with lab.switch._manage("vmbr0") as say:
        assert "endpoint" in say("port/print 1")


async def test_the_node_leads_guests_back_by_itself(lab, monkeypatch):
    monkeypatch.setattr("labnode.machine.service.TEND_S", 0.05)
    guest = config(net0=f"virtio={MAC}1,bridge=vmbr0")
    await lab.start(100, guest)
    lab.machines.tend(lambda _vmid: guest, lambda vmid: lab.storage.store.lock(f"{vmid}"))
    old = lab.switch.pid("vmbr0")
    os.kill(old, signal.SIGKILL)

    async def back() -> bool:
        return lab.switch.pid("vmbr0") not in (None, old) and not lab.machines.cut_off(100, guest)

    await until(back, "a new switch with the guest on it")


@pytest.mark.parametrize("key", ["ctrl-alt-delete", "ret"])
async def test_keys_are_pressed(lab, key):
    await lab.start(100, config())
    await lab.machines.sendkey(100, key)
    with pytest.raises(ApiError, match="nosuchkey"):
        await lab.machines.sendkey(100, "nosuchkey")


async def test_an_agent_that_is_not_there_is_said_to_be_so(lab):
    await lab.start(100, config(agent="1"))
    with pytest.raises(ApiError, match="QEMU guest agent is not running"):
        await lab.machines.agent(100, "guest-ping", timeout=0.2)
