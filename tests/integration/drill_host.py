# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for whole drills: two guests, a node and a systemd that are none, and a fault that a test makes up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ansible_collections.pvelab.proxmox.tests.integration import drill_parts
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    FakeNode,
    Guest,
    Package,
    Systemd,
    program,
    wanted,
)
from ansible_collections.pvelab.proxmox.tests.lab import ROOT

STATES = ["preflight", "baseline", "arm", "inject", "observe", "recover", "verify", "disarm", "report"]
SCHEMA = json.loads((ROOT / "docs/drills/journal.schema.json").read_text(encoding="utf-8"))


class Host:
    """A host with two guests. A guest stands still while a file with its number is in ``held``; once ``slows`` was
    called, writes take long while a file "slow" is there and none "helped"."""

    def __init__(self, drill: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drill, self.folder, self.held, self.patch = drill, folder, folder / "held", monkeypatch
        self.held.mkdir()
        self.systemd = Systemd(folder, monkeypatch)
        # qemu-img convert -U -O raw FROM TO, for a disk that is raw already
        program(self.systemd.programs / "qemu-img", '#!/bin/sh\nexec cp "$5" "$6"\n')
        self.node = FakeNode(folder)
        self.stop_file = folder / "stop"
        self.signs: tuple[Any, ...] = (drill.signs.stalled(103, 0.4),)
        self.inject, self.undo = f"touch {self.held}/103", f"rm -f {self.held}/103"
        self.outage, self.reboots = True, False
        self.relief = ""
        self.eased: tuple[Any, ...] = ()
        self.runner: Any = None
        self.guests = {vmid: Guest(folder, vmid, (self.held / str(vmid)).exists) for vmid in (101, 103)}
        for name in ("marker", "machine-id"):
            (folder / name).write_text("0123\n")
        (folder / "etc").mkdir()
        for module, name, value in (
            (drill.guards, "MARKER", folder / "marker"),
            (drill.guards, "MACHINE_ID", folder / "machine-id"),
            (drill.guards, "STOP_FILE", self.stop_file),
            (drill.runner, "STOP_FILE", self.stop_file),
            (drill.runner, "STEADY_S", 0.15),
            (drill.runner, "LOOK_S", 0.03),
            (drill.recorder, "API_EVERY_S", 0.1),
            (drill.deadman, "UNITS", folder / "etc"),
            (drill.recorder, "Node", lambda *_args, **_more: self.node),
            (drill.runner, "Node", lambda *_args, **_more: self.node),
        ):
            monkeypatch.setattr(module, name, value)
        monkeypatch.setitem(drill.faults.KINDS, "test", self._fault)

    def _fault(self, _plan: Any, _node: Any) -> Any:
        return self.drill.faults.fault.Fault(
            *(("guest 103",), self.inject, self.undo, self.signs, self.outage),
            relief=self.relief,
            eased=self.eased,
            reboots=self.reboots,
        )

    def run(self, **more: Any) -> dict[str, Any]:
        """What the journal of a run says in the end; that it keeps to its schema is looked at each time."""
        self.runner = self.drill.runner.Runner(self.drill.plan.from_json(wanted(self.folder, **more)))
        return self.ended(self.runner.run())

    def ended(self, verdict: str) -> dict[str, Any]:
        """What the journal of a run says that has ended with this verdict."""
        data: dict[str, Any] = json.loads((self.home / "journal.json").read_text())
        jsonschema.validate(data, SCHEMA)
        assert data["verdict"] == verdict
        print(f"{verdict}: {data['because']}")  # is shown of a test that fails
        for row in data["evidence"]:
            text = (self.home / row["name"]).read_bytes()
            assert (row["bytes"], row["sha256"]) == (len(text), hashlib.sha256(text).hexdigest())
        armed = (self.home / "armed").exists()
        assert bool(self.systemd.units()) is armed
        # Where not everything is as it was, the host is to try once more; else nothing is armed any more.
        assert armed is bool(data["marks"]["inject"] and not data["marks"]["verified"])
        return data

    def slows(self) -> None:
        """A fault that makes its victim slow, and a remedy that helps."""
        slow, helped = self.held / "slow", self.held / "helped"
        self.patch.setattr(
            drill_parts,
            "ack_line",
            lambda seq, real=drill_parts.ack_line: real(seq, 9000 if slow.exists() and not helped.exists() else 700),
        )
        self.outage = False
        self.inject, self.relief, self.undo = f"touch {slow}", f"touch {helped}", f"rm -f {slow} {helped}"
        gets_slow, gets_quick = self.drill.signs.slow_then_quick(103, 3.0, 2.0, slow.exists)
        self.signs, self.eased = (gets_slow,), (gets_quick,)

    def harmless(self) -> None:
        """A fault that nobody notices, and that is not to be noticed."""
        self.inject, self.signs, self.outage = "true", (), False

    @property
    def home(self) -> Path:
        return self.folder / "drills" / RUN


def hosted(drill: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """One whose guests run."""
    made = Host(drill, folder, monkeypatch)
    with made.guests[101], made.guests[103]:
        yield made
    made.systemd.end()


def states(data: dict[str, Any]) -> dict[str, bool]:
    """Which states a run was in, and whether each ended well."""
    return {row["name"]: row["ok"] for row in data["states"]}


def guest(data: dict[str, Any], vmid: int) -> dict[str, Any]:
    """What a journal says of one guest."""
    (found,) = [row for row in data["guests"] if row["vmid"] == vmid]
    return found
