# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of every module that works on a host are carried out as they stand, on a lab machine of their own.

EXAMPLES_LAB names a lab that is up already, and is left up: for work on one world. It takes the lab's disks. Takes half
an hour to an hour where the lab is emulated.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT
from ansible_collections.pvelab.proxmox.tests.stories.example_parts import (
    EXAMPLES,
    GROUP,
    carry_out,
    filled,
    play,
    worlds,
)
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals

pytestmark = pytest.mark.release

WORLDS = worlds("host_example_worlds.yml")
OURS = "host-examples"
LAB_S = 3600
OPTIONS = ("host", "port", "user", "password", "fingerprint")
# A guest of the lab's node is made from here.
NODE = {
    "module_defaults": {
        "group/pvelab.proxmox.api": {f"api_{name}": f"{{{{ hostvars.pve1.proxmox_api_{name} }}}}" for name in OPTIONS}
    }
}


def lab(name: str, *words: str) -> str:
    """What the lab's tool answers."""
    said = subprocess.run(
        [ROOT / "lab/lab", "--name", name, *words], capture_output=True, text=True, timeout=LAB_S, check=False
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return said.stdout.strip()


@pytest.fixture(scope="module")
def machine() -> Iterator[dict[str, Any]]:
    """Where the lab is reached. It is gone afterwards, however it went."""
    kept = os.environ.get("EXAMPLES_LAB")
    name = kept or OURS
    try:
        lab(name, "up" if kept else "reset")
        yield json.loads((Path(lab(name, "path")) / "endpoint.json").read_text(encoding="utf-8"))
    finally:
        if not kept:
            lab(name, "down")


@pytest.fixture(scope="module")
def environment(machine: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that lead to the lab; one connection serves all plays."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("PROXMOX_", "ANSIBLE_", "PYTEST_", "PVELAB_LAB"))
    }
    return {
        **inherited,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT / ".build"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        # An emulated machine is slow to answer.
        "ANSIBLE_TIMEOUT": "30",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(tmp_path_factory.mktemp("ssh")),
        "PVELAB_LAB": str(machine["name"]),
    }


@pytest.fixture
def places(machine: dict[str, Any], tmp_path: Path) -> dict[str, str]:
    """What stands for the places in the worlds."""
    journals(tmp_path / "drills")
    return {
        "folder": str(tmp_path),
        "root": str(ROOT),
        "lab": str(machine["name"]),
        "api_port": str(machine["api_port"]),
        "ssh_port": str(machine["ssh_port"]),
    }


def journals(folder: Path) -> None:
    """What two drills have left."""
    for run in ("20261122T021500Z-storage_full-1a2b3c", "20261122T021500Z-network_cut-4d5e6f"):
        (folder / run).mkdir(parents=True)
        (folder / run / "journal.json").write_text(json.dumps(drill_journals.storage_full(run)), encoding="utf-8")
        (folder / run / "samples.jsonl").write_text(drill_journals.samples(stalled=True), encoding="utf-8")


def test_every_module_of_hosts_has_a_world() -> None:
    assert set(WORLDS) == set(EXAMPLES) - set(GROUP)


@pytest.mark.parametrize("module", sorted(set(EXAMPLES) - set(GROUP)))
def test_the_examples_work(environment: dict[str, str], places: dict[str, str], tmp_path: Path, module: str) -> None:
    world = filled(WORLDS[module], places)
    made = play(module, world, {"hosts": world.get("hosts", "hypervisors"), **NODE})
    carry_out(made, tmp_path, str(ROOT / "inventories/lab"), environment, len(world.get("skipped", ())))
