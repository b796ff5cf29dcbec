# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C at any moment of the demo leaves no process and no half-written state."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests.stories.demo_parts import ROOT, Demo, small_lab


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


def test_it_is_taken_down_in_the_second_run(demo: Demo, tmp_path: Path) -> None:
    interrupted_at(demo, "Second run", LAB_INVENTORY=str(small_lab(tmp_path)))
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
