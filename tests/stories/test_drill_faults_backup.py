# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that comes back from its backup: on a node that runs, with its QEMU."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_node import (
    COPY,
    VMID,
    WRITTEN,
    World,
    do,
    looks,
    made,
    run,
)
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    FakeNode,
    Guest,
    Package,
    package,
    soon,
    wanted,
)
from ansible_collections.pvelab.proxmox.tests.lab import Lab

pytestmark = pytest.mark.release


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture
def world(drill: Package, lab: Lab, tmp_path: Path) -> Iterator[World]:
    yield from made(drill, lab, tmp_path)


# a backup ---------------------------------------------------------------------------------------------------------


def test_a_guest_comes_back_from_its_backup_and_both_are_taken_away(world: World) -> None:
    world.done(world.node.vzdump.post(vmid=VMID, storage="local", **{"notes-template": "somebody's own"}))
    (own,) = world.backups()
    soon(lambda: time.strftime("%H_%M_%S") not in own, "a backup of another second")
    fault = world.fault("backup_restore", storage="local")
    assert fault.targets == (f"a backup of guest {VMID} on local", f"a copy of it as guest {COPY}, its links down")
    made, works, kept = fault.signs[0], *fault.eased
    before = looks(fault)
    assert before == {"copy": [], "backups": [own], "locks": [f"guest {VMID} not locked"]}
    assert do(fault.undo) == "nothing was there\n"
    assert looks(fault) == before
    began = time.monotonic()
    seen = world.heard(
        {**{seq: began - 20 + seq / 10 for seq in range(1, WRITTEN + 1)}, 41: began + 300, 42: began + 500}
    )
    assert [sign.test(seen, began) for sign in (made, works, kept)] == [None, None, None]
    do(fault.inject)
    (volid,) = [name for name in world.backups() if name != own]
    assert made.test(seen, began).startswith(f"{volid}, ")
    do(fault.relief)
    copy, config = world.node.qemu(COPY).config.get(), world.node.qemu(VMID).config.get()
    assert world.node.qemu(COPY).status.current.get()["status"] == "running"
    assert (
        copy["net0"].endswith(",bridge=vmbr0,link_down=1")
        and copy["net0"].split(",")[0] != config["net0"].split(",")[0]
    )
    assert (copy["onboot"], copy["name"], copy["serial0"]) == (0, f"drill-copy-{COPY}", "socket")
    assert "link_down" not in config["net0"] and "lock" not in config
    assert works.test(seen, began) is None, "it has said nothing yet"
    with Guest(world.folder, COPY):
        assert "s (RTO), " in soon(lambda: works.test(seen, began), "the copy is heard")
    text = soon(lambda: kept.test(seen, began), "its disk is read")
    assert text.startswith(f"all {WRITTEN} that its disk can still show; its newest is {WRITTEN}, heard -")
    assert "; 0 records, " in text, "what came after the restore began is not lost with the guest"
    for _time in range(2):
        do(fault.undo)
        assert looks(fault) == before and world.guests() == [VMID] and world.backups() == [own]
    assert world.node.qemu(VMID).config.get() == config


def test_a_copy_that_lacks_a_write_is_no_good_one(world: World) -> None:
    fault = world.fault("backup_restore", storage="local")
    do(fault.inject)
    do(fault.relief)
    again = world.drill.backups.known(world.plan("test"), "restore.json")["began"]
    began = world.drill.backups.known(world.plan("test"), "backup.json")["began"]
    lacks = world.heard({40: began - 3, 41: began - 2})
    kept = fault.eased[1]
    soon(lambda: kept.test(lacks, 0.0) or lacks.events, "its disk is read")
    assert kept.test(lacks, 0.0) is None
    assert [row["text"] for row in lacks.events] == [
        f"the copy {COPY}: 1 of 2 writes from before the backup are not on the copy"
    ]
    third = (again - began) / 3
    later = world.heard({39: began - 3, 40: began + third, 41: began + 2 * third, 42: again - 0.001, 43: again + 9})
    assert kept.test(later, 0.0) == (
        f"all 1 that its disk can still show; its newest is 40, heard {third:.1f} s after the backup began; "
        f"2 records, {again - began - third:.1f} s, came after it (RPO)"
    ), fault.eased[1]
    do(fault.undo)


def test_a_whole_drill_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.unmake()
    world.make(slots=512, written=500)
    data = world.whole(monkeypatch, "backup_restore", storage="local")
    assert (data["verdict"], data["residue"]["left"]) == ("passed", []), data["because"]
    assert all(row["ok"] for row in data["states"])
    assert "(RTO)" in data["signature"][2]["evidence"] and "(RPO)" in data["signature"][3]["evidence"]
    assert data["marks"]["inject"] < data["marks"]["relief"] < data["marks"]["recover"]
    assert world.guests() == [VMID] and world.backups() == []


def test_a_guest_that_has_the_copys_number_by_now_is_left_alone(world: World) -> None:
    fault = world.fault("backup_restore", storage="local")
    do(fault.inject)
    do(fault.relief)
    world.node.qemu(COPY).config.put(description="somebody's own")
    assert f"guest {COPY} is none of this drill's by now, and is left alone" in do(fault.undo)
    assert world.guests() == [VMID, COPY] and world.backups() == []
    assert looks(fault)["copy"][0] == f"guest {COPY}", "and what is left is seen"


def test_nothing_is_restored_over_a_guest(world: World) -> None:
    fault = world.fault("backup_restore", storage="local")
    code, said = run(fault.relief)
    assert (code, said) == (2, f"drill: run {RUN} has made no backup that could be restored\n")
    do(fault.inject)
    world.done(world.node.qemu.post(vmid=COPY, memory=32))
    code, said = run(fault.relief)
    assert (code, said) == (2, f"drill: there is a guest {COPY} by now; nothing is restored over it\n")
    do(fault.undo)
    assert world.guests() == [VMID, COPY]


def test_what_was_cut_off_is_taken_away(world: World) -> None:
    """As after the host's power has failed in the middle of both: a guest of which nothing is there but its number and
    a volume, and one that is locked for its backup."""
    fault = world.fault("backup_restore", storage="local")
    before = looks(fault)
    (world.home / "backup.json").write_text(json.dumps({"vmid": VMID, "storage": "local", "began": 1.0}))
    (world.home / "restore.json").write_text(json.dumps({"vmid": COPY, "began": 2.0}))
    world.conf(COPY).write_text("lock: create\n")
    world.conf(VMID).write_text(f"lock: backup\n{world.conf(VMID).read_text()}")
    world.node.storage("local").content.post(vmid=COPY, filename=f"vm-{COPY}-disk-0.raw", size="1M")
    do(fault.undo)
    assert looks(fault) == before and world.guests() == [VMID]
    assert not list(world.home.glob("*.json")) or [path.name for path in world.home.glob("*.json")] == ["plan.json"]


def test_a_task_of_its_own_that_goes_on_is_ended_and_no_other(drill: Package, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("root@pam!drill=secret\n")
    plan = drill.plan.from_json(wanted(tmp_path))
    mine = {"type": "vzdump", "id": "103", "user": "root@pam", "tokenid": "drill"}
    rows = [
        {"upid": "UPID:mine", **mine},
        {"upid": "UPID:ended", **mine, "status": "OK"},
        {"upid": "UPID:other", **mine, "id": "104"},
        {"upid": "UPID:yours", **mine, "tokenid": "else"},
    ]

    class Node(FakeNode):
        def ask(self, method: str, path: str, _body: Any = None) -> None:
            self.done.append((method, path))
            rows.pop(0)

    node = Node(**{"/nodes/{node}/tasks": rows})
    assert drill.backups._end_tasks(plan, node, {("vzdump", 103), ("qmrestore", None)}) == ["UPID:mine ended"]
    assert node.done == [("DELETE", "/nodes/{node}/tasks/UPID:mine")]


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (
            {"net0": "virtio=02:00:00:00:00:01,bridge=vmbr0"},
            {"net0": "virtio=02:00:00:00:00:01,bridge=vmbr0,link_down=1"},
        ),
        ({"net1": "e1000=02:00:00:00:00:01,link_down=0,tag=3"}, {"net1": "e1000=02:00:00:00:00:01,tag=3,link_down=1"}),
        ({"name": "a", "netx": "b"}, {}),
    ],
)
def test_a_copy_is_cut_off(drill: Package, config: dict[str, str], changes: dict[str, str]) -> None:
    assert drill.backups.cut_off(config) == changes


def refusing(drill: Package, folder: Path, config: dict[str, Any], **more: Any) -> Any:
    """The fault, where the node answers so."""
    base = {
        "scsi0": "fast:vm-103-disk-0,size=2M",
        "ide2": "fast:x,media=cdrom,size=4M",
        "serial0": "socket",
        "memory": 16,
    }
    stores: list[dict[str, Any]] = [
        {"storage": "keeps", "content": "backup,images", "avail": 8 << 20},
        {"storage": "fast", "content": "images", "avail": 8 << 20},
        {"storage": "tight", "content": "backup", "avail": 1 << 20},
    ]
    answers: dict[str, Any] = {
        "/nodes/{node}/qemu/103/config": {key: value for key, value in {**base, **config}.items() if value},
        "/nodes/{node}/storage": stores,
        "/cluster/resources": [{"vmid": 103}, {"vmid": 9900}],
        **{f"/nodes/{{node}}/storage/{row['storage']}/content": [] for row in stores},
        **more.pop("answers", {}),
    }
    data = {**wanted(folder), "fault": {"kind": "backup_restore", "options": {"storage": "keeps", **more}}}
    return drill.faults.prepare(drill.plan.from_json(data), FakeNode(**answers))


def test_the_first_number_that_is_free_is_taken(drill: Package, tmp_path: Path) -> None:
    assert refusing(drill, tmp_path, {}).targets[1] == "a copy of it as guest 9901, its links down"
    assert " 4242" in refusing(drill, tmp_path, {}, scratch=4242, target="fast").relief


@pytest.mark.parametrize(
    ("config", "more", "why"),
    [
        ({}, {"storage": "fast"}, "storage fast keeps no backups here"),
        ({}, {"storage": "none"}, "storage none keeps no backups here"),
        ({}, {"storage": "tight"}, "storage tight has 1 MiB free, and up to 2 MiB are needed on it"),
        ({"scsi0": "fast:vm-103-disk-0,size=1T"}, {}, "up to 1048576 MiB are needed"),
        ({"memory": 1 << 30}, {}, "MiB of memory available, and a copy of the guest needs"),
        ({"hostpci0": "01:00", "usb1": "host=1"}, {}, "has hostpci0, usb1, which a copy would share"),
        ({"hookscript": "local:snippets/x"}, {}, "has hookscript, which a copy would share"),
        ({"serial0": None}, {}, "has no serial0 that is a socket"),
        ({}, {"scratch": 103}, "there is a guest 103 already; name a free number"),
        (
            {},
            {"answers": {"/cluster/resources": [{"vmid": n} for n in range(9900, 10000)]}},
            "from 9900 to 9999 is free",
        ),
        (
            {},
            {"answers": {"/nodes/{node}/storage/fast/content": [{"volid": "fast:vm-9901-disk-3"}]}},
            "volumes of an earlier guest 9901: fast:vm-9901-disk-3",
        ),
    ],
)
def test_a_guest_that_is_not_backed_up(
    drill: Package, tmp_path: Path, config: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    with pytest.raises(drill.shell.Trouble, match=why):
        refusing(drill, tmp_path, config, **more)
