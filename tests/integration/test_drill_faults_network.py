# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's port: what each text does to a bridge that is none, and that its undo leaves no trace."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_net import BRIDGE, IP, TC
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import FakeNode, Package, Stands, package, wanted

TAP = "tap103i0"
PU = ["PVID", "Egress Untagged"]
# A port's VLANs as `bridge -j vlan show` has them.
TABLES: dict[str, list[dict[str, Any]]] = {
    "of a new port": [{"vlan": 1, "flags": PU}],
    "of an access port": [{"vlan": 10, "flags": PU}],
    "of a trunk": [{"vlan": 1, "flags": PU}, {"vlan": 2, "vlanEnd": 4094}],
    "of a trunk that begins later": [{"vlan": 4, "vlanEnd": 9}, {"vlan": 10, "flags": PU}, {"vlan": 99}],
    "with one that only leaves untagged": [{"vlan": 7, "flags": ["Egress Untagged"]}],
    "empty": [],
}


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


class Host(Stands):
    """A host with one port of one guest on a bridge."""

    def __init__(self, drill: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(drill, folder, monkeypatch)
        self.net = folder / "net"
        (self.net / TAP).mkdir(parents=True)
        (folder / "bridges/vmbr1/bridge").mkdir(parents=True)
        self.bridge("default_pvid", "1")
        self.bridge("vlan_filtering", "1")
        (self.net / TAP / "master").symlink_to("../../bridges/vmbr1")
        for name, text in {"queue": "noqueue", "mtu": "1500"}.items():
            (self.net / TAP / name).write_text(f"{text}\n")
        monkeypatch.setattr(drill.site, "NET", self.net)
        values = {"python": sys.executable, "net": str(self.net)}
        for name, text in {"bridge": BRIDGE, "ip": IP, "tc": TC, "modprobe": "#!/bin/sh\n"}.items():
            self.program(name, text.format(**values))

    def bridge(self, name: str, value: str) -> None:
        (self.folder / "bridges/vmbr1/bridge" / name).write_text(f"{value}\n")

    def have(self, rows: list[dict[str, Any]]) -> None:
        table = {
            vlan: row.get("flags", [])
            for row in rows
            for vlan in range(row["vlan"], row.get("vlanEnd", row["vlan"]) + 1)
        }
        (self.net / TAP / "vlans").write_text(json.dumps(table))

    def table(self) -> Any:
        return self.drill.site.vlans(TAP)


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(drill, tmp_path, monkeypatch)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_wrong_vlan_and_back(host: Host, table: list[dict[str, Any]]) -> None:
    host.have(table)
    fault = host.fault("wrong_vlan", vlan=99)
    host.do(fault.undo)
    assert host.table() == table, "a rehearsal changes nothing"
    host.do(fault.inject)
    assert host.table() == [{"vlan": 99, "flags": PU}]
    for _time in range(2):
        host.do(fault.undo)
        assert host.table() == table


def test_the_undo_of_a_wrong_vlan_in_words(host: Host) -> None:
    host.have(TABLES["of a trunk"])
    assert host.fault("wrong_vlan", vlan=99).undo.splitlines() == [
        f"if [ -e {host.net}/{TAP} ]; then",
        f"  bridge vlan add dev {TAP} vid 1 pvid untagged",
        f"  bridge vlan add dev {TAP} vid 2-4094",
        "fi",
    ], "what a trunk has is never taken away in a rehearsal"
    assert host.fault("wrong_vlan", vlan=4095).undo.splitlines()[1:] == [
        f"  bridge vlan del dev {TAP} vid 4095 2>/dev/null || true",
        f"  bridge vlan add dev {TAP} vid 1 pvid untagged",
        f"  bridge vlan add dev {TAP} vid 2-4094",
        "fi",
    ]


@pytest.mark.parametrize(("name", "default"), [*((name, "1") for name in TABLES), ("of a trunk", "0")])
def test_a_port_that_is_lost_and_back(host: Host, name: str, default: str) -> None:
    table = TABLES[name]
    host.have(table)
    host.bridge("default_pvid", default)
    fault = host.fault("port_lost")
    host.do(fault.undo)
    assert host.table() == table
    host.do(fault.inject)
    assert not (host.net / TAP / "master").exists()
    host.do(fault.undo)
    assert (host.net / TAP / "master").resolve().name == "vmbr1"
    assert host.table() == table


@pytest.mark.parametrize("kind", ["wrong_vlan", "port_lost"])
def test_a_guest_that_is_gone_has_no_port_to_put_back(host: Host, kind: str) -> None:
    host.have(TABLES["of a trunk"])
    fault = host.fault(kind)
    (host.net / TAP).rename(host.folder / "gone")
    host.do(fault.undo)


def test_a_port_of_a_bridge_without_vlans(host: Host) -> None:
    host.have([])
    host.bridge("vlan_filtering", "0")
    with pytest.raises(host.drill.faults.fault.Skip, match="no bridge that knows VLANs"):
        host.fault("wrong_vlan")
    assert "vlan" not in host.fault("port_lost").undo
    (host.net / TAP / "master").unlink()
    for kind in ("wrong_vlan", "port_lost"):
        with pytest.raises(host.drill.faults.fault.Skip, match=f"{TAP} is on no bridge"):
            host.fault(kind)


def test_a_card_that_the_guest_has_not(host: Host) -> None:
    with pytest.raises(host.drill.shell.Trouble, match=f"guest 103 has no tap103i1 on this host; there is {TAP}"):
        host.fault("port_lost", nic="net1")


def test_a_slow_line_and_back(host: Host) -> None:
    queue = host.net / TAP / "queue"
    fault = host.fault("slow_network", delay_ms=150, loss_percent=2.5)
    host.do(fault.undo)
    assert queue.read_text() == "noqueue\n"
    host.do(fault.inject)
    assert queue.read_text() == "netem delay 150ms loss 2.5%\n"
    for _time in range(2):
        host.do(fault.undo)
        assert queue.read_text() == "noqueue\n"
    queue.write_text("tbf rate 1Mbit\n")
    with pytest.raises(host.drill.faults.fault.Skip, match=r"a queue of its own \(tbf\)"):
        host.fault("slow_network")


SMALL = {"from": 101, "to": "10.0.0.3"}
BIG = {**SMALL, "size": 1400}


def mtu_fault(host: Host, *reach: dict[str, Any], **options: Any) -> Any:
    data = {**wanted(host.folder), "fault": {"kind": "small_mtu", "options": options}, "reach": list(reach)}
    return host.drill.faults.prepare(host.drill.plan.from_json(data), FakeNode())


def test_a_port_that_takes_only_small_packets_and_back(host: Host) -> None:
    (host.folder / "bridges/vmbr1/mtu").write_text("1500\n")
    fault = mtu_fault(host, SMALL, BIG)
    assert fault.targets == (f"MTU of {TAP}, 1300 instead of 1500",)
    before = fault.looks["MTUs"]()
    assert before == [f"{TAP} 1500", "vmbr1 1500"]
    host.do(fault.undo)
    assert fault.looks["MTUs"]() == before
    host.do(fault.inject)
    assert fault.looks["MTUs"]() == [f"{TAP} 1300", "vmbr1 1300"], "a bridge goes with the smallest of its ports"
    for _time in range(2):
        host.do(fault.undo)
        assert fault.looks["MTUs"]() == before
    host.do(fault.inject)
    (host.net / TAP).rename(host.folder / "gone")
    host.do(fault.undo)


def test_what_is_big_vanishes_and_what_is_small_passes(host: Host) -> None:
    passes, vanishes = mtu_fault(host, SMALL, BIG).signs
    assert passes.name == "guest 101 reaches 10.0.0.3 all the same"
    assert vanishes.name == "guest 101 does not reach 10.0.0.3 with 1400 bytes"

    def seen(small: list[float | None], big: list[float | None]) -> list[str | None]:
        made = {"101 10.0.0.3": small, "101 10.0.0.3 with 1400 bytes": big}
        reached = {name: [(20.0 + n, found) for n, found in enumerate(row)] for name, row in made.items()}
        return [sign.test(SimpleNamespace(reached=reached), 20.0) for sign in (passes, vanishes)]

    assert seen([1.0], [1.0]) == [None, None]
    assert seen([None, 1.0, 1.0], [1.0, None, None]) == ["two pings with an answer", "two pings without an answer"]
    assert seen([1.0, None], [None, 1.0]) == [None, None]


def test_a_port_whose_packets_could_prove_nothing(host: Host) -> None:
    trouble = host.drill.shell.Trouble
    with pytest.raises(trouble, match="drill test needs reach in its drill_targets"):
        mtu_fault(host)
    for reach in ((SMALL,), (BIG,)):
        with pytest.raises(trouble, match="needs two kinds of reach in its drill_targets, one as it is and one with a"):
            mtu_fault(host, *reach)
    for mtu, size in ((1279, 1400), (1428, 1400), (1300, 1473)):
        with pytest.raises(trouble, match=f"the option mtu of the fault small_mtu is {mtu}; it has to be 1280 or more"):
            mtu_fault(host, SMALL, {**SMALL, "size": size}, mtu=mtu)


class Answers(FakeNode):
    """A node that notes what is to be done in its guest, and says so in the end."""

    command: tuple[str, ...] = ()

    def ask(self, _method: str, _path: str, body: Any) -> Any:
        self.command = tuple(body["command"])
        return {"pid": 7}

    def get(self, _path: str, **_params: Any) -> Any:
        return {"exited": 1, "exitcode": 0, "out-data": "64 bytes from 10.0.0.3: seq=0 ttl=64 time=0.25 ms"}


def test_a_ping_is_as_big_as_it_is_asked_to_be(host: Host) -> None:
    node = Answers()
    assert host.drill.recorder.ping(node, 101, "10.0.0.3", 1400) == 0.25
    assert node.command == ("ping", "-c", "1", "-W", "3", "-s", "1400", "10.0.0.3")
    assert host.drill.recorder.ping(node, 101, "10.0.0.3") == 0.25
    assert node.command == ("ping", "-c", "1", "-W", "3", "10.0.0.3")
