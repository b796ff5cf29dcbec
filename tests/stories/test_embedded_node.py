# SPDX-License-Identifier: GPL-3.0-or-later
"""Each drill that the embedded node can run honestly, on guests that boot; and two that must not be called a pass."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ansible_collections.pvelab.proxmox.tests.lab import BIN, until
from ansible_collections.pvelab.proxmox.tests.stories.demo_parts import EMBEDDED, ROOT, Demo

# The demo itself runs guest_hang and guest_crash before the node is kept.
GAME_DAY = [
    *("guest_panic", "stuck_lock", "backup_restore", "snapshot_chain"),
    *("control_plane_hung", "control_plane_killed"),
]
SHORT = {"baseline_s": 3, "observe_s": 8, "hold_s": 1, "recover_s": 15, "verify_s": 12, "undo_after_s": 240}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The example lab on a node that is up, two drills later."""
    made = Demo(tmp_path_factory.mktemp("drills"))
    try:
        said = made.run(KEEP="1")
        assert said.count("✓ passed: db1 was out for") == 2, said
        yield made
        made.run("demo-down")
        made.is_gone()
    finally:
        made.sweep()


def begin(demo: Demo, playbook: str = "drill.yml", **variables: Any) -> subprocess.Popen[str]:
    command = [str(BIN / "ansible-playbook"), "-i", str(EMBEDDED), str(ROOT / "playbooks" / playbook)]
    command += ["-e", json.dumps({"drill_reports": str(demo.logs / "reports"), **variables})]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "LAB_STATE": str(demo.lab), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(play: subprocess.Popen[str]) -> str:
    """What it said; that it ended well is looked at."""
    out, _none = play.communicate()
    assert play.returncode == 0, out
    return out


def journals(demo: Demo) -> dict[str, dict[str, Any]]:
    """The journals that were fetched, by the names of their drills; of several, the last."""
    found = sorted((demo.logs / "reports").glob("*/journal.json"))
    return {data["drill"]["name"]: data for path in found if (data := json.loads(path.read_text(encoding="utf-8")))}


def db1(demo: Demo) -> psutil.Process | None:
    try:
        return psutil.Process(int((demo.lab / "run/103/qemu.pid").read_text(encoding="ascii")))
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None


def test_a_game_day_of_all_that_it_can_have(demo: Demo) -> None:
    ended(begin(demo, drill_game_day=GAME_DAY, drill_confirm="pve1", drill_stall_s=4))
    found = journals(demo)
    assert {name: data["verdict"] for name, data in found.items()} == dict.fromkeys(GAME_DAY, "passed")
    for name, data in found.items():
        assert data["residue"]["left"] == [], name
        assert data["plan"]["fault"]["options"]["stall_s"] == 4.0, name
        assert all(row["seen"] for row in data["signature"]), name
        # The date in one answer says it to half a second and half of what the answer took, and after a short fault
        # there may be no more than a few.
        assert data["vantage"]["probes"][0]["answered"] > 20 and data["vantage"]["error_s"] < 0.6, name
        assert data["vantage"]["exchanges"] > 1, f"{name}: the clocks were not held against each other"
        canaries = [row["canary"] for row in data["guests"]]
        assert all(canary["checked"] and canary["acked"] > 20 and not canary["lost"] for canary in canaries), name
    assert found["guest_panic"]["metrics"]["outage_s"] > 1
    assert [row["text"] for row in found["guest_panic"]["events"]], "something was seen"


def test_a_drill_that_a_user_cannot_have_is_skipped_and_not_passed(demo: Demo) -> None:
    said = ended(begin(demo, drill_name="guest_starved", drill_expect="skipped"))
    assert "no control group of its own" in said


def meanwhile(play: subprocess.Popen[str], do: Callable[[], None]) -> str:
    """What a drill said during which somebody else did something, again and again."""
    while play.poll() is None:
        do()
        time.sleep(0.005)
    return ended(play)


def test_a_fault_that_does_nothing_is_no_pass(demo: Demo) -> None:
    def let_it_go_on() -> None:
        process = db1(demo)
        if process and process.status() == psutil.STATUS_STOPPED:
            process.resume()

    play = begin(demo, drill_name="guest_hang", drill_limits=SHORT, drill_expect="fault_not_observed")
    said = meanwhile(play, let_it_go_on)
    assert "fault_not_observed. The fault did not show" in said
    assert journals(demo)["guest_hang"]["marks"]["inject"]


def test_a_way_back_that_does_not_work_is_no_recovery_and_is_tried_again(demo: Demo) -> None:
    (disk,) = (demo.lab / "storage/lab/images/103").glob("vm-103-disk-0.*")
    away = Path(f"{disk}.away")

    def take_its_disk() -> None:
        if not away.exists() and db1(demo) is None:
            disk.rename(away)

    play = begin(demo, drill_name="guest_crash", drill_limits=SHORT, drill_expect="not_recovered")
    try:
        said = meanwhile(play, take_its_disk)
    finally:
        if away.exists():
            away.rename(disk)
    assert "guest_crash: not_recovered. " in said and "guest 103" in said
    undone = ended(begin(demo, "drill_abort.yml"))
    assert "changed=1 " in undone
    until(lambda: (process := db1(demo)) and process.status() != psutil.STATUS_ZOMBIE, "it runs again")
    assert "changed=0 " in ended(begin(demo, "drill_abort.yml"))
