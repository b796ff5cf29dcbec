# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of drills share that ask a node which runs, with its QEMU: a guest on it, and a plan for that guest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ResourceException

from ansible_collections.pvelab.proxmox.plugins.lookup.program import build
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    PROGRAMS,
    RUN,
    Guest,
    Package,
    Systemd,
    crc,
    header,
    record,
    soon,
    takes,
    wanted,
)
from ansible_collections.pvelab.proxmox.tests.lab import Lab

VMID, COPY = 7103, 9900
SLOTS, WRITTEN = 64, 40


def made(drill: Package, lab: Lab, folder: Path) -> Iterator[World]:
    """For a fixture: a world, of which nothing is left on the node afterwards."""
    world = World(drill, lab, folder)
    try:
        world.make()
        yield world
    finally:
        world.unmake()


class World:
    """A node with one guest, whose disk has a canary's records and which boots nothing; and a drill's plan for it."""

    def __init__(self, drill: Package, lab: Lab, folder: Path) -> None:
        self.drill, self.lab, self.folder = drill, lab, folder
        self.api = lab.api()
        self.node = self.api.nodes("pve1")
        users = self.api.access.users("root@pam")
        with suppress(ResourceException):
            users.token("drill").delete()
        self.program = folder / "drill.pyz"
        build(PROGRAMS / "drill", self.program)
        (folder / "token").write_text(f"root@pam!drill={users.token('drill').post(privsep=0)['value']}\n")

    def make(self, slots: int = SLOTS, written: int = WRITTEN) -> None:
        """The guest, running; its canary has so many slots, and has written so many records."""
        image = self.folder / "disk.raw"
        image.write_bytes(header(slots) + b"".join(map(record, range(1, written + 1))))
        with image.open("r+b") as file:
            file.truncate(4 << 20)
        wish = {
            "scsi0": f"local:0,import-from={image},format=qcow2",
            "net0": "virtio,bridge=vmbr0",
            "ide2": "local:cloudinit",
        }
        wish |= {
            "serial0": "socket",
            "agent": 1,
            "memory": 32,
            "kvm": 0,
            "tags": "drill-ok",
            "onboot": 1,
            "description": "one\ntwo",
        }
        self.done(self.node.qemu.post(vmid=VMID, **wish))
        self.done(self.node.qemu(VMID).status.start.post())

    def unmake(self) -> None:
        """No guest, no backup."""
        for row in self.node.qemu.get():
            conf = self.conf(row["vmid"])
            conf.write_text("".join(line for line in conf.read_text().splitlines(True) if not line.startswith("lock:")))
            self.done(self.node.qemu(row["vmid"]).status.stop.post())
            self.done(self.node.qemu(row["vmid"]).delete(**{"destroy-unreferenced-disks": 1}))
        for volume in self.backups():
            self.done(self.node.storage("local").content(volume).delete())

    def conf(self, vmid: int) -> Path:
        return self.lab.state / f"etc/nodes/pve1/qemu-server/{vmid}.conf"

    def done(self, upid: str) -> None:
        status = soon(lambda: self.node.tasks(upid).status.get().get("exitstatus"), f"{upid} ends")
        assert status == "OK", status

    def backups(self) -> list[str]:
        return sorted(row["volid"] for row in self.node.storage("local").content.get(content="backup"))

    def guests(self) -> list[int]:
        return sorted(row["vmid"] for row in self.node.qemu.get())

    def wanted(self, kind: str, **options: Any) -> dict[str, Any]:
        """A plan as its file has it."""
        data = wanted(self.folder, victims=[VMID], bystanders=[], guards={"min_available_mib": 1})
        data |= {"fault": {"kind": kind, "options": options}, "program": str(self.program), "python": sys.executable}
        data["api"] |= {"url": self.lab.url, "fingerprints": [self.lab.fingerprint]}
        data["places"] |= {"conf": str(self.lab.state / "etc/nodes/pve1/qemu-server/{vmid}.conf")}
        data["limits"] |= {"recover_s": 60}
        return data

    def plan(self, kind: str, **options: Any) -> Any:
        """The same as the program reads it, and its file."""
        data = self.wanted(kind, **options)
        plan = self.drill.plan.from_json(data)
        plan.home.mkdir(parents=True, exist_ok=True)
        plan.file.write_text(json.dumps(data))
        return plan

    def fault(self, kind: str, **options: Any) -> Any:
        plan = self.plan(kind, **options)
        made = self.drill.faults.prepare(plan, self.drill.node.Node(plan.api, plan.node))
        for text in (made.inject, made.relief, made.undo):
            takes(text)
        return made

    def whole(self, patch: pytest.MonkeyPatch, kind: str, **options: Any) -> dict[str, Any]:
        """What the journal of a whole drill says, with a canary that is none, on a host that allows it."""
        systemd = Systemd(self.folder, patch)
        for name in ("marker", "machine-id"):
            (self.folder / name).write_text("0123\n")
        (self.folder / "etc").mkdir()
        patch.setattr(self.drill.guards, "MARKER", self.folder / "marker")
        patch.setattr(self.drill.guards, "MACHINE_ID", self.folder / "machine-id")
        patch.setattr(self.drill.deadman, "UNITS", self.folder / "etc")
        patch.setattr(self.drill.runner, "STEADY_S", 0.5)
        data = self.wanted(kind, **options)
        data["limits"] |= {"baseline_s": 1, "observe_s": 60, "verify_s": 30}
        with Guest(self.folder, VMID) as guest, Guest(self.folder, COPY):
            guest.pace_s = 0.1
            real = self.drill.site.disk
            patch.setattr(self.drill.site, "disk", lambda *given: guest.disk if given[2] == VMID else real(*given))
            plan = self.drill.plan.from_json(data)
            self.home.mkdir(parents=True)
            plan.file.write_text(json.dumps(data))
            self.drill.runner.Runner(plan).run()
        systemd.end()
        found: dict[str, Any] = json.loads((self.home / "journal.json").read_text())
        return found

    @property
    def home(self) -> Path:
        return self.folder / "drills" / RUN

    def heard(self, acks: dict[int, float]) -> Any:
        """A recorder that has heard of these records at these times."""
        made = self.drill.recorder.Recorder(self.plan("test"))
        made.heard[VMID].acks = [
            self.drill.canary.Ack(at, seq, "0a1b2c3d", 1.0, crc(seq), 0) for seq, at in acks.items()
        ]
        return made


def run(text: str) -> tuple[int, str]:
    """Run it as a drill does: its exit status, and all that it says."""
    done = subprocess.run(
        ["/bin/sh", "-ec", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout


def do(text: str) -> str:
    code, out = run(text)
    assert code == 0, out
    return out


def looks(fault: Any) -> dict[str, list[str]]:
    return {name: sorted(look()) for name, look in fault.looks.items()}
