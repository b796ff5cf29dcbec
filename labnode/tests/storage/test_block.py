# SPDX-License-Identifier: GPL-3.0-or-later
"""LVM and ZFS by the words exchanged with their tools: stand-ins on the PATH note every call and give recorded answers.

Kernels without device mapper and ZFS cannot run the real tools; the reports below have the form the real ones print.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labnode.errors import ApiError
from labnode.storage import Definition, StorageService
from labnode.storage import run as running
from labnode.store import Store

GIB = 1 << 30
TOOL = """#!/bin/sh
echo "$(basename $0) $*" >> {calls}
case "$(basename $0) $*" in
{cases}
esac
"""


class Tools:
    """Programs that answer what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        self.answers: dict[str, str] = {}

    def answer(self, pattern: str, text: str) -> None:
        """What a call that matches the shell pattern prints."""
        self.answers[pattern] = text
        for number, item in enumerate(self.answers.values()):
            (self.folder / f"answer{number}").write_text(item)
        lines = [f'{p}) cat "{self.folder}/answer{n}";;' for n, p in enumerate(self.answers)]
        script = TOOL.format(calls=self.calls_file, cases="\n".join(lines))
        for name in (
            "vgs",
            "lvs",
            "lvcreate",
            "lvremove",
            "lvrename",
            "lvchange",
            "lvextend",
            "zfs",
            "zpool",
            "udevadm",
        ):
            path = self.folder / name
            path.write_text(script)
            path.chmod(0o755)

    def calls(self, *beginnings: str) -> list[str]:
        """Calls so far that begin so, and forget them."""
        text = self.calls_file.read_text() if self.calls_file.exists() else ""
        self.calls_file.unlink(missing_ok=True)
        return [line for line in text.splitlines() if line.startswith(beginnings)]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.setitem(running.ENV, "PATH", f"{tmp_path}:{running.ENV['PATH']}")
    found = Tools(tmp_path)
    found.answer("none", "")
    return found


@pytest.fixture
def storage(tmp_path):
    service = StorageService(Store(tmp_path / "state"), "pve1")
    made = [
        Definition("thick", "lvm", {"vgname": "vg0"}),
        Definition("thin", "lvmthin", {"vgname": "vg0", "thinpool": "data"}),
        Definition("tank", "zfspool", {"pool": "tank/vms", "sparse": "1", "blocksize": "16k"}),
    ]
    service.config.write({item.storeid: item for item in made})
    return service


def lv(name: str, size: int, attr: str, **more: str) -> dict[str, str]:
    """A row as lvs prints it."""
    base = {"vg_name": "vg0", "lv_name": name, "lv_size": str(size), "lv_attr": attr, "pool_lv": "", "origin": ""}
    return {**base, "data_percent": "", "lv_time": "2026-11-21 08:00:00 +0000", "tags": "", **more}


def report(tools: Tools, *rows: dict[str, str], free: int = 5 * GIB) -> None:
    group = {"vg_name": "vg0", "vg_size": str(20 * GIB), "vg_free": str(free)}
    tools.answer("vgs*", json.dumps({"report": [{"vg": [group]}], "log": []}))
    tools.answer("lvs*", json.dumps({"report": [{"lv": list(rows)}], "log": []}))


POOL = lv("data", 10 * GIB, "twi-aotz--", data_percent="25.00")
DISK = lv("vm-100-disk-0", 4 * GIB, "Vwi-aotz--", pool_lv="data", data_percent="50.00")
SNAP = lv("snap_vm-100-disk-0_one", 4 * GIB, "Vri---tz-k", pool_lv="data", origin="vm-100-disk-0")
THICK = lv("vm-101-disk-0", 2 * GIB, "-wi-a-----", tags="pve-vm-101")


async def test_thin_volumes_are_read(tools, storage):
    report(tools, POOL, DISK, SNAP, THICK)
    status = await storage.status("thin")
    assert (status.active, status.total, status.used, status.avail) == (True, 10 * GIB, int(2.5 * GIB), int(7.5 * GIB))
    assert [item["volid"] for item in await storage.list("thin")] == ["thin:vm-100-disk-0"]
    info = await storage.info("thin:vm-100-disk-0")
    assert (info.format, info.size, info.used) == ("raw", 4 * GIB, 2 * GIB)
    assert str(storage.path("thin:vm-100-disk-0", snap="one")) == "/dev/vg0/snap_vm-100-disk-0_one"
    assert await storage.snapshots("thin:vm-100-disk-0") == ["one"]
    assert storage.feature("thin:vm-100-disk-0", "clone", snap="one")
    assert not storage.live_snapshot_by_qemu("thin:vm-100-disk-0")


async def test_thin_volumes_are_made_and_removed(tools, storage):
    report(tools, POOL, DISK, SNAP)
    assert await storage.alloc("thin", 100, None, GIB) == "thin:vm-100-disk-1"
    assert tools.calls("lvcreate") == ["lvcreate -aly -V 1048576k --name vm-100-disk-1 --thinpool vg0/data"]
    await storage.snapshot("thin:vm-100-disk-0", "two")
    assert tools.calls("lvcreate") == ["lvcreate -n snap_vm-100-disk-0_two -pr -s vg0/vm-100-disk-0"]
    await storage.snapshot_rollback("thin:vm-100-disk-0", "one")
    assert tools.calls("lvcreate", "lvremove", "lvrename") == [
        "lvcreate -kn -n vm-100-disk-0.back -s vg0/snap_vm-100-disk-0_one",
        "lvremove -f vg0/vm-100-disk-0",
        "lvrename vg0 vm-100-disk-0.back vm-100-disk-0",
    ]
    await storage.free("thin:vm-100-disk-0")
    assert sorted(tools.calls("lvremove")) == [
        "lvremove -f vg0/snap_vm-100-disk-0_one",
        "lvremove -f vg0/vm-100-disk-0",
    ]
    with pytest.raises(ApiError, match="snapshot 'none' of volume 'thin:vm-100-disk-0' does not exist"):
        await storage.snapshot_rollback("thin:vm-100-disk-0", "none")


async def test_thin_templates_and_clones(tools, storage):
    report(tools, POOL, DISK)
    assert await storage.make_base("thin:vm-100-disk-0") == "thin:base-100-disk-0"
    assert tools.calls("lvrename", "lvchange") == [
        "lvrename vg0 vm-100-disk-0 base-100-disk-0",
        "lvchange -pr -ky vg0/base-100-disk-0",
    ]
    report(tools, POOL, {**DISK, "lv_name": "base-100-disk-0"})
    assert await storage.clone_linked("thin:base-100-disk-0", 102) == "thin:vm-102-disk-0"
    assert tools.calls("lvcreate") == ["lvcreate -n vm-102-disk-0 -prw -kn -s vg0/base-100-disk-0"]


async def test_thick_volumes(tools, storage):
    report(tools, POOL, DISK, THICK)
    status = await storage.status("thick")
    assert (status.total, status.avail) == (20 * GIB, 5 * GIB)
    assert [item["volid"] for item in await storage.list("thick")] == ["thick:vm-101-disk-0"]
    assert await storage.alloc("thick", 101, None, GIB) == "thick:vm-101-disk-1"
    wanted = "lvcreate -aly -Wy --yes --size 1048576k --name vm-101-disk-1 --addtag pve-vm-101 vg0"
    assert tools.calls("lvcreate") == [wanted]
    with pytest.raises(ApiError, match="not enough free space in volume group 'vg0'"):
        await storage.alloc("thick", 101, None, 6 * GIB)
    await storage.resize("thick:vm-101-disk-0", 3 * GIB)
    assert tools.calls("lvextend") == ["lvextend -L 3145728k vg0/vm-101-disk-0"]
    with pytest.raises(ApiError, match="cannot take snapshots"):
        await storage.snapshot("thick:vm-101-disk-0", "one")
    assert not storage.feature("thick:vm-101-disk-0", "snapshot")


async def test_a_missing_group_or_pool(tools, storage):
    report(tools)
    with pytest.raises(ApiError, match="no such logical volume vg0/data"):
        await storage.alloc("thin", 100, None, GIB)
    assert not (await storage.status("thin")).active
    tools.answer("vgs*", json.dumps({"report": [{"vg": []}]}))
    with pytest.raises(ApiError, match="no such volume group 'vg0'"):
        await storage.alloc("thick", 100, None, GIB)
    assert not (await storage.status("thick")).active


@pytest.fixture
def tank(tools, storage):
    rows = [
        ["tank/vms/vm-100-disk-0", str(4 * GIB), str(GIB), "-", "1795248043"],
        ["tank/vms/base-200-disk-0", str(2 * GIB), str(GIB), "-", "1795248043"],
        ["tank/vms/vm-201-disk-0", str(2 * GIB), "8192", "tank/vms/base-200-disk-0@__base__", "1795248044"],
    ]
    report(tools)
    tools.answer('"zfs get"*', f"{30 * GIB}\n{10 * GIB}\n")
    tools.answer('"zfs list -Hp -d 1 -t volume"*', "".join("\t".join(row) + "\n" for row in rows))
    tools.answer('"zfs list -Hp -d 1 -t snapshot"*', "".join(f"tank/vms/vm-100-disk-0@{n}\n" for n in ("one", "two")))
    return storage


async def test_zfs_is_read(tank):
    status = await tank.status("tank")
    assert (status.active, status.total, status.used) == (True, 40 * GIB, 10 * GIB)
    volumes = [item["volid"] for item in await tank.list("tank")]
    assert volumes == ["tank:base-200-disk-0", "tank:base-200-disk-0/vm-201-disk-0", "tank:vm-100-disk-0"]
    assert str(tank.path("tank:base-200-disk-0/vm-201-disk-0")) == "/dev/zvol/tank/vms/vm-201-disk-0"
    assert (await tank.info("tank:base-200-disk-0/vm-201-disk-0")).parent == "base-200-disk-0@__base__"
    assert await tank.owned_by(201) == ["tank:base-200-disk-0/vm-201-disk-0"]


async def test_zfs_is_changed(tank, tools):
    assert await tank.alloc("tank", 100, None, GIB) == "tank:vm-100-disk-1"
    assert tools.calls("zfs create") == ["zfs create -s -b 16k -V 1048576k tank/vms/vm-100-disk-1"]
    assert await tank.clone_linked("tank:base-200-disk-0", 202) == "tank:base-200-disk-0/vm-202-disk-0"
    assert tools.calls("zfs clone") == ["zfs clone tank/vms/base-200-disk-0@__base__ tank/vms/vm-202-disk-0"]
    assert await tank.make_base("tank:vm-100-disk-0") == "tank:base-100-disk-0"
    made = [
        "zfs rename tank/vms/vm-100-disk-0 tank/vms/base-100-disk-0",
        "zfs snapshot tank/vms/base-100-disk-0@__base__",
    ]
    assert tools.calls("zfs rename", "zfs snapshot") == made
    with pytest.raises(ApiError, match="base volume 'tank:base-200-disk-0' is still in use by linked cloned"):
        await tank.free("tank:base-200-disk-0")
    await tank.free("tank:base-200-disk-0/vm-201-disk-0")
    assert tools.calls("zfs destroy") == ["zfs destroy -r tank/vms/vm-201-disk-0"]


async def test_zfs_goes_back_to_the_newest_only(tank, tools):
    await tank.snapshot_rollback("tank:vm-100-disk-0", "two")
    assert tools.calls("zfs rollback") == ["zfs rollback tank/vms/vm-100-disk-0@two"]
    for snap, text in {
        "one": "'one' is not most recent snapshot on",
        "none": "snapshot 'none' does not exist on",
    }.items():
        with pytest.raises(ApiError, match=text):
            await tank.rollback_is_possible("tank:vm-100-disk-0", snap)
        with pytest.raises(ApiError, match=text):
            await tank.snapshot_rollback("tank:vm-100-disk-0", snap)
    assert tools.calls("zfs rollback") == []
