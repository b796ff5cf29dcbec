# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs of a guest whose writes fail, a quota that is used up, and a disk that is slow."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_disks import prepared, program
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, Stands, ack_line, package, wanted


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    return Stands(drill, tmp_path, monkeypatch)


# signs ------------------------------------------------------------------------------------------------------------


def seen(host: Stands, *lines: str, at: float, status: str = "running", api: bool = True) -> Any:
    heard = host.drill.canary.Heard()
    for line in lines:
        heard.line(line, at)
    return SimpleNamespace(heard={103: heard}, status={103: status}, api=api)


ERROR = "canary error seq=3 boot=0a1b2c3d mono_us=5 errno=5 text=I/O error"


def test_a_guest_whose_writes_fail(host: Stands) -> None:
    now, sign = time.monotonic(), host.drill.signs.failing(103, 3.0)
    assert sign.test(seen(host, ack_line(2), ERROR, at=now), now - 1) == "its canary says: I/O error"
    assert sign.test(seen(host, ack_line(2), ERROR, at=now), now + 1) is None, "it said so before the fault"
    assert sign.test(seen(host, ack_line(2), at=now), now - 1) is None
    assert sign.test(seen(host, ack_line(2), at=now - 9), now - 8).startswith("no acknowledgement for 8")


def test_a_guest_that_is_called_running_all_the_same(host: Stands) -> None:
    now, sign = time.monotonic(), host.drill.signs.unnoticed(103, 3.0)
    assert sign.test(seen(host, ack_line(2), at=now - 9), now - 8).startswith("qmpstatus running, and no acknowledgem")
    for other in ({"at": now}, {"at": now - 9, "status": "io-error"}, {"at": now - 9, "api": False}):
        assert sign.test(seen(host, ack_line(2), **other), now - 8) is None


def test_a_guest_whose_writes_are_acknowledged_again(host: Stands) -> None:
    sign, lines = host.drill.signs.again(103), [ack_line(number) for number in (5, 6, 7)]
    assert sign.test(seen(host, *lines, at=10.0), 10.0) == "acknowledged up to 7"
    assert sign.test(seen(host, *lines, at=10.0), 10.5) is None
    assert sign.test(seen(host, *lines[:2], at=10.0), 10.0) is None


# a quota ----------------------------------------------------------------------------------------------------------

ZFS = """#!%s -S
import json, sys
from pathlib import Path
words, path = sys.argv[1:], Path(%r)
it = json.loads(path.read_text())


def used():
    return it["used"] + max(it["kept"].values(), default=0)


def value(name, of):
    if name == "used":
        return used()
    if name == "available":
        return max(0, it["quota"] - used()) if it["quota"] else 10**12
    if name == "quota":
        return it["quota"]
    return it["reserved"] if "vm-" in of else it["kept"][of]


code = 0
if Path(sys.argv[0]).name == "zpool":
    # What was under way goes on changing what is used for a while.
    if any(it["kept"].values()) and it["moves"]:
        it["used"] += it["moves"].pop()
elif words[0] == "get":
    print(*(value(name, words[-1]) for name in words[3].split(",")))
elif words[0] == "list":
    code = words[-1] not in it["kept"]
elif words[0] == "create":
    assert words[1:3] == ["-o", "mountpoint=none"]
    it["kept"][words[3]] = 0
elif words[0] == "destroy":
    del it["kept"][words[1]]
elif words[1].startswith("quota="):
    number = int(words[1][6:].replace("none", "0"))
    it["log"].append(words[1])
    if number and (number < used() or it["stubborn"]):
        code = 1
    else:
        it["quota"] = number
else:
    more = int(words[1].removeprefix("refreservation=")) - it["kept"][words[2]]
    if more > value("available", words[2]):
        code = 1
    else:
        it["kept"][words[2]] += more
path.write_text(json.dumps(it))
sys.exit(code)
"""
TANK = {"type": "zfspool", "pool": "tank/guests"}
DISKS = {101: "vm-101-disk-0", 103: "vm-103-disk-0"}
START = {"used": 5000000, "quota": 0, "kept": {}, "reserved": 0, "log": [], "stubborn": False, "moves": [0, 0]}


class Tank:
    """A pool with the data set tank/guests, in a file that stands for it."""

    def __init__(self, host: Stands) -> None:
        self.host, self.path = host, host.folder / "tank.json"
        program(host)
        for name in ("zfs", "zpool"):
            host.program(name, ZFS % (sys.executable, str(self.path)))
        # Guest 101 is elsewhere.
        (host.folder / "images/101").mkdir(parents=True)
        self.set(**START)

    def set(self, **values: Any) -> None:
        now = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps({**now, **values}))

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found

    def fault(self, dataset: str = "tank/guests") -> Any:
        return prepared(self.host, "quota_full", {103: "vm-103-disk-0"}, TANK, dataset=dataset)


@pytest.fixture
def tank(host: Stands) -> Tank:
    return Tank(host)


@pytest.mark.parametrize("before", [0, 10**11])
def test_a_quota_that_is_used_up(tank: Tank, before: int) -> None:
    # Twice something is given back when it seemed to be full already.
    tank.set(quota=before, moves=[-16384, 0, -16384, 0])
    fault = tank.fault()
    assert fault.targets == (f"quota of tank/guests, which is {before or 'none'}",)
    state = fault.looks["quotas"]()
    assert state == [f"tank/guests {before}"]
    tank.host.do(fault.undo)
    assert (tank.get()["log"], fault.looks["quotas"]()) == ([], state), "what is right is not set again"
    tank.host.do(fault.inject)
    now = tank.get()
    kept = now["kept"]["tank/guests/pvelab-filler"]
    assert (now["used"] + kept, now["moves"]) == (now["quota"], [])
    assert fault.fill["zfs tank/guests"]() == 100
    for _time in range(2):
        tank.host.do(fault.undo)
        assert (tank.get()["quota"], tank.get()["kept"]) == (before, {})
    assert fault.looks["quotas"]() == state
    assert [sign.name for sign in fault.signs] == [
        "writes of guest 103 fail",
        "the node calls guest 103 running all the same",
    ]


def test_a_quota_that_moves_too_fast_is_set_higher(tank: Tank) -> None:
    fault = tank.fault()
    tank.set(quota=0, moves=[])
    tank.host.do(fault.inject.replace("for more in", "for more in -5000 -4000"))
    assert len(tank.get()["log"]) == 3
    tank.host.do(fault.undo)


def test_a_quota_that_is_never_used_up_is_no_fault(tank: Tank) -> None:
    fault = tank.fault()
    tank.set(stubborn=True)
    with pytest.raises(tank.host.drill.shell.Trouble, match=" ended with 1"):
        tank.host.drill.shell.run(["/bin/sh", "-ec", fault.inject.replace("seq 30", "seq 2")])
    tank.host.do(fault.undo)
    assert tank.get()["kept"] == {}


def test_a_quota_that_would_hit_others_or_nobody(tank: Tank) -> None:
    trouble = tank.host.drill.shell.Trouble
    with pytest.raises(trouble, match="the disk of guest 103 does not lie below tank/other; name exactly those"):
        tank.fault("tank/other")
    with pytest.raises(trouble, match="the disk of guest 101 lies below tank; name exactly those that do as victims"):
        prepared(tank.host, "quota_full", DISKS, TANK, dataset="tank")
    tank.set(reserved=1 << 30)
    with pytest.raises(tank.host.drill.faults.fault.Skip, match="tank/guests/vm-103-disk-0 has reserved all"):
        tank.fault()


# a slow disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def group(host: Stands, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group of guest 103, whose disk is on 254:16."""
    made = host.folder / "103.scope"
    made.mkdir()
    (made / "io.pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=500\nfull avg10=0.00 total=400\n")
    monkeypatch.setattr(host.drill.site, "cgroup", lambda _plan, _vmid: made)
    monkeypatch.setattr(host.drill.site, "CGROUPS", host.folder)
    monkeypatch.setattr(host.drill.site, "held_by", lambda _path: "254:16")
    (host.folder / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    program(host)
    return made


FILES = {"type": "dir", "path": "/srv/files"}
FREE = "254:16 rbps=max wbps=max riops=max wiops=max"


def slow(host: Stands, **options: Any) -> Any:
    return prepared(host, "storage_slow", {103: "103/disk.raw"}, FILES, **options)


@pytest.mark.parametrize("before", [FREE, "8:0 rbps=max\n254:16 rbps=5 wbps=max riops=7 wiops=max"])
def test_a_disk_that_is_slow(host: Stands, group: Path, before: str) -> None:
    limit = group / "io.max"
    limit.write_text(f"{before}\n")
    fault = slow(host, iops=4)
    host.do(fault.undo)
    assert limit.read_text().strip() == before.splitlines()[-1]
    host.do(fault.inject)
    assert limit.read_text() == "254:16 riops=4 wiops=4\n"
    for _time in range(2):
        host.do(fault.undo)
        assert limit.read_text().strip() == before.splitlines()[-1]
    limit.unlink()
    host.do(fault.undo)
    assert not limit.exists(), "a guest that is gone has taken its limit along"
    assert (fault.outage, fault.targets[0].endswith("103, 4 reads and 4 writes a second on 254:16")) == (False, True)
    assert fault.signs[0].name == "writes of guest 103 take 3 times as long"


def test_a_group_without_the_controller_is_given_it_for_a_while(host: Stands, group: Path) -> None:
    limit = group / "io.max"
    host.program(
        "systemctl",
        f"""#!/bin/sh
echo "$*" >> {host.folder}/asked
case "$*" in
*IOAccounting=yes) (sleep 0.2; : > {limit}) >/dev/null 2>&1 & ;;
*IOAccounting=no) rm -f {limit} ;;
"--quiet is-active 103.scope") [ -d {group} ] ;;
esac
""",
    )
    fault = slow(host)
    host.do(fault.inject)
    assert limit.read_text() == "254:16 riops=3 wiops=3\n"
    for _time in range(2):
        host.do(fault.undo)
        assert not limit.exists()
    asked = (host.folder / "asked").read_text().splitlines()
    no = ["--quiet is-active 103.scope", "set-property --runtime 103.scope IOAccounting=no"]
    assert asked == ["set-property --runtime 103.scope IOAccounting=yes", *no, *no]
    group.rename(host.folder / "gone")
    host.do(fault.undo)
    assert (host.folder / "asked").read_text().splitlines()[5:] == no[:1]


def test_a_disk_that_cannot_be_made_slow(host: Stands, group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip = host.drill.faults.fault.Skip
    (host.folder / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    with pytest.raises(skip, match=f"{group} has no io controller"):
        slow(host)
    with pytest.raises(skip, match="/dev/zvol/tank/guests/vm-103-disk-0 lies on no block device"):
        prepared(host, "storage_slow", DISKS, TANK)
    monkeypatch.setattr(host.drill.site, "held_by", lambda _path: None)
    with pytest.raises(skip, match=r"/srv/files/images/103/disk\.raw lies on no block device"):
        slow(host)


def test_processes_that_wait_for_their_disk(host: Stands, group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(host.drill.clock, "now", lambda: now[0])

    def at(seconds: float, waited_us: int) -> str | None:
        now[0] = seconds
        (group / "io.pressure").write_text(f"some avg10=9.00 total={waited_us}\nfull avg10=9.00 total=1\n")
        found: str | None = sign.test(None, 100.0)
        return found

    (group / "io.pressure").write_text("some total=1000000\nfull total=1\n")
    sign = host.drill.faults.storage.waiting(103, group / "io.pressure")
    assert [at(110, 2000000), at(112, 4000000)] == [None, None]
    assert at(113, 2600000) is None, "a fifth of the time is no more than twice what is usual"
    assert at(114, 4000000) == "50 % of the time instead of 10 %"
    (group / "io.pressure").unlink()
    idle = host.drill.faults.storage.waiting(103, group / "io.pressure")
    assert [idle.test(None, 0.0) for now[0] in (120.0, 130.0)] == [None, None]


def test_what_holds_a_disk(host: Stands, monkeypatch: pytest.MonkeyPatch) -> None:
    held_by, disk = host.drill.site.held_by, host.folder / "disk.raw"
    disk.touch()
    number = disk.stat().st_dev
    monkeypatch.setattr(host.drill.site, "BLOCK", host.folder / "block")
    (host.folder / "block").mkdir()
    assert held_by(disk) is None
    devices = host.folder / "devices/sdb/sdb1"
    devices.mkdir(parents=True)
    (devices / "dev").write_text("8:17\n")
    (devices.parent / "dev").write_text("8:16\n")
    (host.folder / f"block/{os.major(number)}:{os.minor(number)}").symlink_to(devices)
    assert held_by(disk) == "8:17"
    (devices / "partition").write_text("1\n")
    assert held_by(disk) == "8:16"
    (host.folder / "block/1:3").symlink_to(devices.parent)
    with pytest.raises(
        host.drill.shell.Trouble, match="is to be a guest's disk, and cannot be looked at: No such file"
    ):
        held_by(host.folder / "none")


def test_a_controller_that_limits_nothing_is_no_residue(host: Stands, group: Path) -> None:
    (host.folder / "103.pid").write_text(f"{os.getpid()}\n")
    plan = host.drill.plan.from_json({**wanted(host.folder), "bystanders": []})
    (group / "cpu.max").write_text("max 100000\n")
    before = host.drill.residue._limits(plan)
    (group / "io.max").write_text("")
    assert host.drill.residue._limits(plan) == before == ["103 cpu.max max 100000"]
    (group / "io.max").write_text("254:16 rbps=max wbps=max riops=3 wiops=3\n")
    assert host.drill.residue._limits(plan)[1:] == ["103 io.max 254:16 rbps=max wbps=max riops=3 wiops=3"]
