# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of storage, for guests whose disks lie where a test says."""

from __future__ import annotations

from typing import Any

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import FakeNode, Stands, takes, wanted


def prepared(host: Stands, kind: str, disks: dict[int, str], storage: dict[str, Any], **options: Any) -> Any:
    """A fault, whose texts a shell takes, of a host with guests' disks by these names in this storage."""
    configs = {f"/nodes/{{node}}/qemu/{vmid}/config": {"scsi0": f"pool:{name}"} for vmid, name in disks.items()}
    node = FakeNode(host.folder, **configs, **{"/storage/pool": storage})
    data = {**wanted(host.folder, program=str(host.folder / "program")), "fault": {"kind": kind, "options": options}}
    made = host.drill.faults.prepare(host.drill.plan.from_json(data), node)
    for text in (made.inject, made.relief, made.undo):
        takes(text)
    assert made.targets
    return made


def program(host: Stands, **modules: str) -> None:
    """What stands for the program: it does nothing, and has these modules."""
    folder = host.folder / "program/drill"
    folder.mkdir(parents=True)
    (folder.parent / "__main__.py").write_text("")
    for name, text in {"__init__": "", **modules}.items():
        (folder / f"{name}.py").write_text(text)
