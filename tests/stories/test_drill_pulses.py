# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that are known through their agent, or by nothing but an address: what is measured, what is not claimed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_agents import BOOTS, Agents
from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    Package,
    package,
    soon,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def node(drill: Package, tmp_path: Path) -> Agents:
    return Agents(drill, tmp_path)


def plan(drill: Package, folder: Path, **how: Any) -> Any:
    known = {"104": {"by": "agent", "directory": str(folder), "every_s": 0.05, **how}}
    return drill.plan.from_json({**wanted(folder), "victims": [104], "bystanders": [], "canaries": known})


class Watch:
    """One guest's pulse, in a thread."""

    def __init__(self, drill: Package, plan: Any, node: Any, before: Any = ()) -> None:
        self.drill, self.plan, self.node, self.ends = drill, plan, node, threading.Event()
        plan.home.mkdir(parents=True, exist_ok=True)
        self.heard = drill.canary.Heard(acks=list(before))
        loops = drill.pulses.loops(plan, {104: self.heard}, self.ends, lambda: node, plan.home / "acks.jsonl")
        self.threads = [threading.Thread(target=loop) for loop in loops]

    def __enter__(self) -> Watch:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ends.set()
        for thread in self.threads:
            thread.join(10)

    def beats(self, count: int) -> None:
        most = len(self.heard.acks) + count
        soon(lambda: len(self.heard.acks) >= most, f"{count} more signs of life; {self.heard.trouble}")

    def judged(self) -> tuple[Any, Any]:
        return self.drill.proofs.disks(self.plan, self.node, {104: self.heard})


# by its agent -----------------------------------------------------------------------------------------------------


def test_what_the_agent_wrote_is_on_the_disk_and_is_taken_away(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(5)
    acks = watch.heard.acks
    assert [ack.seq for ack in acks] == list(range(1, len(acks) + 1))
    assert {ack.boot for ack in acks} == {BOOTS[0][:8]}
    assert all(ack.latency_ms > 0 and ack.real_us > 1e15 for ack in acks)
    ring = tmp_path / f"pvelab-canary-{RUN}"
    assert ring.read_text()[:512] == drill.pulses.agent.record(RUN, 1)[0]
    assert watch.judged() == ({104: ([], [])}, {})
    kept = (watch.plan.home / "acks.jsonl").read_text().splitlines()
    assert len(kept) == len(acks), "a run that goes on after a boot finds them"
    assert drill.proofs.clear(watch.plan, node, {104: watch.heard}) == []
    assert not ring.exists()


@pytest.mark.parametrize("harm", ["lost", "damaged", "set back", "gone"])
def test_an_acknowledged_write_that_is_not_there_is_found(
    drill: Package, node: Agents, tmp_path: Path, harm: str
) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(5)
    ring = tmp_path / f"pvelab-canary-{RUN}"
    data = bytearray(ring.read_bytes())
    if harm == "lost":
        data[512:1024] = bytes(512)
    if harm == "damaged":
        data[600] = 255
    if harm == "set back":
        del data[1024:]
    ring.write_bytes(b"" if harm == "gone" else bytes(data))
    (lost, corrupt) = watch.judged()[0][104]
    every = [ack.seq for ack in watch.heard.acks]
    assert lost == {"lost": [2], "damaged": [2], "set back": every[2:], "gone": every}[harm]
    assert corrupt == ([1] if harm == "damaged" else [])


def test_a_guest_that_lies_is_found_out(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(3)
        honest = len(watch.heard.acks) + 1
        node.lies.set()
        watch.beats(4)
    ((lost, _corrupt),) = watch.judged()[0].values()
    assert lost
    assert lost[-1] == watch.heard.acks[-1].seq
    assert min(lost) >= honest


def test_what_only_the_guests_memory_has_proves_nothing(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(3)
    node.cached.set()
    found, why = watch.judged()
    assert found == {}
    assert "could only be read from the memory of guest 104" in why[104]


def test_what_would_lie_in_memory_is_not_even_begun(drill: Package, node: Agents, tmp_path: Path) -> None:
    node.file_system = "tmpfs"
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        soon(lambda: "would lie in the memory of guest 104 (tmpfs)" in watch.heard.trouble, "it says so")
    assert watch.heard.acks == []
    # What was begun in the guest meanwhile goes on without whoever asked for it.
    soon(lambda: not list(tmp_path.glob("pvelab-canary-*")), "nothing of it is left")


def test_writes_that_fail_are_counted_and_tried_again(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(3)
        node.fails.set()
        soon(lambda: watch.heard.errors.get("a write through the agent failed (1)", 0) >= 2, "errors")
        before = len(watch.heard.acks)
        node.fails.clear()
        watch.beats(2)
    assert watch.heard.acks[before].seq == before + 1, "no number is skipped"
    assert watch.heard.last_error is not None
    assert watch.judged() == ({104: ([], [])}, {})


def test_a_run_that_goes_on_after_a_boot_of_its_host_goes_on_with_its_numbers(
    drill: Package, node: Agents, tmp_path: Path
) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(3)
    with Watch(drill, watch.plan, node, watch.heard.acks) as later:
        later.beats(3)
    numbers = [ack.seq for ack in later.heard.acks]
    assert numbers == list(range(1, len(numbers) + 1))
    assert later.judged() == ({104: ([], [])}, {}), "the ring was not begun anew"


def test_another_boot_is_seen(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(2)
        node.boot = BOOTS[1]
        soon(lambda: len({ack.boot for ack in watch.heard.acks}) == 2, "another boot")


def test_an_agent_that_is_silent_is_told_from_a_node_that_is(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(2)
        node.dumb.set()
        soon(lambda: "not running" in watch.heard.trouble, "its agent is silent")
        node.dumb.clear()
        watch.beats(2)
        assert watch.heard.unseen == []
        node.silent.set()
        soon(lambda: "no route" in watch.heard.trouble, "the node is silent")
        node.silent.clear()
        watch.beats(2)
    ((since, until),) = watch.heard.unseen
    quiet = max((b.at - a.at, a.at, b.at) for a, b in zip(watch.heard.acks, watch.heard.acks[1:], strict=False))
    assert since < until
    assert until - since <= quiet[0] + 0.5


def test_a_file_that_cannot_be_taken_away_is_left_behind(drill: Package, node: Agents, tmp_path: Path) -> None:
    with Watch(drill, plan(drill, tmp_path), node) as watch:
        watch.beats(2)
    node.dumb.set()
    (left,) = drill.proofs.clear(watch.plan, node, {104: watch.heard})
    assert f"pvelab-canary-{RUN} may still be in guest 104" in left
    node.dumb.clear()
    assert drill.proofs.clear(watch.plan, node) == []


# by nothing but an address ----------------------------------------------------------------------------------------


def opaque(drill: Package, folder: Path, **how: Any) -> Any:
    known = {104: {"by": "opaque", "address": "127.0.0.1", "every_s": 0.05, **how}}
    return drill.plan.from_json({**wanted(folder), "victims": [104], "bystanders": [], "canaries": known})


def test_a_port_that_answers_and_one_that_does_not(drill: Package, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        with Watch(drill, opaque(drill, tmp_path, port=door.getsockname()[1]), None) as watch:
            watch.beats(4)
            door.close()
            soon(lambda: "refused" in watch.heard.trouble, "nobody is there")
            heard = len(watch.heard.acks)
        assert len(watch.heard.acks) == heard
    assert {(ack.boot, ack.crc, ack.real_us) for ack in watch.heard.acks} == {("", 0, 0)}
    assert watch.judged() == ({}, {}), "nothing is asked of its disk, and nothing is claimed"


def allowed(family: socket.AddressFamily) -> bool:
    """Whether this user may ask for echoes here, and has such addresses at all."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_echo_comes_back_where_it_may_be_asked_for(drill: Package, address: str) -> None:
    if allowed(socket.AF_INET6 if ":" in address else socket.AF_INET):
        assert 0 < drill.pulses.echo.ask(address, None, 7) < 1.0
    else:
        with pytest.raises(OSError, match=r"ermitted|assign|supported"):
            drill.pulses.echo.ask(address, None, 7)


def test_a_packet_is_what_the_standard_says(drill: Package) -> None:
    packet = drill.pulses.echo._packet(8, 3, bytes(range(16)))
    assert (len(packet), packet[:2], packet[6:8]) == (24, b"\x08\x00", b"\x00\x03")
    assert drill.pulses.echo._checksum(packet) == 0, "with its own checksum in it the sum is nothing"


# what a plan says of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("telepathy", "known by telepathy, which is none of serial, agent, opaque"),
        ({"by": "opaque"}, "needs an address at which its host reaches it"),
        ({"by": "agent", "every_s": -1}, "every_s is -1, and has to be more than 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(drill: Package, tmp_path: Path, how: Any, said: str) -> None:
    with pytest.raises(drill.shell.Trouble, match=said):
        drill.plan.from_json({**wanted(tmp_path), "canaries": {"103": how}})


def test_a_guest_is_known_by_its_serial_port_where_nobody_says_otherwise(drill: Package, tmp_path: Path) -> None:
    made = drill.plan.from_json({**wanted(tmp_path), "canaries": {"101": "agent", "999": "agent"}})
    assert (made.known_by("serial"), made.known_by("agent"), made.known_by("opaque")) == ([103], [101], [])
    assert (made.pulse(101).every_s, made.pulse(101).directory) == (1.0, "/var/tmp")


def test_a_fault_that_shows_in_writes_needs_a_guest_that_tells_of_them(drill: Package, tmp_path: Path) -> None:
    known = {"canaries": {"103": {"by": "opaque", "address": "127.0.0.1"}}}
    found = drill.faults.fault.Fault((), "true", "true", (drill.signs.slow_writes(103),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(drill.faults.KINDS, "test", lambda _plan, _node: found)
        with pytest.raises(drill.shell.Trouble, match="guest 103 is opaque, and nothing of its writes is known"):
            drill.faults.prepare(drill.plan.from_json({**wanted(tmp_path), **known}), None)
        drill.faults.prepare(drill.plan.from_json(wanted(tmp_path)), None)


def test_a_copy_of_a_guest_is_judged_by_a_canary_that_is_in_it_too(
    drill: Package, node: Agents, tmp_path: Path
) -> None:
    data = {**wanted(tmp_path), "fault": {"kind": "backup_restore", "options": {"storage": "local"}}}
    with pytest.raises(drill.shell.Trouble, match="guest 103 has no canary on a serial port"):
        drill.faults.prepare(drill.plan.from_json({**data, "canaries": {"103": "agent"}}), node)


# whole drills -----------------------------------------------------------------------------------------------------


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(drill, tmp_path, monkeypatch)
    made.node = Agents(drill, tmp_path)
    row = {"status": "running", "qmpstatus": "running", "diskwrite": 4096}
    made.node.guests.append({"vmid": 104, **row, "tags": "drill-ok"})
    made.node.answers["/nodes/{node}/qemu/104/status/current"] = {"running-qemu": "10.1.2"}
    monkeypatch.setattr(drill.recorder, "API_EVERY_S", 0.1)
    with made.guests[101], made.guests[103]:
        yield made
    made.systemd.end()


def by_agent(host: Host, **more: Any) -> dict[str, Any]:
    known = {"104": {"by": "agent", "directory": str(host.folder), "every_s": 0.05}}
    stall_s = more.pop("stall_s", 2.5)  # a busy machine takes its time to write with fsync
    if host.outage:
        host.signs = (host.drill.signs.stalled(103, stall_s),)
    return host.run(
        **{
            "victims": [103],
            "bystanders": [101, 104],
            "canaries": known,
            "limits": {"baseline_s": 1.5},
            "options": {"stall_s": stall_s},
            **more,
        }
    )


def guest(data: dict[str, Any]) -> dict[str, Any]:
    (found,) = [row for row in data["guests"] if row["vmid"] == 104]
    return found


def test_a_drill_with_a_guest_that_is_known_by_its_agent(host: Host) -> None:
    data = by_agent(host)
    assert data["verdict"] == "passed", data["because"]
    assert data["because"].endswith("service came back, and no acknowledged write is missing.")
    how = {"by": "agent", "every_s": 0.05, "directory": str(host.folder)}
    assert data["plan"]["canaries"] == {"104": how}
    found = guest(data)
    assert (found["probe"], found["outages"]) == ("agent", [])
    assert (found["canary"]["checked"], found["canary"]["lost"]) == (True, [])
    assert 0 < found["resolution_s"] < 2.5
    assert found["written_bytes"]["baseline"] == 0
    assert list(host.folder.glob("pvelab-canary-*")) == [], "nothing is left in the guest"


def test_what_is_left_in_a_guest_is_left_behind(host: Host) -> None:
    host.undo += f"; chmod a-w {host.folder}"
    real = host.node.ask
    host.node.ask = lambda method, path, body=None: (  # type: ignore[attr-defined]
        {"pid": real(method, path, {"command": ["/bin/false"]})["pid"]}
        if "rm -f" in str(body)
        else real(method, path, body)
    )
    data = by_agent(host)
    assert data["verdict"] == "not_recovered"
    assert "may still be in guest 104" in data["because"]


def test_a_guest_that_is_heard_too_seldom_proves_nothing(host: Host) -> None:
    known = {"104": {"by": "agent", "directory": str(host.folder), "every_s": 1.2}}
    data = by_agent(host, canaries=known, stall_s=0.9, limits={"baseline_s": 4.5, "verify_s": 12})
    assert data["verdict"] == "inconclusive"
    assert "guest 104 is heard every" in data["because"]
    assert guest(data)["resolution_s"] > 1.0


def test_a_node_that_is_silent_is_no_outage_of_its_guests(host: Host) -> None:
    host.harmless()
    host.signs = (host.drill.signs.silent(),)
    node = host.node
    host.inject = f"touch {host.folder}/silent"
    host.undo = f"rm -f {host.folder}/silent"
    silent = host.folder / "silent"
    node.silent.is_set = silent.exists  # type: ignore[attr-defined]
    data = by_agent(host, bystanders=[104], limits={"baseline_s": 1.5, "hold_s": 4})
    assert data["verdict"] == "inconclusive"
    assert "guest 104 is known through the node, which was silent for" in data["because"]
    assert guest(data)["outages"] == []


def test_a_drill_with_an_opaque_guest_claims_nothing_of_its_data(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        known = {"104": {"by": "opaque", "address": "127.0.0.1", "port": door.getsockname()[1], "every_s": 0.05}}
        data = by_agent(host, canaries=known)
    assert data["verdict"] == "passed", data["because"]
    assert data["because"].endswith("missing. Whether guest 104 lost anything is not known.")
    found = guest(data)
    assert (found["probe"], found["canary"], found["latency_ms"]) == ("echo", None, None)
    assert found["written_bytes"]["baseline"] == 0


def test_a_guest_whose_agent_says_nothing_stops_the_drill_before_it_breaks_anything(host: Host) -> None:
    host.node.dumb.set()  # type: ignore[attr-defined]
    data = by_agent(host, limits={"baseline_s": 1.5, "answer_s": 1})
    assert data["verdict"] == "aborted_preflight"
    assert "guest 104 was not heard three times in 2.5 s through its agent" in data["because"]
    assert "QEMU guest agent is not running" in data["because"]
