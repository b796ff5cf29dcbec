# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills on a node that runs, with boot sectors for guests; and what is put into a guest through its real agent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ResourceException

from ansible_collections.pvelab.proxmox.tests.integration.drill_node import VMID, World
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    Package,
    Systemd,
    package,
    soon,
    wanted,
)
from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab, until

OTHER, LINUX = VMID + 1, VMID + 2


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


class Sectors(World):
    """A victim and a bystander that are boot sectors, each on a disk that writes through in a way of its own."""

    def make(self, *_none: int) -> None:
        built = subprocess.run([ROOT / "labnode/image/build-bootsector"], capture_output=True, text=True, check=True)
        for vmid, slot, options in ((VMID, "virtio0", ""), (OTHER, "scsi0", ",cache=directsync")):
            wish = {
                slot: f"local:0,import-from={built.stdout.strip()},format=qcow2{options}",
                "boot": f"order={slot}",
                "scsihw": "virtio-scsi-pci",
            }
            wish |= {"serial0": "socket", "memory": 16, "kvm": 0, "tags": "drill-ok"}
            self.done(self.node.qemu.post(vmid=vmid, **wish))
            self.done(self.node.qemu(vmid).status.start.post())

    def wanted(self, kind: str, **options: Any) -> dict[str, Any]:
        data = super().wanted(kind, **options)
        endpoint = json.loads((self.lab.state / "endpoint.json").read_text())
        data["places"] |= {"serial": f"{endpoint['sockets']}/{{vmid}}/serial0.sock"}
        data["places"] |= {"pid": f"{self.lab.state}/run/{{vmid}}/qemu.pid"}
        # Such a guest is back within a second, and the silence that counts is longer.
        data["limits"] |= {"baseline_s": 6, "observe_s": 60, "hold_s": 3, "verify_s": 60}
        return {**data, "bystanders": [OTHER]}

    def drill_of(self, patch: pytest.MonkeyPatch, kind: str) -> dict[str, Any]:
        """What the journal of a whole drill says, on a host that allows it."""
        systemd = Systemd(self.folder, patch)
        for name in ("marker", "machine-id"):
            (self.folder / name).write_text("0123\n")
        (self.folder / "etc").mkdir()
        patch.setattr(self.drill.guards, "MARKER", self.folder / "marker")
        patch.setattr(self.drill.guards, "MACHINE_ID", self.folder / "machine-id")
        patch.setattr(self.drill.deadman, "UNITS", self.folder / "etc")
        self.drill.runner.Runner(self.plan(kind, stall_s=2.0)).run()
        systemd.end()
        found: dict[str, Any] = json.loads((self.home / "journal.json").read_text())
        return found


def test_a_boot_sector_is_a_victim_and_a_bystander(
    drill: Package, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Sectors(drill, lab, tmp_path)
    try:
        world.make()
        data = world.drill_of(monkeypatch, "guest_crash")
    finally:
        world.unmake()
    assert data["verdict"] == "passed", data["because"]
    assert data["because"].endswith("no acknowledged write is missing.")
    victim, other = data["guests"]
    print(f"the victim was out for {victim['outage_s']:.1f} s, with {victim['canary']['acked']} acknowledged writes")
    assert (victim["canary"]["boots"], other["canary"]["boots"]) == (2, 1)
    for row in (victim, other):
        assert (row["canary"]["checked"], row["canary"]["lost"], row["canary"]["corrupt"]) == (True, [], [])
        assert row["canary"]["acked"] > 20
    assert victim["outage_s"] > 0
    assert other["outages"] == []


# a guest's agent --------------------------------------------------------------------------------------------------


@pytest.fixture
def linux(lab: Lab, drill: Package, canary_image: Path, tmp_path: Path) -> Iterator[World]:
    """A guest whose agent is the real one, and whose programs are busybox."""
    world = World(drill, lab, tmp_path)
    wish = {
        "scsi0": f"local:0,import-from={canary_image},format=qcow2",
        "scsihw": "virtio-scsi-pci",
        "boot": "order=scsi0",
    }
    wish |= {"serial0": "socket", "agent": "1", "memory": "112", "kvm": "0"}
    try:
        world.done(world.node.qemu.post(vmid=LINUX, **wish))
        world.done(world.node.qemu(LINUX).status.start.post())
        yield world
    finally:
        world.unmake()


def test_what_is_put_into_a_guest_through_its_agent_is_found_there_and_taken_away(linux: World) -> None:
    drill = linux.drill
    data = {**wanted(linux.folder, victims=[LINUX], bystanders=[]), "canaries": {LINUX: "agent"}}
    data["api"] |= {"url": linux.lab.url, "fingerprints": [linux.lab.fingerprint]}
    plan = drill.plan.from_json(data)
    node, agent = drill.node.Node(plan.api, plan.node), drill.pulses.agent
    path = agent.file(plan, LINUX)

    def ended(*argv: str, stdin: str = "") -> tuple[int, str]:
        pid = agent.begin(node, LINUX, argv, stdin)
        found: tuple[int, str] = soon(lambda: agent.ended(node, LINUX, pid), "the program ends")
        return found

    until(lambda: _answers(linux), "the agent answers", 120)
    assert agent.execute(node, LINUX, ["mkdir", "-p", plan.pulse(LINUX).directory], 30.0)[0] == 0
    # All of this guest is in its memory, and a drill does not begin to write there.
    code, kind = ended(*agent.BEGIN, path)
    assert (code, kind.strip() in agent.MEMORY) == (0, True)
    assert agent.execute(node, LINUX, ["test", "-e", path], 30.0)[0] == 1
    for seq in (1, 3):
        code, said = ended(*agent.WRITE, path, str(seq - 1), stdin=agent.record(RUN, seq)[0])
        assert code == 0
        boot, moment = said.split()
        assert (len(boot), moment.isdigit()) == (36, True)
    code, said = ended(*agent.READ, path)
    how, _newline, text = said.partition("\n")
    assert (code, how in ("direct", "cached")) == (0, True)
    assert agent.ring(RUN, text).records == {n - 1: (n, agent.record(RUN, n)[1]) for n in (1, 3)}
    agent.remove(plan, node, LINUX)
    assert agent.execute(node, LINUX, ["test", "-e", path], 30.0)[0] == 1
    node.close()


def _answers(world: World) -> bool:
    try:
        world.node.qemu(LINUX).agent.ping.post()
    except ResourceException:
        return False
    return True
