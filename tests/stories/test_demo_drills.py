# SPDX-License-Identifier: GPL-3.0-or-later
"""Failure drills on the node that the demo leaves up, and Ctrl-C in the middle of one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ansible_collections.pvelab.proxmox.tests.lab import BIN
from ansible_collections.pvelab.proxmox.tests.stories.demo_parts import ROOT, Demo, living_lab

pytestmark = pytest.mark.release


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.sweep()


def test_it_is_taken_down_in_the_middle_of_a_drill(demo: Demo, tmp_path: Path) -> None:
    process = demo.start(LAB_INVENTORY=str(living_lab(tmp_path)))
    demo.wait_for_a_fault(process, "guest_hang")
    assert demo.interrupt(process) == 130, demo.said()
    assert "Nothing is left running" in demo.said()
    demo.is_gone()


def test_drills_on_a_node_that_is_kept(demo: Demo, tmp_path: Path) -> None:
    inventory = str(living_lab(tmp_path))
    said = demo.run(KEEP="1", LAB_INVENTORY=inventory)
    assert said.count("✓ passed: web1 was out for") == 2
    assert "playbooks/drill.yml -e drill_name=guest_crash --check" in said
    is_shown_and_not_done(demo, inventory)
    is_undone_by_ctrl_c(demo, inventory)
    is_aborted(demo, inventory)
    demo.run("demo-down")
    demo.is_gone()


def playbook(demo: Demo, inventory: str, name: str, *more: str) -> list[str]:
    reports = json.dumps({"drill_reports": str(demo.logs / "more")})
    return [str(BIN / "ansible-playbook"), "-i", inventory, str(ROOT / "playbooks" / name), "-e", reports, *more]


def environment(demo: Demo) -> dict[str, str]:
    return {**os.environ, "LAB_STATE": str(demo.lab), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


def said_by(demo: Demo, command: list[str]) -> str:
    done = subprocess.run(command, env=environment(demo), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def guest(demo: Demo) -> psutil.Process:
    """The process of web1, which runs and is not held."""
    process = psutil.Process(int((demo.lab / "run/101/qemu.pid").read_text(encoding="ascii")))
    assert process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    return process


def under_way(demo: Demo) -> list[str]:
    return [line for line in demo.processes() if f"{demo.lab}/drill/" in line]


def is_shown_and_not_done(demo: Demo, inventory: str) -> None:
    before, process = sorted(demo.runs.iterdir()), guest(demo)
    said = said_by(demo, playbook(demo, inventory, "drill.yml", "-e", "drill_name=guest_crash", "--check"))
    assert f'"kill -KILL {process.pid}"' in said and '"would": "run"' in said
    assert sorted(demo.runs.iterdir()) == before
    assert guest(demo) == process


def is_undone_by_ctrl_c(demo: Demo, inventory: str) -> None:
    """A demo on a node that was up before leaves it up, and its guest as it was."""
    process = demo.start(LAB_INVENTORY=inventory)
    demo.wait_for_a_fault(process, "guest_hang")
    assert demo.interrupt(process) == 130, demo.said()
    assert "The node is up, as it was before" in demo.said()
    assert under_way(demo) == []
    guest(demo)
    verdict = json.loads((max(demo.runs.iterdir()) / "journal.json").read_text(encoding="utf-8"))["verdict"]
    assert verdict == "inconclusive"


def is_aborted(demo: Demo, inventory: str) -> None:
    command = playbook(demo, inventory, "drill.yml", "-e", "drill_name=guest_crash", "-e", "drill_expect=inconclusive")
    with subprocess.Popen(command, env=environment(demo), cwd=ROOT, stdout=subprocess.PIPE, text=True) as play:
        demo.wait_for_a_fault(play, "guest_crash")
        said_by(demo, playbook(demo, inventory, "drill_abort.yml"))
        assert under_way(demo) == []
        guest(demo)
        out, _none = play.communicate()
    assert play.returncode == 0, out
    assert "inconclusive. It was stopped in the middle, and everything is as it was" in out
    again = said_by(demo, playbook(demo, inventory, "drill_abort.yml"))
    assert "changed=0 " in again
