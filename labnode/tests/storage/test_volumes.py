# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on a directory with the real qemu-img: made, cloned, snapshot, removed, and what a kill leaves."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile

import pytest

from labnode.errors import ApiError
from labnode.storage import StorageService
from labnode.storage.journal import FILE
from labnode.store import Store

MIB = 1 << 20


@pytest.fixture
async def storage(tmp_path):
    service = StorageService(Store(tmp_path / "state"), "pve1")
    await service.start()
    return service


def pattern(storage, volid: str) -> bytes:
    """The first bytes of a volume's content, whatever its format."""
    volume = storage.parse(volid)
    out = storage.store.root / "content.raw"
    argv = ["qemu-img", "convert", "-f", volume.fmt, "-O", "raw", storage.path(volid), out]
    subprocess.run(argv, check=True)
    return out.read_bytes()[:4]


def fill(storage, volid: str, text: bytes) -> None:
    """Write the first bytes of a volume."""
    fmt = storage.parse(volid).fmt
    argv = ["qemu-io", "-f", fmt, "-c", f"write -P {text[0]} 0 64k", str(storage.path(volid))]
    subprocess.run(argv, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("fmt", "path"),
    [("qcow2", "100/vm-100-disk-0.qcow2"), (None, "100/vm-100-disk-0.raw"), ("vmdk", "100/vm-100-disk-0.vmdk")],
)
async def test_alloc(storage, fmt, path):
    volid = await storage.alloc("local", 100, fmt, 8 * MIB)
    assert volid == f"local:{path}"
    info = await storage.info(volid)
    assert info.size == 8 * MIB and info.used < MIB
    assert [(item["volid"], item["vmid"]) for item in await storage.list("local", "images")] == [(volid, 100)]
    await storage.free(volid)
    assert not await storage.exists(volid)
    await storage.free(volid)
    assert not storage.path(volid).parent.exists()
    with pytest.raises(ApiError, match=f"volume '{volid}' does not exist"):
        await storage.info(volid)


async def test_numbers_are_used_again_and_never_twice(storage):
    made = await asyncio.gather(*(storage.alloc("local", 100, "raw", MIB) for _ in range(5)))
    assert sorted(made) == [f"local:100/vm-100-disk-{n}.raw" for n in range(5)]
    await storage.free("local:100/vm-100-disk-2.raw")
    assert await storage.alloc("local", 100, "qcow2", MIB) == "local:100/vm-100-disk-2.qcow2"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vm-101-disk-0.raw", "illegal name"),
        ("vm-100-disk-0.qcow2", "wrong extension"),
        ("x.raw", "illegal name"),
        ("../vm-100-a.raw", "illegal name"),
    ],
)
async def test_names_that_are_refused(storage, name, text):
    with pytest.raises(ApiError, match=text):
        await storage.alloc("local", 100, "raw", MIB, name=name)


async def test_a_taken_name_a_wrong_format_and_a_full_storage(storage):
    await storage.alloc("local", 100, "raw", MIB, name="vm-100-a.raw")
    with pytest.raises(ApiError, match="already exists"):
        await storage.alloc("local", 100, "raw", MIB, name="vm-100-a.raw")
    with pytest.raises(ApiError, match="unsupported format 'subvol'"):
        await storage.alloc("local", 100, "subvol", MIB)
    with pytest.raises(ApiError, match="unable to create image: qemu-img"):
        await storage.alloc("local", 102, "raw", 1 << 62)
    assert not storage.path("local:102/vm-102-disk-0.raw").parent.exists()


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
async def test_full_clones_are_copies(storage, fmt):
    source = await storage.alloc("local", 100, "qcow2", 4 * MIB)
    fill(storage, source, b"A")
    log: list[str] = []
    copy = await storage.clone_full(source, "local", 101, fmt, size=6 * MIB, log=log.append)
    fill(storage, source, b"B")
    assert pattern(storage, copy) == b"AAAA"
    assert (await storage.info(copy)).size == 6 * MIB
    assert log[-1] == "transferred 4.0 MiB of 4.0 MiB (100.00%)"


async def test_linked_clones_stand_on_a_base(storage):
    disk = await storage.alloc("local", 100, "qcow2", 4 * MIB)
    fill(storage, disk, b"A")
    with pytest.raises(ApiError, match="only works on base images"):
        await storage.clone_linked(disk, 101)
    base = await storage.make_base(disk)
    assert base == "local:100/base-100-disk-0.qcow2" and not await storage.exists(disk)
    clone = await storage.clone_linked(base, 101)
    assert clone == "local:100/base-100-disk-0.qcow2/101/vm-101-disk-0.qcow2"
    assert pattern(storage, clone) == b"AAAA"
    fill(storage, clone, b"B")
    assert pattern(storage, base) == b"AAAA"
    assert storage.feature(base, "clone") and not storage.feature(clone, "clone")
    with pytest.raises(ApiError, match=f"base volume '{base}' is still in use by linked cloned"):
        await storage.free(base)
    assert await storage.owned_by(101) == [clone]
    await storage.free(clone)
    await storage.free(base)
    assert await storage.list("local", "images") == []


async def test_snapshots_of_an_image(storage):
    disk = await storage.alloc("local", 100, "qcow2", 4 * MIB)
    fill(storage, disk, b"A")
    await storage.snapshot(disk, "one")
    fill(storage, disk, b"B")
    await storage.snapshot(disk, "two")
    assert await storage.snapshots(disk) == ["one", "two"]
    old = await storage.clone_full(disk, "local", 101, "raw", snap="one")
    assert (pattern(storage, old), pattern(storage, disk)) == (b"AAAA", b"BBBB")
    await storage.rollback_is_possible(disk, "one")
    await storage.snapshot_rollback(disk, "one")
    assert pattern(storage, disk) == b"AAAA"
    await storage.snapshot_delete(disk, "one")
    await storage.snapshot_delete(disk, "one")
    assert await storage.snapshots(disk) == ["two"]
    with pytest.raises(ApiError, match="snapshot 'one' of volume"):
        await storage.snapshot_rollback(disk, "one")


async def test_a_volume_changes_hands(storage):
    disk = await storage.alloc("local", 100, "qcow2", MIB)
    moved = await storage.rename(disk, 101)
    assert moved == "local:101/vm-101-disk-0.qcow2"
    await storage.resize(moved, 3 * MIB)
    assert (await storage.info(moved)).size == 3 * MIB
    assert await storage.owned_by(100) == []


async def test_an_ova_is_unpacked(storage):
    folder = storage.store.path("storage/local/import")
    await storage.activate("local")
    image = storage.store.root / "disk.vmdk"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized", image, "4M"], check=True
    )
    with tarfile.open(folder / "app.ova", "w") as archive:
        info = tarfile.TarInfo("app.ovf")
        archive.addfile(info, io.BytesIO(b""))
        archive.add(image, "disk.vmdk")
    volid = await storage.clone_full("local:import/app.ova/disk.vmdk", "local", 100, "qcow2")
    assert (await storage.info(volid)).size == 4 * MIB
    with pytest.raises(ApiError, match=r"archive 'app.ova' has no image 'other.vmdk'"):
        await storage.clone_full("local:import/app.ova/other.vmdk", "local", 100)


async def test_an_image_that_points_elsewhere_is_refused(storage):
    secret = storage.store.root / "secret"
    await storage.activate("local")
    secret.write_bytes(bytes(MIB))
    path = storage.path("local:import/evil.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, path], check=True)
    with pytest.raises(ApiError, match=r"image 'evil.qcow2' refers to another file"):
        await storage.clone_full("local:import/evil.qcow2", "local", 100)
    assert await storage.list("local", "images") == []


@pytest.mark.parametrize(
    "volid", ["local:iso/../../etc/passwd", "local:100/../x.raw", "local:snippets/..", "nocolon", "local:"]
)
def test_ids_that_lead_elsewhere(storage, volid):
    with pytest.raises(ApiError, match="unable to parse"):
        storage.path(volid)


async def test_a_cancelled_copy_leaves_no_volume(storage):
    source = await storage.alloc("local", 100, "raw", 1 << 30)
    with storage.path(source).open("r+b") as file:
        file.write(bytes(range(256)) * 4096)
    started = asyncio.Event()
    task = asyncio.create_task(storage.clone_full(source, "local", 101, "qcow2", log=lambda _line: started.set()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.owned_by(101) == []


async def test_what_a_kill_leaves_is_cleared_up(storage, tmp_path):
    lost = await storage.alloc("local", 100, "raw", MIB)
    used = await storage.alloc("local", 100, "raw", MIB)
    kept = await storage.alloc("local", 100, "raw", MIB)
    storage.keep(kept)
    assert lost in storage.store.read(FILE)
    config = storage.store.path("etc/nodes/pve1/qemu-server/100.conf")
    config.parent.mkdir(parents=True)
    config.write_text(f"scsi0: {used},size=1M\n")
    half = storage.path(lost).with_name(".vm-100-disk-9.raw.unfinished")
    half.write_bytes(b"half")
    again = StorageService(Store(tmp_path / "state"), "pve1")
    await again.start()
    assert await again.owned_by(100) == [used, kept]
    assert not half.exists()
    assert again.journal.entries() == []


async def test_work_that_ended_needs_no_clearing_up(storage):
    await asyncio.create_task(storage.alloc("local", 100, "raw", MIB))
    await asyncio.sleep(0)
    assert storage.journal.entries() == []
