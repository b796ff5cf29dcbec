# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of every drill of the catalogue killed in each of its states, without a word. What is left is the host:
the service's own last word, the timer, or the next boot. Each of them puts everything back, and leaves nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, soon, wanted
from ansible_collections.pvelab.proxmox.tests.integration.drill_trials import (
    loaded,
    program,
    runner,
    side_by_side,
    world,
)
from ansible_collections.pvelab.proxmox.tests.integration.drill_world import CATALOG, World

# Of each state: what does it, and whether the runner dies before or behind it.
STATES = {
    "preflight": ("_ahead", "behind"),
    "baseline": ("_baseline", "behind"),
    "arm": ("_arm", "behind"),
    "inject": ("_inject", "behind"),
    "observe": ("_watch", "before"),
    "relieve": ("_relieve", "behind"),
    "recover": ("_recover", "before"),
    "verify": ("_verify", "before"),
    "disarm": ("_disarm", "in the middle"),
}


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from loaded()


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(here: World, state: str) -> None:
    """From now on a runner does not survive this state."""
    name, when = STATES[state]
    if state == "disarm":
        # By its file it is not armed any more, and by its units it still is.
        here.have("supervisor.Systemd.disarm", lambda _self: dies())
        return
    # One that takes its host down never comes behind that.
    name, when = ("_sh", "before") if state == "inject" and here.kind == "reboot" else (name, when)
    real: Callable[..., Any] = getattr(here.drill.runner.Runner, name)

    def does(self: Any, *given: Any) -> Any:
        if when == "before":
            dies()
        found = real(self, *given)
        dies()
        return found

    here.patch.setattr(here.drill.runner.Runner, name, does)


# what is left -----------------------------------------------------------------------------------------------------


def by_the_service(here: World) -> None:
    """systemd runs what the service of a runner has for its end (ExecStopPost)."""
    assert program().close(here.file()) == 0


def by_the_timer(here: World) -> None:
    """Nobody does anything; later somebody has all of it forgotten."""
    if (here.home / "armed").exists():
        soon(lambda: _said(here, "timer"), "the timer has run the way back")
    assert program().abort(here.home.parent) == 0


def by_the_boot(here: World) -> None:
    """The host boots, by which its transient units are gone with what ran in them, and starts what is enabled."""
    for path in here.folder.glob("cgroup/*/pvelab-hog-*"):
        shutil.rmtree(path)
    for kind in ("timer", "service"):
        for path in here.systemd.state.glob(f"pvelab-*.{kind}"):
            path.unlink()
    for unit in here.systemd.state.glob("enabled.pvelab-*"):
        lines = (here.folder / "etc" / unit.name.removeprefix("enabled.")).read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("ExecStart=")]
        assert subprocess.run(shlex.split(line.partition("=")[2]), check=False).returncode == 0
    if (here.folder / "begin").exists():
        assert runner(here).resume() != "passed"
    assert program().abort(here.home.parent) == 0


def _said(here: World, who: str) -> bool:
    log = here.home / "undo.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return any(line.startswith("ended") and line.endswith(f" {who}") for line in lines)


WAYS = (by_the_service, by_the_timer, by_the_boot)


def cut_off(drill: Package, name: str, state: str, way: Callable[[World], None], folder: Path) -> str:
    """Kill the runner in a state, have the way back go its way, and see that everything is as it was."""
    with world(drill, name, folder) as here:
        # Only where nobody else goes the way back it is waited for.
        due = {"undo_after_s": 4.0 if way is by_the_timer else 60.0}
        plan = here.wanted(**due)
        here.home.mkdir(parents=True)
        here.file().write_text(json.dumps(wanted(folder, **plan)))
        looks = here.drill.faults.prepare(drill.plan.read(here.file()), here.node).looks
        before = here.around(looks)
        killed(here, state, **due)
        way(here)
        soon(lambda: not drill.residue.left(before, here.around(looks)), "everything is as it was")
        assert here.systemd.units() == [] and not (here.home / "armed").exists()
        for vmid in (101, 103):
            guest, was = here.guests[vmid], here.guests[vmid].seq
            soon(lambda guest=guest, was=was: guest.seq > was + 2, f"guest {vmid} goes on")
        assert program().abort(here.home.parent) == 0
        return str(json.loads((here.home / "journal.json").read_text())["verdict"])


def killed(here: World, state: str, **limits: float) -> None:
    """Run it until the runner is killed in this state."""
    first = [*STATES].index(state) <= [*STATES].index("inject") or here.kind != "reboot"
    with pytest.MonkeyPatch.context() as patch:
        real, here.patch = here.patch, patch
        if first:
            mortal(here, state)
        pid = here.process(**limits)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not first:
            mortal(here, state)
            again = os.fork()
            if not again:
                try:
                    runner(here, **limits).resume()
                finally:
                    os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(again, 0)[1])
        here.patch = real
    assert code == -signal.SIGKILL, here.read(f"drills/{here.home.name}/journal.json")


@pytest.mark.parametrize("name", CATALOG)
def test_a_runner_that_is_killed_leaves_a_host_that_puts_everything_back(
    drill: Package, tmp_path: Path, name: str
) -> None:
    place = [*CATALOG].index(name)
    states = [state for state in STATES if state != "relieve" or name in RELIEVED]
    cases = {
        state: partial(cut_off, drill, name, state, WAYS[(place + number) % len(WAYS)])
        for number, state in enumerate(states)
    }
    if CATALOG[name]["kind"] == "reboot":
        # What is to boot the host anyway is cut off by a boot in each of its states.
        cases |= {f"{state}-boot": partial(cut_off, drill, name, state, by_the_boot) for state in states}
    found = side_by_side(tmp_path, cases)
    # A host that boots goes on with a drill that was to boot it, and says what it finds.
    ends = {"inconclusive", "fault_not_observed"} if CATALOG[name]["kind"] == "reboot" else {"inconclusive"}
    assert set(found.values()) <= ends, found


# Those in which an operator does something meanwhile.
RELIEVED = ("cpu_overcommit", "memory_exhaustion", "snapshot_chain", "stuck_lock", "backup_restore")
