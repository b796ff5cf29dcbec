# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk of a mirror that returns something else than was written: with a stand-in for ZFS."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import RUN, Package, Stands, package


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    return Stands(drill, tmp_path, monkeypatch)


# zpool, of a mirror whose disks are files: a scrub puts the second right by the first, and counts what it found.
ZPOOL = """#!{python} -S
import json, sys
from pathlib import Path
words, path = sys.argv[1:], Path({state!r})
it = json.loads(path.read_text())
one, two = map(Path, {disks!r})
block = 1 << 17


def blocks(disk):
    data = disk.read_bytes()
    return [data[at:at + block] for at in range(0, len(data), block)]


if words[0] == "scrub":
    assert words[1:] == ["-w", "tank"]
    bad = sum(a != b for a, b in zip(blocks(one), blocks(two)))
    two.write_bytes(one.read_bytes())
    it["errors"][1] += bad
    it["scrubs"] += 1
    size = f"{{bad * 128}}K" if bad else "0B"
    it["scan"] = f"scrub repaired {{size}} in 00:00:0{{it['scrubs']}} with 0 errors on Sun"
elif words[0] == "clear":
    it["errors"] = [0, 0]
elif words[0] == "list":
    print(it["health"])
elif words[:2] == ["status", "-x"]:
    print("pool 'tank' is healthy" if not sum(it["errors"]) else "  pool: tank\\n state: ONLINE")
elif words[0] == "status":
    print(f"  pool: tank\\n state: {{it['health']}}\\n  scan: {{it['scan']}}\\nconfig:\\n")
    print(it["top"])
    for disk, errors in zip((one, two), it["errors"]):
        print(f"\\t    {{disk}}  ONLINE  0  0  {{errors}}")
    print(it["more"])
elif words[0] not in ("sync", "wait"):
    sys.exit(64)
it["asked"].append(" ".join(words))
path.write_text(json.dumps(it))
"""
MIRROR = "\tNAME  STATE  READ WRITE CKSUM\n\ttank  ONLINE  0  0  0\n\t  mirror-0  ONLINE  0  0  0"
OLD = "scrub repaired 640K in 00:00:09 with 0 errors on Sat"


class Mirror:
    """The pool tank on two disks of 20 MiB, each full of what the other has, too."""

    def __init__(self, host: Stands) -> None:
        self.host, self.path = host, host.folder / "tank.json"
        self.disks = [host.folder / "disk 1".replace(" ", "-"), host.folder / "disk-2"]
        for disk in self.disks:
            disk.write_bytes(random.Random(5).randbytes(20 << 20))
        words = {"python": sys.executable, "state": str(self.path), "disks": [str(disk) for disk in self.disks]}
        host.program("zpool", ZPOOL.format(**words))
        (host.folder / "drills" / RUN).mkdir(parents=True)
        self.set(health="ONLINE", scan=OLD, errors=[0, 0], scrubs=0, top=MIRROR, more="", asked=[])

    def set(self, **values: Any) -> None:
        now = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps({**now, **values}))

    def asked(self) -> list[str]:
        """What was asked for that changes something, since this was asked last."""
        found = [
            line for line in json.loads(self.path.read_text())["asked"] if line.split()[0] not in ("status", "list")
        ]
        self.set(asked=[])
        return found

    def fault(self, kind: str = "mirror_leg_corrupt", **options: Any) -> Any:
        return self.host.fault(kind, **{"pool": "tank", "amount_mib": 2, **options})


@pytest.fixture
def mirror(host: Stands) -> Mirror:
    return Mirror(host)


BACK = ["wait -t scrub,resilver tank", "clear tank", "wait -t resilver tank", "scrub -w tank", "clear tank"]


def test_a_disk_that_returns_something_else(mirror: Mirror) -> None:
    good, bad = mirror.disks
    whole = bad.read_bytes()
    fault = mirror.fault()
    assert fault.targets == (f"2 MiB from 8 MiB on of disk {bad} of tank",)
    (look,) = fault.looks.values()
    before = look()
    assert before == [f"{good} 0 errors", f"{bad} 0 errors"]
    mirror.host.do(fault.undo)
    assert mirror.asked() == [], "a rehearsal does not scrub"
    assert [sign.test(None, 0.0) for sign in fault.signs] == [None, None], "an older scrub is none of this fault"
    mirror.host.do(fault.inject)
    assert mirror.asked() == ["sync tank", "scrub -w tank"]
    assert fault.signs[0].test(None, 0.0) == "scrub repaired 2048K in 00:00:01 with 0 errors on Sun"
    assert fault.signs[1].test(None, 0.0) == "16 checksum errors, none at another disk"
    with pytest.raises(mirror.host.drill.shell.Trouble, match="tank is not healthy: pool: tank state: ONLINE"):
        fault.whole()
    for asked in (BACK, []):
        mirror.host.do(fault.undo)
        assert mirror.asked() == asked
        assert (bad.read_bytes(), look()) == (whole, before)
    fault.whole()


def test_a_disk_that_was_damaged_and_not_looked_at_is_put_right(mirror: Mirror) -> None:
    _good, bad = mirror.disks
    whole = bad.read_bytes()
    fault = mirror.fault(offset_mib=9, amount_mib=3)
    *ahead, scrub = fault.inject.splitlines()
    assert scrub.startswith("zpool scrub")
    mirror.host.do("\n".join(ahead))
    now = bad.read_bytes()
    assert len(now) == len(whole)
    same = [now[at : at + (1 << 20)] == whole[at : at + (1 << 20)] for at in range(0, len(whole), 1 << 20)]
    assert same == [True] * 9 + [False] * 3 + [True] * 8
    mirror.host.do(fault.undo)
    assert bad.read_bytes() == whole


def test_a_damage_that_hits_nothing_is_not_seen(mirror: Mirror) -> None:
    fault = mirror.fault()
    mirror.host.do("zpool scrub -w tank")
    assert [sign.test(None, 0.0) for sign in fault.signs] == [None, None]
    mirror.set(errors=[1, 4])
    assert fault.signs[1].test(None, 0.0) is None, "both disks have errors"
    (mirror.host.systemd.programs / "zpool").write_text("#!/bin/sh\nexit 1\n")
    assert [sign.test(None, 0.0) for sign in fault.signs] == [None, None]


def test_a_disk_that_is_gone_is_not_made_anew(mirror: Mirror) -> None:
    fault = mirror.fault()
    mirror.disks[1].unlink()
    with pytest.raises(mirror.host.drill.shell.Trouble, match="ended with 1"):
        mirror.host.drill.shell.run(["/bin/sh", "-ec", fault.inject])
    assert not mirror.disks[1].exists()


def test_a_mirror_that_is_left_alone(mirror: Mirror) -> None:
    trouble, skip = mirror.host.drill.shell.Trouble, mirror.host.drill.faults.fault.Skip
    for options in ({"amount_mib": 5}, {"offset_mib": 7}):
        with pytest.raises(trouble, match=r"do not lie between the first and the last 8 MiB of .*disk-2, which has 20"):
            mirror.fault(**options)
    with pytest.raises(trouble, match=r"/dev/sdz is no disk of tank that is ONLINE; there is .*disk-1, .*disk-2"):
        mirror.fault(device="/dev/sdz")
    assert str(mirror.disks[0]) in mirror.fault(device=str(mirror.disks[0])).inject
    mirror.set(scan="scrub in progress since Sun")
    with pytest.raises(trouble, match=r"tank is at work \(scrub in progress since Sun\); wait until"):
        mirror.fault()
    mirror.set(scan="none requested", health="DEGRADED")
    with pytest.raises(trouble, match="tank is DEGRADED, so the copy that is damaged might be the only one"):
        mirror.fault()
    mirror.set(top=MIRROR.replace("  mirror-0", "  /dev/sda"))
    for kind in ("mirror_leg_corrupt", "mirror_leg_lost"):
        with pytest.raises(skip, match="tank has no second copy of anything"):
            mirror.fault(kind)


def test_a_mirror_of_logs_is_no_mirror_of_data(mirror: Mirror) -> None:
    legs = mirror.host.drill.faults.pools.legs
    mine, rows = [str(disk) for disk in mirror.disks], ["/dev/sdc  ONLINE  0  0  0", "/dev/sdd  ONLINE  0  0  0"]

    def also(name: str) -> None:
        mirror.set(more="\n".join([f"\t{name}", "\t  mirror-1  ONLINE  0  0  0", *(f"\t    {row}" for row in rows)]))

    also("logs")
    assert legs("tank") == mine
    also("special")
    assert legs("tank") == [*mine, "/dev/sdc", "/dev/sdd"]
    rows[1] = "/dev/sdd  FAULTED  0  0  0"
    also("special")
    assert legs("tank") == mine, "what is alone by now is not taken away"
