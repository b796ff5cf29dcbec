# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C at any moment of the demo leaves no process and no half-written state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.demo_parts import ROOT, Demo

EMBEDDED = ROOT / "inventories" / "embedded"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.sweep()


@pytest.mark.parametrize(
    "moment",
    [
        "Guest image",
        "Embedded node",
        "First run",
        "Bring the images",
        "Make each guest as declared: web1",
    ],
)
def test_it_is_taken_down(demo: Demo, moment: str) -> None:
    interrupted_at(demo, moment)


@pytest.fixture
def small_lab(tmp_path: Path) -> Path:
    """An inventory with one guest that boots nothing, so that the first run is soon over."""
    folder = tmp_path / "inventory"
    variables = folder / "group_vars" / "proxmox"
    variables.mkdir(parents=True)
    (folder / "hosts.yml").symlink_to(EMBEDDED / "hosts.yml")
    (variables / "connection.yml").symlink_to(EMBEDDED / "group_vars/proxmox/connection.yml")
    lab = {"guests_list": [{"name": "web1", "memory": 32, "status": "running"}]}
    (variables / "lab.yml").write_text(json.dumps(lab), encoding="utf-8")
    return folder


def test_it_is_taken_down_in_the_second_run(demo: Demo, small_lab: Path) -> None:
    interrupted_at(demo, "Second run", LAB_INVENTORY=str(small_lab))
    assert "Make each guest as declared: web1" in demo.said(), "there was a guest to take down"


def interrupted_at(demo: Demo, moment: str, **environment: str) -> None:
    process = demo.start(**environment)
    demo.wait_for(process, moment)
    assert demo.interrupt(process) == 130, demo.said()
    assert "Nothing is left running" in demo.said()
    demo.is_gone()


def test_what_a_killed_demo_left_is_removed_by_the_next_one(demo: Demo) -> None:
    process = demo.start()
    demo.wait_for(process, "Make each guest as declared: web1")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    node = int((demo.lab / "demo/pid").read_text())
    os.kill(node, signal.SIGKILL)
    again = demo.start()
    demo.wait_for(again, "what an earlier run left is removed")
    assert demo.interrupt(again) == 130
    demo.is_gone()


def test_an_interrupted_image_build_leaves_the_cache_clean(tmp_path: Path) -> None:
    built = subprocess.run([ROOT / "labnode/image/build", "--quiet"], capture_output=True, text=True, check=True)
    cache = tmp_path / "cache"
    (cache / "debs").mkdir(parents=True)
    for deb in (Path(built.stdout.strip()).parent / "debs").glob("*.deb"):
        (cache / "debs" / deb.name).symlink_to(deb)
    process = subprocess.Popen([ROOT / "labnode/image/build", "--cache", cache], start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(cache.glob("build-*/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert sorted(path.name for path in cache.iterdir()) == [".lock", "debs"]
