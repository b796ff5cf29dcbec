# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of guests, storage and services: what each text does to stand-ins of the host's programs, and its undo."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    Package,
    Stands,
    package,
    soon,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    return Stands(drill, tmp_path, monkeypatch)


@pytest.fixture
def qemu(drill: Package, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    (tmp_path / "103.pid").write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()


def test_a_fault_that_there_is_not(host: Stands) -> None:
    with pytest.raises(host.drill.shell.Trouble, match=r"there is no fault test; there is .*guest_hang, .*zfs_full"):
        host.fault("test")


# guests -----------------------------------------------------------------------------------------------------------


def test_a_guest_that_hangs_and_goes_on(host: Stands, qemu: subprocess.Popen[bytes]) -> None:
    fault = host.fault("guest_hang")
    assert fault.targets == (f"process {qemu.pid} of guest 103",)
    host.do(fault.undo)
    host.do(fault.inject)
    soon(lambda: host.drill.site.state(qemu.pid) == "T", "it is held")
    for _time in range(2):
        host.do(fault.undo)
        soon(lambda: host.drill.site.state(qemu.pid) == "S", "it goes on")
    (host.folder / "103.pid").unlink()
    host.do(fault.undo)


def test_a_guest_that_is_killed(host: Stands, qemu: subprocess.Popen[bytes]) -> None:
    fault = host.fault("guest_crash")
    host.do(fault.undo)
    assert qemu.poll() is None
    host.do(fault.inject)
    assert qemu.wait(10) == -signal.SIGKILL
    with pytest.raises(host.drill.shell.Trouble, match=r"guest 103 does not run on pve1 \(no process in .*start it"):
        host.fault("guest_crash")


def test_a_process_that_has_the_number_of_another_guest_is_left_alone(
    host: Stands, qemu: subprocess.Popen[bytes]
) -> None:
    fault = host.fault("guest_hang")
    host.do(fault.inject)
    soon(lambda: host.drill.site.state(qemu.pid) == "T", "it is held")
    (host.folder / "103.pid").write_text("1\n")
    host.do(fault.undo)
    assert host.drill.site.state(qemu.pid) == "T"


CUTS: tuple[tuple[str, dict[str, Any], dict[str, str], dict[str, str]], ...] = (
    ("guest_starved", {"percent": 7}, {"cpu.max": "max 100000"}, {"cpu.max": "7000 100000"}),
    ("guest_out_of_memory", {}, {"memory.max": "max"}, {"memory.max": str(16 << 20)}),
    (
        "guest_out_of_memory",
        {"limit_mib": 32},
        {"memory.max": "536870912", "memory.swap.max": "max"},
        {"memory.max": str(32 << 20), "memory.swap.max": "0"},
    ),
)


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("cut", CUTS, ids=["processor", "memory", "memory and swap"])
def test_a_guest_that_gets_less(host: Stands, monkeypatch: pytest.MonkeyPatch, cut: tuple[Any, ...]) -> None:
    kind, options, before, during = cut
    group = host.folder / "103.scope"
    group.mkdir()
    monkeypatch.setattr(host.drill.site, "cgroup", lambda _plan, _vmid: group)
    with pytest.raises(host.drill.faults.fault.Skip, match="cannot be limited by itself"):
        host.fault(kind, **options)

    def limits() -> dict[str, str]:
        return {name: (group / name).read_text().strip() for name in before}

    (group / "cpu.stat").write_text("usage_usec 5\nnr_throttled 3\n")
    for name, value in before.items():
        (group / name).write_text(f"{value}\n")
    fault = host.fault(kind, **options)
    host.do(fault.undo)
    assert limits() == before
    host.do(fault.inject)
    assert limits() == during
    for _time in range(2):
        host.do(fault.undo)
        assert limits() == before
    group.rename(host.folder / "gone")
    host.do(fault.undo)


def test_a_guest_that_the_kernel_holds_back_is_seen(
    host: Stands, monkeypatch: pytest.MonkeyPatch, qemu: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(host.drill.site, "cgroup", lambda _plan, _vmid: host.folder)
    (host.folder / "cpu.max").write_text("max 100000\n")
    stat = host.folder / "cpu.stat"
    stat.write_text("usage_usec 5\nnr_throttled 3\n")
    sign = host.fault("guest_starved").signs[1]
    stat.write_text("nr_throttled 8\n")
    assert sign.test(None, 0.0) is None
    stat.write_text("nr_throttled 40\n")
    assert sign.test(None, 0.0) == "held back 37 times"
    stat.unlink()
    assert sign.test(None, 0.0) is None


# storage ----------------------------------------------------------------------------------------------------------


def test_a_directory_that_fills_up_and_is_emptied(host: Stands) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="pvelab drill ") as name:
        path = Path(name)
        host.program("fallocate", f'#!/bin/sh\necho "$*" > {host.folder}/asked\n: > "$3"\n')
        host.program("dd", "#!/bin/sh\nexit 1\n")
        (path / "vm-103-disk-0.raw").touch()
        fault = host.fault("directory_full", path=str(path))
        host.do(fault.undo)
        host.do(fault.inject)
        assert sorted(file.name for file in path.glob("pvelab-filler*")) == ["pvelab-filler", "pvelab-filler-rest"]
        assert int((host.folder / "asked").read_text().split()[1]) > 0
        for _time in range(2):
            host.do(fault.undo)
            assert [file.name for file in path.iterdir()] == ["vm-103-disk-0.raw"]
        assert 0 <= fault.fill[str(path)]() <= 100


@pytest.mark.parametrize(("path", "why"), [("/", "which no drill fills"), ("/none/such", "is no directory")])
def test_a_directory_that_is_not_filled(host: Stands, path: str, why: str) -> None:
    with pytest.raises(host.drill.shell.Trouble, match=why):
        host.fault("directory_full", path=path)


def test_a_pool_that_has_nothing_left(host: Stands) -> None:
    made, kept = host.folder / "made", host.folder / "kept"
    host.program(
        "zfs",
        f"""#!/bin/sh
case "$*" in
*" available "*) echo 1073741824 ;;
*" refreservation "*) cat {kept} ;;
list*) [ -e {made} ] ;;
create*) echo "$*" > {made}; echo 0 > {kept} ;;
"set refreservation=1073741824 "*) exit 1 ;; # never quite all
"set refreservation="*) s="${{2#*=}}"; echo "$s" > {kept} ;;
destroy*) rm {made} ;;
esac
""",
    )
    host.program("zpool", '#!/bin/sh\n[ "$*" = "sync tank" ]\n')
    fault = host.fault("zfs_full", pool="tank/data")
    assert fault.targets == ("1024 MiB that are available in tank/data",)
    host.do(fault.undo)
    host.do(fault.inject)
    assert made.read_text() == "create -o mountpoint=none tank/data/pvelab-filler\n"
    assert int(kept.read_text()) == 1073741824 - 65536
    for _time in range(2):
        host.do(fault.undo)
        assert not made.exists()


@pytest.mark.parametrize("monitored", ["monitored", "not monitored", ""])
def test_a_thin_pool_that_fills_up_holds_back_its_writer_and_nobody_else(host: Stands, monitored: str) -> None:
    made, log, done, held = (host.folder / name for name in ("made", "log", "done", "held"))
    for name, text in {
        "lvs": f'case "$*" in *lv_size*) echo 1073741824 25.00 {monitored} ;; *) [ -e {made} ] ;; esac',
        "lvcreate": f"touch {made}",
        "lvremove": f"rm {made}",
        "lvchange": f'echo "$2 $3" >> {log}',
        # The pool is full when the writer has come so far that its write is held back.
        "dmsetup": f"""case $1 in
status) echo 0 1 thin-pool 1 2/3 4/4 - $([ -e {held} ] && echo out_of_data_space || echo rw) ;;
wipe_table) echo "$*" > {host.folder}/wiped ;;
esac""",
        "pkill": "exit 1",
        # Its write is held back by the kernel, so no signal ends it.
        "dd": f"trap '' TERM\ntouch {held}\nwhile [ ! -e {done} ]; do sleep 0.05; done\ntouch {done}.too",
    }.items():
        host.program(name, f"#!/bin/sh\n{text}\n")
    fault = host.fault("thin_pool_full", vg="fast", pool="data")
    assert fault.targets == ("768 MiB that are free in fast/data",)
    try:
        host.drill.shell.run(["/bin/sh", "-ec", fault.inject], timeout_s=10)
        assert made.exists()
    finally:
        done.touch()
        soon((host.folder / "done.too").exists, "dd has ended")
    for _time in range(2):
        host.do(fault.undo)
        assert not made.exists()
    wiped = (host.folder / "wiped").read_text()
    assert wiped == "wipe_table --force --noflush fast-pvelab--filler\n", "nothing else's writes are to fail"
    said = ["n fast/data", "y fast/data", "y fast/data"] if monitored == "monitored" else []
    assert (log.read_text().splitlines() if log.exists() else []) == said


ZPOOL = """#!/bin/sh
leg=$(cat {leg})
case "$1 $2" in
"status -P") printf '  tank ONLINE\\n   mirror-0 ONLINE\\n    /dev/sdb1  ONLINE  0\\n    /dev/sdc1  %s  0\\n' "$leg" ;;
"status tank") echo "errors: No known data errors" ;;
"list -H") [ "$leg" = ONLINE ] && echo ONLINE || echo DEGRADED ;;
"offline tank") [ "$3" = /dev/sdc1 ] && echo OFFLINE > {leg} ;;
"online tank") [ "$leg" = OFFLINE ] && echo ONLINE > {leg} ;;
esac
"""


def test_a_mirror_that_loses_a_leg_and_gets_it_back(host: Stands) -> None:
    leg = host.folder / "leg"
    leg.write_text("ONLINE\n")
    host.program("zpool", ZPOOL.format(leg=leg))
    fault = host.fault("mirror_leg_lost", pool="tank")
    host.do(fault.undo)
    fault.whole()
    assert fault.signs[0].test(None, 0.0) is None
    host.do(fault.inject)
    assert leg.read_text() == "OFFLINE\n"
    assert fault.signs[0].test(None, 0.0) == "DEGRADED"
    with pytest.raises(host.drill.shell.Trouble, match="tank is not whole yet: DEGRADED"):
        fault.whole()
    for _time in range(2):
        host.do(fault.undo)
        assert leg.read_text() == "ONLINE\n"
    fault.whole()
    leg.write_text("FAULTED\n")
    with pytest.raises(host.drill.faults.fault.Skip, match="a lost disk is a lost pool"):
        host.fault("mirror_leg_lost", pool="tank")


# services ---------------------------------------------------------------------------------------------------------


def test_services_that_are_stopped_and_started(host: Stands) -> None:
    with pytest.raises(host.drill.faults.fault.Skip, match="none of pvestatd, pvedaemon, pveproxy runs"):
        host.fault("control_plane_down")
    for name in ("pvedaemon", "pveproxy"):
        (host.systemd.state / name).write_text("LoadState=loaded\nActiveState=active\n")
    fault = host.fault("control_plane_down")
    assert fault.inject == "systemctl stop pveproxy pvedaemon"
    assert fault.undo == "systemctl start pvedaemon\nsystemctl start pveproxy", "only what ran is started again"
    host.do(fault.undo)
    host.do(fault.inject)
    before = host.drill.shell.unit("pveproxy", "ActiveState")["ActiveState"]
    assert before == "inactive"
    for _time in range(2):
        host.do(fault.undo)
        assert host.drill.shell.unit("pveproxy", "ActiveState")["ActiveState"] == "active"
