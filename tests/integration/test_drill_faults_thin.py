# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin pool without metadata: with a stand-in for the kernel, and with stand-ins for LVM."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_disks import prepared, program
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import RUN, Package, Stands, package


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    return Stands(drill, tmp_path, monkeypatch)


LEDGER = f"drills/{RUN}/thin-devices"

# a thin pool's metadata -------------------------------------------------------------------------------------------


class Kernel:
    """dm-thin as far as its messages go: each one that does something is committed, and a commit that finds nothing
    free but the reserve makes the pool read-only. ``flushes``: so often a guest's flush comes in first."""

    def __init__(self, drill: Package, patch: pytest.MonkeyPatch, total: int = 400) -> None:
        self.drill, self.total, self.mode, self.needs_check = drill, total, "rw", ""
        self.devices, self.loaded, self.flushes, self.renewed, self.refuses = {1, 2, 3}, False, 0, 0, 0
        patch.setattr(drill.thin.Pool, "_ask", self.ask)
        patch.setattr(drill.thin.shell, "run", self.run)

    @property
    def free(self) -> int:
        return self.total - 20 - len(self.devices)

    def commit(self) -> None:
        if self.free <= self.total // 10:
            self.mode = "ro"

    def ask(self, request: int, data: bytes) -> int:
        if request == self.drill.thin.DEV_SUSPEND:
            assert self.loaded, "nothing would change"
            self.loaded, self.mode, self.renewed = False, self.mode if self.needs_check else "rw", self.renewed + 1
            return 0
        if self.flushes:
            self.flushes -= 1
            self.commit()
        if self.mode == "ro":
            return errno.EOPNOTSUPP
        verb, number = data[8:-1].decode().split()
        return self.refuses or self.do(verb, int(number))

    def do(self, verb: str, number: int) -> int:
        if (verb == "delete") != (number in self.devices):
            return errno.ENODATA if verb == "delete" else errno.EEXIST
        self.devices ^= {number}
        self.commit()
        return 0

    def run(self, argv: list[str], **_more: Any) -> str:
        if argv[:2] == ["dmsetup", "status"]:
            used = min(self.total - self.free + self.total // 10, self.total)
            return f"0 64 thin-pool 7 {used}/{self.total} 2/9 - {self.mode} queue_if_no_space {self.needs_check} 1024\n"
        if argv[:2] == ["dmsetup", "table"]:
            return "0 64 thin-pool 253:1 253:2 128 0 1 skip_block_zeroing\n"
        assert argv == ["dmsetup", "load", "p", "--table", "0 64 thin-pool 253:1 253:2 128 0 1 skip_block_zeroing"]
        self.loaded = True
        return ""


@pytest.fixture
def kernel(drill: Package, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(drill, monkeypatch)


def test_metadata_that_is_used_up_and_given_back(kernel: Kernel, tmp_path: Path) -> None:
    thin, ledger = kernel.drill.thin, tmp_path / "ledger"
    assert thin.main("drain", "p", str(ledger)) == 0
    assert kernel.renewed == 0, "a rehearsal touches nothing"
    assert thin.main("fill", "p", str(ledger)) == 0
    assert (kernel.mode, ledger.read_text()) == ("ro", f"8000000 {8000000 + len(kernel.devices) - 3}\n")
    kernel.flushes = 5
    for _time in range(2):
        assert thin.main("drain", "p", str(ledger)) == 0
        assert (kernel.mode, kernel.devices, ledger.exists()) == ("rw", {1, 2, 3}, False)
    assert 0 < kernel.renewed < 10


@pytest.mark.parametrize("made", [0, 1, 64, 70, 130])
def test_what_was_interrupted_is_taken_back_whole(kernel: Kernel, tmp_path: Path, made: int) -> None:
    thin, ledger = kernel.drill.thin, tmp_path / "ledger"
    real = kernel.do

    def killed(verb: str, number: int) -> int:
        if len(kernel.devices) == 3 + made:
            raise KeyboardInterrupt
        return real(verb, number)

    kernel.do = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        thin.fill(thin.Pool("p"), ledger)
    assert len(kernel.devices) == 3 + made
    kernel.do = real  # type: ignore[method-assign]
    thin.drain(thin.Pool("p"), ledger)
    assert (kernel.devices, ledger.exists()) == ({1, 2, 3}, False)


def test_a_drain_that_was_interrupted_goes_on(kernel: Kernel, tmp_path: Path) -> None:
    thin, ledger = kernel.drill.thin, tmp_path / "ledger"
    thin.fill(thin.Pool("p"), ledger)
    kernel.refuses = errno.EIO
    assert thin.main("drain", "p", str(ledger)) == 2
    assert ledger.exists()
    kernel.refuses = 0
    for number in range(8000200, 8000400):
        kernel.devices.discard(number)
    thin.drain(thin.Pool("p"), ledger)
    assert (kernel.devices, kernel.mode) == ({1, 2, 3}, "rw")


def test_a_pool_that_has_its_metadata_back_is_made_writable(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("8000000 8000000\n")
    kernel.mode = "ro"
    assert kernel.drill.thin.main("drain", "p", str(tmp_path / "ledger")) == 0
    assert (kernel.mode, kernel.renewed) == ("rw", 1)


def test_a_pool_that_is_not_as_it_is_thought_to_be(
    kernel: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thin, ledger = kernel.drill.thin, str(tmp_path / "ledger")
    kernel.devices.add(8000001)
    assert thin.main("fill", "p", ledger) == 2
    assert "p does not make the thin device 8000001: File exists" in capsys.readouterr().err
    assert thin.main("drain", "p", ledger) == 0
    kernel.commit = lambda: None  # type: ignore[method-assign]
    assert thin.main("fill", "p", ledger) == 2
    assert "has no metadata left, and is not read-only for that, but rw" in capsys.readouterr().err
    kernel.mode, kernel.needs_check = "ro", "needs_check"
    assert thin.main("drain", "p", ledger) == 2
    assert "Operation not supported; it is ro needs_check" in capsys.readouterr().err
    assert kernel.renewed == 0
    kernel.devices, kernel.needs_check, kernel.refuses = {1, 2, 3}, "", 0
    kernel.commit = lambda: setattr(kernel, "mode", "ro")  # type: ignore[method-assign]
    kernel.flushes = 10**6
    assert thin.main("drain", "p", ledger) == 2
    assert kernel.renewed == 20, "it is not tried without end"


def test_what_the_kernel_is_asked(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bytes]] = []

    def ioctl(_file: Any, request: int, buffer: bytearray, mutate: bool) -> int:
        assert mutate
        asked.append((request, bytes(buffer)))
        if request == 0xC138FD06:
            raise OSError(errno.ENXIO, "gone")
        return 0

    (tmp_path / "control").write_bytes(b"")
    monkeypatch.setattr(drill.thin, "CONTROL", tmp_path / "control")
    monkeypatch.setattr(drill.thin.fcntl, "ioctl", ioctl)
    monkeypatch.setattr(drill.thin.shell, "run", lambda *_words: "0 8 thin-pool\n")
    pool = drill.thin.Pool("fast-data-tpool")
    assert pool.message("create_thin 8000000") == 0
    ((request, data),) = asked
    # _IOWR(0xfd, 14, struct dm_ioctl), and where linux/dm-ioctl.h has its parts
    assert (request, len(data)) == (3 << 30 | 312 << 16 | 0xFD << 8 | 14, 312 + 8 + len("create_thin 8000000") + 1)
    assert struct.unpack_from("=3III", data) == (4, 0, 0, len(data), 312)
    assert data[20:48] == bytes(28)
    assert data[48:176].rstrip(b"\0") == b"fast-data-tpool"
    assert data[176:312] == bytes(136)
    assert data[312:] == bytes(8) + b"create_thin 8000000\0"
    with pytest.raises(drill.shell.Trouble, match="could not be put in place: No such device or address"):
        pool.renew()
    assert (asked[1][0], len(asked[1][1])) == (3 << 30 | 312 << 16 | 0xFD << 8 | 6, 312)


TPOOL = "0 6291456 thin-pool 7 {used}/4096 25/49152 - {mode} discard_passdown queue_if_no_space - 1024"
# What stands for the module of that name: it notes what it was told, and whether it can is said by a file.
THIN = """\
import pathlib, sys
here = pathlib.Path(__file__).parent.parent.parent
with open(here / "log", "a") as log:
    print("thin", *sys.argv[1:3], file=log)
assert sys.argv[3] == str(here / "%s"), sys.argv
grown = (here / "grown").exists() or not (here / "stubborn").exists()
sys.exit(0 if sys.argv[1] == "fill" or grown else 2)
"""


@pytest.fixture
def lvm(host: Stands) -> Stands:
    """A volume group with a thin pool, whose disk of guest 103 is a volume."""
    log = host.folder / "log"
    program(host, thin=THIN % LEDGER)
    (host.folder / "status").write_text(TPOOL.format(used=300, mode="rw") + "\n")
    (host.folder / "monitor").write_text("monitored\n")
    for name, text in {
        "lvs": f"""case "$*" in
*seg_monitor*) cat {host.folder}/monitor ;;
*pool_lv*) case $4 in */vm-103-disk-0) echo data ;; *) echo other ;; esac ;;
*) [ -e {host.folder}/made.${{1##*/}} ] ;;
esac""",
        "lvcreate": f'shift 4; echo "lvcreate $*" >> {log}; touch {host.folder}/made.$1',
        "lvremove": f'echo "lvremove $3" >> {log}; rm {host.folder}/made.${{3##*/}}',
        "lvchange": f'echo "lvchange $*" >> {log}',
        "lvextend": f'shift 3; echo "lvextend $*" >> {log}; touch {host.folder}/grown',
        "dmsetup": f"case $2 in fast-data-tpool | fast-da--ta-tpool) cat {host.folder}/status ;; *) exit 1 ;; esac",
    }.items():
        host.program(name, f"#!/bin/sh\n{text}\n")
    return host


LVM = {"type": "lvmthin", "vgname": "fast"}
DISKS = {101: "vm-101-disk-0", 103: "vm-103-disk-0"}


def thin_fault(lvm: Stands, **options: Any) -> Any:
    return prepared(lvm, "thin_metadata_full", DISKS, LVM, **{"vg": "fast", "pool": "data", **options})


def logged(host: Stands) -> list[str]:
    """What was done since this was asked last."""
    log = host.folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_a_thin_pool_without_metadata(lvm: Stands) -> None:
    fault = thin_fault(lvm)
    assert fault.targets == ("3796 free blocks of metadata of fast/data", "a snapshot of fast/vm-103-disk-0")
    assert fault.looks["thin pools"]() == ["fast/data rw"]
    assert fault.fill["metadata of thin fast/data"]() == pytest.approx(7.32, abs=0.01)
    assert (fault.outage, fault.relief, fault.eased) == (True, "", ())
    lvm.do(fault.undo)
    assert logged(lvm) == ["thin drain fast-data-tpool", "lvchange --monitor y fast/data"]
    lvm.do(fault.inject)
    snapshot = "lvcreate pvelab-filler-103 fast/vm-103-disk-0"
    assert logged(lvm) == [snapshot, "lvchange --monitor n fast/data", "thin fill fast-data-tpool"]
    (lvm.folder / "status").write_text(TPOOL.format(used=4096, mode="ro") + "\n")
    assert fault.fill["metadata of thin fast/data"]() == 100
    with pytest.raises(lvm.drill.shell.Trouble, match=r"fast/data is ro; give it more metadata \(lvextend --poolmeta"):
        fault.whole()
    for gone in ("lvremove fast/pvelab-filler-103", None):
        lvm.do(fault.undo)
        between = [gone] if gone else []
        assert logged(lvm) == ["thin drain fast-data-tpool", *between, "lvchange --monitor y fast/data"]
    (lvm.folder / "status").write_text(TPOOL.format(used=300, mode="rw") + "\n")
    fault.whole()


def test_a_thin_pool_whose_kernel_says_so(lvm: Stands) -> None:
    sign = thin_fault(lvm).signs[0]
    line = "device-mapper: thin: 253:5: switching pool to read-only mode"
    assert sign.test(SimpleNamespace(kernel=[(10.0, line)]), 10.0) == line
    assert sign.test(SimpleNamespace(kernel=[(10.0, line)]), 20.0) is None
    other = line.replace("read-only", "out-of-data-space (queue IO)")
    assert sign.test(SimpleNamespace(kernel=[(10.0, other)]), 10.0) is None


def test_a_thin_pool_that_only_more_metadata_helps(lvm: Stands) -> None:
    (lvm.folder / "stubborn").touch()
    (lvm.folder / "monitor").write_text("not monitored\n")
    fault = thin_fault(lvm)
    lvm.do(fault.inject)
    assert "lvchange" not in " ".join(logged(lvm))
    lvm.do(fault.undo)
    drain = "thin drain fast-data-tpool"
    assert logged(lvm) == [drain, "lvextend --poolmetadatasize +4m fast/data", drain, "lvremove fast/pvelab-filler-103"]


def test_metadata_is_added_where_that_is_asked_for(lvm: Stands) -> None:
    fault = thin_fault(lvm, extend_mib=8)
    lvm.do(fault.relief)
    assert logged(lvm) == ["lvextend --poolmetadatasize +8m fast/data"]
    assert [sign.name for sign in fault.eased] == ["writes of guest 103 are acknowledged again"]


def test_a_thin_pool_that_is_left_alone(lvm: Stands) -> None:
    trouble, skip = lvm.drill.shell.Trouble, lvm.drill.faults.fault.Skip
    assert thin_fault(lvm, pool="data")
    with pytest.raises(trouble, match="the disk of guest 103 is in the thin pool data, and not in da-ta"):
        thin_fault(lvm, pool="da-ta")
    with pytest.raises(trouble, match="the disk of guest 103 is /dev/slow/vm-103-disk-0, and not in fast"):
        prepared(lvm, "thin_metadata_full", DISKS, {**LVM, "vgname": "slow"}, vg="fast", pool="data")
    (lvm.folder / "status").write_text(TPOOL.format(used=300, mode="ro") + "\n")
    with pytest.raises(trouble, match="the thin pool fast/data is ro; have it writable first"):
        thin_fault(lvm)
    (lvm.folder / "status").write_text(TPOOL.replace("4096", "40960").format(used=300, mode="rw") + "\n")
    with pytest.raises(skip, match="fast/data has 40660 free blocks of metadata"):
        thin_fault(lvm)
