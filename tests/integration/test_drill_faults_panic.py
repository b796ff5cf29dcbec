# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's kernel that crashes: what is asked of the node, and when its guest is reset."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    FakeNode,
    Package,
    Stands,
    package,
    takes,
    wanted,
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stands:
    (tmp_path / "drills" / RUN).mkdir(parents=True)
    return Stands(drill, tmp_path, monkeypatch)


class Agent(FakeNode):
    """A node whose guest has an agent; ``refuses`` says why it does not."""

    refuses: Exception | None = None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        assert (method, path, body) == ("POST", "/nodes/{node}/qemu/103/agent/ping", None)
        if self.refuses:
            raise self.refuses
        return {"result": {}}


_ASKED = """import sys
from pathlib import Path
here = Path({folder!r})
verb, _plan, *words = sys.argv[1:]
path = words[1].rpartition("/")[2] if verb == "ask" else words[0]
with (here / "asked").open("a") as file:
    file.write(f"{{verb}} {{path}}\\n")
state = (here / "state").read_text()
if path == "exec":
    assert words[2:] == ["command=/bin/sh", "input-data=echo c > /proc/sysrq-trigger"], words
    (here / "state").write_text("dead")
if path == "reset" and state != "stopped":
    (here / "state").write_text("alive")
if path == "start" and state == "stopped":
    (here / "state").write_text("alive")
good = {{"ping": state == "alive", "reset": state in ("alive", "dead"), "resume": state != "stopped"}}
sys.exit(not good.get(path, path != "start" or state == "stopped") or path == "exec" or state == "silent")
"""


@pytest.fixture
def guest(host: Stands) -> Path:
    """What becomes of guest 103: alive, dead (its kernel is), stopped, or silent (the node does not answer)."""
    (host.folder / "drill.py").write_text(_ASKED.format(folder=str(host.folder)))
    state = host.folder / "state"
    state.write_text("alive")
    return state


def asked(guest: Path) -> list[str]:
    """What the node was asked since the last time."""
    path = guest.with_name("asked")
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def panic(host: Stands, node: FakeNode | None = None) -> Any:
    plan = host.drill.plan.from_json(
        {**wanted(host.folder), "fault": {"kind": "guest_panic", "options": {"stall_s": 1}}}
    )
    fault = host.drill.faults.prepare(plan, node or Agent())
    takes(fault.inject)
    takes(fault.undo)
    return fault


def test_a_kernel_that_crashes_is_reset(host: Stands, guest: Path) -> None:
    fault = panic(host)
    host.do(fault.undo)
    assert asked(guest) == ["restore 103"], "a guest that nobody has crashed is not reset"
    host.do(fault.inject)
    assert (guest.read_text(), asked(guest)) == ("dead", ["ask exec"]), "that no answer came is no failure"
    host.do(fault.undo)
    assert (guest.read_text(), asked(guest)) == ("alive", ["ask ping", "ask reset", "ask resume", "restore 103"])
    host.do(fault.undo)
    assert asked(guest) == ["restore 103"], "it is reset once"


def test_a_kernel_that_has_booted_again_by_itself_is_not_reset(host: Stands, guest: Path) -> None:
    fault = panic(host)
    host.do(fault.inject)
    guest.write_text("alive")
    asked(guest)
    host.do(fault.undo)
    assert asked(guest) == ["ask ping", "restore 103"]


def test_a_guest_whose_qemu_has_ended_with_its_kernel_is_started(host: Stands, guest: Path) -> None:
    fault = panic(host)
    host.do(fault.inject)
    guest.write_text("stopped")
    asked(guest)
    host.do(fault.undo)
    assert asked(guest) == ["ask ping", "ask reset", "ask start", "restore 103"] and guest.read_text() == "alive"


def test_a_reset_that_the_node_does_not_take_is_tried_again(host: Stands, guest: Path) -> None:
    fault = panic(host)
    host.do(fault.inject)
    guest.write_text("silent")
    assert subprocess.run(["/bin/sh", "-c", fault.undo], check=False, env=os.environ).returncode == 1
    guest.write_text("dead")
    asked(guest)
    host.do(fault.undo)
    assert "ask reset" in asked(guest)


def test_a_dead_kernel_is_seen_by_its_silence_and_not_by_the_node(host: Stands, drill: Package) -> None:
    silent, called = panic(host).signs
    now = time.monotonic()
    for status in ("running", "guest-panicked"):
        seen = heard(drill, [now - 5, now - 3], status)
        assert silent.test(seen, now - 4).startswith("no acknowledgement for 3.")
        assert called.test(seen, now - 4) == f"qmpstatus {status}"
    assert called.test(heard(drill, [now - 3], "stopped"), now - 4) is None
    speaking = heard(drill, [now - 5, now])
    assert (silent.test(speaking, now - 4), called.test(speaking, now - 4)) == (None, None)


def test_a_guest_without_an_agent_is_not_crashed(host: Stands, drill: Package) -> None:
    node = Agent()
    node.refuses = drill.node.Silent("answers 500 QEMU guest agent is not running")
    with pytest.raises(drill.shell.Trouble, match=r"guest 103 has no agent that answers, .* is not running"):
        panic(host, node)


def heard(drill: Package, times: list[float], status: str = "running") -> Any:
    """A recorder that has heard guest 103 at these times."""
    made = drill.recorder.Recorder(drill.plan.from_json(wanted(Path("/none"))))
    made.heard[103].acks = [drill.canary.Ack(at, number, "0a1b2c3d", 1.0, 7, 0) for number, at in enumerate(times)]
    made.status[103] = status
    return made
