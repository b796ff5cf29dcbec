# SPDX-License-Identifier: GPL-3.0-or-later
"""Back up and restore with real QEMU, over HTTPS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, until

# A boot sector that adds one to the word at 0x7E00 for ever.
COUNTER = bytes.fromhex("31c08ed8ff06007eebfa").ljust(510, b"\0") + b"\x55\xaa"
MARK = b"what the user had".ljust(4096, b".")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Served]:
    image = tmp_path / "disk.raw"
    image.write_bytes(COUNTER.ljust(1 << 20, b"\0") + MARK + bytes((1 << 20) - 4096))
    with Served(tmp_path) as served:
        wanted = {"scsi0": f"local:0,import-from={image},format=qcow2", "scsi1": "local:0.01,backup=0,format=raw"}
        settings = {"name": "kept", "memory": 32, "kvm": 0, "description": "two\nlines", "tags": "a;b"}
        assert served.done("POST", "", vmid=100, **wanted, **settings) == "OK"
        yield served
        assert list((served.state / "tmp").glob("*")) == []
        assert [p for p in (served.state / "storage/local/dump").iterdir() if p.name.startswith(".")] == []


def backup(lab: Served, **how: object) -> str:
    assert lab.done("POST", "/nodes/pve1/vzdump", vmid=100, storage="local", **how) == "OK"
    return archives(lab)[-1]


def archives(lab: Served) -> list[str]:
    rows = lab.call("GET", "/nodes/pve1/storage/local/content", content="backup")
    return sorted(row["volid"] for row in rows)


def content(lab: Served, vmid: int) -> bytes:
    (image,) = (lab.state / f"storage/local/images/{vmid}").glob("*-0.*")
    raw = lab.folder / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    return raw.read_bytes()


@pytest.mark.parametrize("compress", ["0", "gzip", "zstd"])
def test_a_restored_guest_is_the_one_backed_up(lab: Served, compress: str) -> None:
    volid = backup(lab, compress=compress, protected=1, **{"notes-template": "{{guestname}} as it was"})
    assert lab.done("POST", "", vmid=120, archive=volid, storage="local", unique=1) == "OK"
    old, new = (lab.call("GET", f"{vmid}/config") for vmid in (100, 120))
    assert {k: new[k] for k in ("name", "memory", "tags", "description")} == {
        k: old[k] for k in ("name", "memory", "tags", "description")
    }
    assert "scsi1" not in new and new["scsi0"] == "local:120/vm-120-disk-0.qcow2,size=2M"
    assert content(lab, 120) == content(lab, 100)
    shown = lab.call("GET", f"/nodes/pve1/storage/local/content/{volid}")
    assert (shown["notes"], shown["protected"]) == ("kept as it was", 1)
    assert "name: kept\n" in lab.call("GET", "/nodes/pve1/vzdump/extractconfig", volume=volid)


def test_a_restored_guest_has_a_cloud_init_drive_of_its_own(lab: Served) -> None:
    lab.call("PUT", "100/config", ide2="local:cloudinit", ciuser="me")
    volid = backup(lab)
    assert lab.done("POST", "", vmid=120, archive=volid, unique=1) == "OK"
    assert lab.call("GET", "120/config")["ide2"].startswith("local:120/vm-120-cloudinit.qcow2,media=cdrom")
    lab.call("PUT", "100/config", delete="ide2")
    assert lab.done("POST", "120/status/start") == "OK"
    assert lab.done("POST", "120/status/stop") == "OK"
    assert lab.done("DELETE", "120") == "OK"
    assert list((lab.state / "storage/local/images").glob("120/*")) == []


@pytest.mark.parametrize(("mode", "after"), [("snapshot", "running"), ("suspend", "running")])
def test_a_running_guest_goes_on(lab: Served, mode: str, after: str) -> None:
    assert lab.done("POST", "100/status/start") == "OK"
    before = lab.pid(100)
    volid = backup(lab, mode=mode)
    assert lab.call("GET", "100/status/current")["qmpstatus"] == after and lab.pid(100) == before
    assert lab.done("POST", "100/status/stop") == "OK"
    assert lab.done("POST", "", vmid=120, archive=volid, storage="local") == "OK"
    assert MARK in content(lab, 120)


def test_a_damaged_archive_is_refused_and_leaves_no_volume(lab: Served) -> None:
    volid = backup(lab)
    path = lab.state / "storage/local/dump" / volid.rpartition("/")[2]
    path.write_bytes(path.read_bytes()[:-4096])
    status = lab.done("POST", "", vmid=120, archive=volid, storage="local")
    assert "the archive is cut off" in status
    assert list((lab.state / "storage/local/images").glob("120/*")) == []


def test_a_locked_guest_is_not_backed_up_and_keeps_its_lock(lab: Served) -> None:
    conf = lab.state / "etc/nodes/pve1/qemu-server/100.conf"
    conf.write_text(conf.read_text() + "lock: snapshot\n")
    assert lab.done("POST", "/nodes/pve1/vzdump", vmid=100, storage="local") == "job errors"
    assert lab.call("GET", "100/config")["lock"] == "snapshot"
    assert archives(lab) == []


def test_retention_removes_what_it_does_not_keep(lab: Served) -> None:
    first = backup(lab)
    until(lambda: backup(lab) != first, "a backup of another second")
    plan = lab.call("GET", "/nodes/pve1/storage/local/prunebackups", **{"prune-backups": "keep-last=1"})
    assert {row["volid"]: row["mark"] for row in plan}[first] == "remove"
    newest = backup(lab, **{"prune-backups": "keep-last=1"})
    assert archives(lab) == [newest]
