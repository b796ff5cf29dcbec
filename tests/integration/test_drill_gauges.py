# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel counts and says, what QEMU and the host's services have said, and who answers the host."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    FakeNode,
    Package,
    Stands,
    package,
    soon,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


# gauges -----------------------------------------------------------------------------------------------------------

KERNEL = {
    "psi.cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
    "psi.io": "some avg10=1.00 avg60=0.00 avg300=0.00 total=77\n",
    "memory": "MemTotal:        4014832 kB\nMemAvailable:    1048576 kB\nDirty:              3072 kB\n"
    "Writeback:             0 kB\nSwapTotal:       2097152 kB\nSwapFree:        1048576 kB\n",
    "vmstat": "pgfault 12\noom_kill 3\noom_killer_was 7\n",
    "load": "1.25 0.80 0.40 2/345 6789\n",
    "sharing": "25600\n",
    "profit": "-1048576\n",
}


@pytest.fixture
def kernel(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel that says what the files of a directory say."""
    for name, text in KERNEL.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(drill.gauges, "FILES", {name: str(tmp_path / name) for name in drill.gauges.FILES})
    return tmp_path


def test_the_kernel_is_read(drill: Package, kernel: Path) -> None:
    found = drill.gauges.open_all()
    page = drill.gauges.PAGE
    assert found.quick() == {
        "psi": {"cpu": 123456, "io": 77},
        **{"mem_available_mib": 1024, "swap_free_mib": 1024, "dirty_mib": 3, "writeback_mib": 0},
    }
    ksm = {"sharing_mib": 25600 * page / 2**20, "profit_mib": -1.0}
    assert found.slow() == {"ksm": ksm, "oom_kills": 3, "load": 1.25}
    (kernel / "psi.cpu").write_text(KERNEL["psi.cpu"].replace("123456", "999"))
    assert found.quick()["psi"]["cpu"] == 999, "it is read anew"
    found.close()
    assert drill.gauges.available_mib() == 1024


def test_a_kernel_that_has_less_of_it(drill: Package, kernel: Path) -> None:
    for name in KERNEL:
        (kernel / name).unlink()
    (kernel / "memory").write_text(
        "MemAvailable:    1048576 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n"
    )
    (kernel / "load").write_text("")
    found = drill.gauges.open_all()
    assert found.quick() == {"psi": {}, "mem_available_mib": 1024}
    assert found.slow() == {}
    found.close()


def test_who_is_killed_for_want_of_memory_is_counted(
    drill: Package, kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill.recorder, "Node", lambda *_args, **_more: FakeNode())
    monkeypatch.setattr(drill.recorder, "SLOW_S", 0.05)
    monkeypatch.setattr(drill.recorder, "API_EVERY_S", 0.02)
    plan = drill.plan.from_json(wanted(tmp_path))
    plan.home.mkdir(parents=True)
    seen = drill.recorder.Recorder(plan)
    seen.start()
    soon(lambda: seen.samples > 5 and seen.node_status, "samples")
    (kernel / "vmstat").write_text(KERNEL["vmstat"].replace("oom_kill 3", "oom_kill 5"))
    soon(lambda: seen.events, "it is noted")
    seen.stop()
    assert [row["text"] for row in seen.events] == ["it has killed 2 processes for want of memory"]
    rows = [json.loads(line) for line in (plan.home / "samples.jsonl").read_text().splitlines()]
    assert {row["oom_kills"] for row in rows if "oom_kills" in row} == {3, 5}
    assert "online" in {row.get("node") for row in rows}
    assert all(abs(row["wall"] - rows[0]["wall"] - (row["at"] - rows[0]["at"])) < 0.2 for row in rows if "wall" in row)


# services ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stands(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stands]:
    made = Stands(drill, tmp_path, monkeypatch)
    yield made
    made.systemd.end()


def entry(at: float, text: Any, boot: str, who: str = "pvedaemon") -> str:
    row = {"MESSAGE": text, "SYSLOG_IDENTIFIER": who, "_BOOT_ID": boot, "__MONOTONIC_TIMESTAMP": str(int(at * 1e6))}
    return json.dumps(row) + "\n"


def journal(stands: Stands, *entries: str, code: int = 0) -> None:
    (stands.folder / "journal").write_text("".join(entries))
    text = f"""#!/bin/sh
echo "$*" >> {stands.folder}/asked
case $* in
*--lines=1*) echo '{{"__CURSOR": "s=1;i=2a"}}' ;;
*) cat {stands.folder}/journal; exit {code} ;;
esac
"""
    stands.program("journalctl", text)


def test_what_services_said_is_read_from_where_the_journal_stood(
    drill: Package, stands: Stands, tmp_path: Path
) -> None:
    boot = drill.said.BOOT.read_text().strip().replace("-", "")
    rows = [entry(50.0, "end of an earlier boot", "f" * 32), entry(3.5, "Starting cleanup for 103", boot, "qmeventd")]
    journal(stands, *rows, entry(4.0, [104, 195, 164], boot), "no json\n")
    place = drill.said.cursor(drill.plan.from_json(wanted(tmp_path)))
    assert place == "s=1;i=2a"
    found = drill.said.since(place)
    assert [(row["at"], row["text"]) for row in found] == [
        (50.0, "pvedaemon: end of an earlier boot"),
        (drill.clock.of_this_boot(3.5), "qmeventd: Starting cleanup for 103"),
        (drill.clock.of_this_boot(4.0), "pvedaemon: hä"),
    ]
    assert {row["source"] for row in found} == {"journal"}
    asked = (tmp_path / "asked").read_text().splitlines()[-1]
    assert "--after-cursor=s=1;i=2a" in asked and "--unit=pve*" in asked and "--unit=qmeventd*" in asked


def test_a_journal_that_nobody_may_read(drill: Package, stands: Stands, tmp_path: Path) -> None:
    journal(stands, code=1)
    (row,) = drill.said.since("s=1;i=2a")
    assert row["text"].startswith("what the services of the host have said cannot be read: journalctl")
    assert drill.said.since("") == []
    stands.program("journalctl", "#!/bin/sh\nexit 1\n")
    assert drill.said.cursor(drill.plan.from_json(wanted(tmp_path))) == ""
    asked = tmp_path / "asked"
    asked.unlink()
    journal(stands)
    user = drill.plan.from_json(wanted(tmp_path, supervisor="process"))
    assert drill.said.cursor(user) == ""
    assert not asked.exists()


def test_services_that_say_too_much_are_cut_short(drill: Package, stands: Stands) -> None:
    boot = drill.said.BOOT.read_text().strip().replace("-", "")
    journal(stands, *(entry(n, "again", boot) for n in range(drill.said.MOST + 9)))
    found = drill.said.since("s=1;i=2a")
    assert len(found) == drill.said.MOST + 1
    assert found[-1]["text"] == "9 more lines of the host's services are in its own journal"


# monitors ---------------------------------------------------------------------------------------------------------


def event(name: str, **data: Any) -> bytes:
    return json.dumps({"timestamp": {"seconds": 1, "microseconds": 2}, "event": name, "data": data}).encode() + b"\r\n"


def greeted(door: socket.socket) -> socket.socket:
    """A client of a monitor, that has said what it has to."""
    line, _address = door.accept()
    line.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
    assert json.loads(line.recv(4096)) == {"execute": "qmp_capabilities"}
    line.sendall(b'{"return": {}}\r\nno json\r\n[]\r\n')
    return line


def test_events_of_qemu_are_noted_from_a_monitor_of_their_own(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill.recorder, "Node", lambda *_args, **_more: FakeNode())
    monkeypatch.setattr(drill.monitors, "AGAIN_S", 0.05)
    data = wanted(tmp_path)
    data["places"]["qmp"] = f"{tmp_path}/{{vmid}}.qmp"
    plan = drill.plan.from_json(data)
    plan.home.mkdir(parents=True)
    seen = drill.recorder.Recorder(plan)
    seen.start()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{tmp_path}/103.qmp")
        door.listen()
        door.settimeout(15)
        with greeted(door) as line:
            more = {"device": "drive-scsi0", "operation": "write", "reason": "No space left", "action": "stop"}
            error = event("BLOCK_IO_ERROR", **more)
            line.sendall(error[:20])
            line.sendall(error[20:] + error + event("RTC_CHANGE", offset=1) + event("STOP"))
            soon(lambda: len(seen.events) == 2, "both are noted, one of them once")
        with greeted(door) as line:
            line.sendall(event("RESUME"))
            soon(lambda: len(seen.events) == 3, "after the end of the line, too")
    seen.stop()
    assert [(row["source"], row["guest"], row["text"]) for row in seen.events] == [
        ("qmp", 103, "BLOCK_IO_ERROR: device drive-scsi0, operation write, reason No space left, action stop"),
        ("qmp", 103, "STOP"),
        ("qmp", 103, "RESUME"),
    ]


def test_the_monitor_of_the_node_itself_is_never_touched(drill: Package, tmp_path: Path) -> None:
    data = wanted(tmp_path)
    for path in ("/var/run/qemu-server/{vmid}.qmp", "/run/qemu-server/{vmid}.qmp"):
        data["places"]["qmp"] = path
        with pytest.raises(drill.shell.Trouble, match=r"places\.qmp lies in qemu-server, where the node's own tools"):
            drill.plan.from_json(data)


# the kernel's log -------------------------------------------------------------------------------------------------


def test_lines_of_the_kernel_that_were_lost_are_counted(drill: Package, tmp_path: Path) -> None:
    seen = drill.recorder.Recorder(drill.plan.from_json(wanted(tmp_path)))
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.setblocking(False)
    for number in (41, 42, 47):
        here.send(f"6,{number},{number}000000,-;line {number}\n SUBSYSTEM=x\n".encode())
    seen._read_kernel(there.fileno())
    here.close()
    there.close()
    assert [text for _at, text in seen.kernel] == ["line 41", "line 42", "line 47"]
    (event,) = seen.events
    assert event["text"] == "4 lines of its log were overwritten before they could be read"


# probes of the host -----------------------------------------------------------------------------------------------


def test_what_the_host_asks_is_in_samples_and_journal_and_is_an_effect(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill.recorder, "Node", lambda *_args, **_more: FakeNode())
    with socket.create_server(("127.0.0.1", 0)) as door:
        probes = [{"name": "web1", "to": "127.0.0.1", "tcp": door.getsockname()[1]}]
        plan = drill.plan.from_json(wanted(tmp_path, probes=probes))
        plan.home.mkdir(parents=True)
        seen = drill.recorder.Recorder(plan)
        seen.start()
        soon(lambda: len(seen.tries.get("web1", [])) > 5 and seen.samples > 5, "it is asked")
        inject = drill.clock.now()
    soon(lambda: len([one for one in seen.tries["web1"] if one.no == "refused"]) > 8, "it refuses")
    seen.stop()
    rows = [json.loads(line) for line in (plan.home / "samples.jsonl").read_text().splitlines()]
    assert {type(row["probes"]["web1"]) for row in rows if row.get("probes")} == {float, type(None)}
    (found,) = drill.results._probes(plan, seen)
    (outage,) = found["outages"]
    assert outage["why"] == "refused" and abs(outage["from"] - inject) < 0.3
    marks = {"inject": inject, "recover": None}
    data = {"marks": marks, "guests": [], "signature": [], "probes": [found]}
    assert drill.results._effect(plan, seen, data) == outage["from"]
    again = drill.recorder.Recorder(plan)
    again.go_on(1.0, [], "s=1")
    assert len(again.tries["web1"]) == len(seen.tries["web1"]) and again.cursor == "s=1"


def test_a_probe_that_may_not_be_sent_is_no_answer(drill: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_probe: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(drill.probes, "_pinging", refused)
    noted: list[Any] = []
    ends = threading.Event()
    probes = drill.probes.from_json([{"name": "web1", "to": "127.0.0.1", "ping": True}])

    def note(_name: str, one: Any) -> None:
        noted.append(one)
        ends.set()

    drill.probes.Prober(probes, note).run(ends)
    assert noted[0].no == "Operation not permitted"


def test_echoes_are_known_by_their_number(drill: Package) -> None:
    """A socket as of root, on which all echoes of the host arrive, with their IP header."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.setblocking(False)
    (probe,) = drill.probes.from_json([{"name": "web1", "to": "127.0.0.1", "ping": True}])
    ping = drill.probes._Ping(probe, there, socket.AF_INET, True, b"abcd")
    for at in (1.0, 1.1, 1.2):
        ping.send(at)
    sent = [here.recv(2048) for _time in range(3)]
    assert all(drill.probes._sum(data) == 0 for data in sent), "their checksums are right"
    header = b"\x45" + bytes(19)
    for answer in (b"\x08" + sent[0][1:], b"\x00" + sent[1][1:], b"\x00" + sent[2][1:-8] + b"else" + sent[2][-4:]):
        here.send(header + answer)
    (one,) = ping.answers(1.15)
    assert one == drill.silence.Try(1.1, pytest.approx(50.0))
    assert ping.lost(2.15) == [1.0]
    here.close()
    assert [one.no for one in ping.answers(2.2)] in ([], ["broke off"], ["Connection refused"])
    there.close()


def test_a_plan_without_probes_asks_nobody(drill: Package, tmp_path: Path) -> None:
    plan = drill.plan.from_json(wanted(tmp_path))
    assert plan.probes == ()
    assert drill.results._probes(plan, SimpleNamespace(gaps=[], tries={})) == []
