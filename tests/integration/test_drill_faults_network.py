# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's port: what each text does to a bridge that is none, and that its undo leaves no trace."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, Stands, package

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
BRIDGE = """#!{python} -SE
import json, os, sys
net, words = {net!r}, sys.argv[1:]
def path(): return os.path.join(net, words[words.index("dev") + 1], "vlans")
def span(text): low, _dash, high = text.partition("-"); return range(int(low), int(high or low) + 1)
with open(path()) as file: table = {{int(vlan): flags for vlan, flags in json.load(file).items()}}
if "show" in words:
    rows = []
    for vlan, flags in sorted(table.items()):
        last = rows[-1] if rows else None
        if last and last.get("flags", []) == flags == [] and last.get("vlanEnd", last["vlan"]) == vlan - 1:
            last["vlanEnd"] = vlan
        else:
            rows.append({{"vlan": vlan, **({{"flags": flags}} if flags else {{}})}})
    print(json.dumps([{{"ifname": "x", "vlans": rows}}] if rows else []))
for vlan in span(words[words.index("vid") + 1]) if "show" not in words else ():
    if "del" in words:
        if vlan not in table: sys.exit("RTNETLINK answers: No such file or directory")
        del table[vlan]
    else:
        if "pvid" in words: table = {{v: [f for f in flags if f != "PVID"] for v, flags in table.items()}}
        table[vlan] = ["PVID"] * ("pvid" in words) + ["Egress Untagged"] * ("untagged" in words)
with open(path(), "w") as file: json.dump(table, file)
"""
IP = """#!/bin/sh
# ip link set dev TAP nomaster | ip link set dev TAP master BRIDGE
cd {net}/"$4" || exit 1
rm -f master
echo '{{}}' > vlans
[ "$5" = nomaster ] && exit 0
ln -s "../../bridges/$6" master
[ "$(cat master/bridge/default_pvid)" = 0 ] || echo '{{"1": ["PVID", "Egress Untagged"]}}' > vlans
"""
TC = """#!/bin/sh
state={net}/tap103i0/queue
case "$*" in
"-j qdisc show"*) printf '[{{"kind": "%s", "root": true, "dev": "tap103i0"}}]\\n' "$(cut -d' ' -f1 "$state")" ;;
"qdisc show"*) cat "$state" ;;
"qdisc add dev tap103i0 root "*) shift 5; echo "$*" > "$state" ;;
"qdisc del dev tap103i0 root") echo noqueue > "$state" ;;
*) exit 64 ;;
esac
"""


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
        (self.net / TAP / "queue").write_text("noqueue\n")
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
