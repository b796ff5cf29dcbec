# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules one after the other in a real playbook, on a node that is empty at first."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import Lab, failures, stats

pytestmark = pytest.mark.release

PLAY = Path(__file__).with_name("play_of_everything.yml")
CHANGES = 7


def test_foreseen_on_an_empty_node_then_done_then_nothing_left_to_do(lab: Lab, api: Any, tmp_path: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "disk.qcow2", "16M"], check=True)
    arguments = ["-e", f"folder={tmp_path}", "--diff"]

    foreseen = lab.playbook(PLAY, "--check", *arguments)
    assert failures(foreseen) == []
    assert (stats(foreseen)["changed"], stats(foreseen)["failures"]) == (CHANGES, 0)
    assert [s["storage"] for s in api.storage.get()] == ["local"]
    assert (api.nodes(lab.node).qemu.get(), api.pools.get()) == ([], [])
    warned = [w for t in foreseen["plays"][0]["tasks"] for r in t["hosts"].values() for w in r.get("warnings", [])]
    assert all("unless an earlier task sees to it" in str(w) for w in warned)
    assert any("there is no storage 'depot'" in str(w) for w in warned)

    done = lab.playbook(PLAY, *arguments)
    assert failures(done) == []
    assert stats(done)["changed"] == CHANGES
    again = lab.playbook(PLAY, *arguments)
    assert failures(again) == []
    assert stats(again)["changed"] == 0
