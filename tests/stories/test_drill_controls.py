# SPDX-License-Identifier: GPL-3.0-or-later
"""Negative controls of every drill of the catalogue: its fault as it is, on a host that is none. Once nothing is wrong
with the drill; once its injection does nothing; once its way back does nothing; and for some of them once it is the
dead man's switch that brings everything back. Only the first may be called a pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package
from ansible_collections.pvelab.proxmox.tests.integration.drill_trials import WORLDS, loaded, run, side_by_side, world
from ansible_collections.pvelab.proxmox.tests.integration.drill_world import CATALOG


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from loaded()


def test_every_drill_of_the_catalogue_has_a_world() -> None:
    """A new drill needs one, so that it can be seen to fail when it should."""
    assert set(WORLDS) == set(CATALOG)


def nothing(_fault: Any) -> str:
    return ":"


def no_relief_that_is_the_way_back(fault: Any) -> str:
    return ":" if fault.relief == fault.undo else str(fault.relief)


def only_the_timer(fault: Any) -> str:
    """The way back, which does nothing for the runner."""
    return f'[ "${{1:-}}" != runner ] || exit 0\n{fault.undo}'


def as_it_is(drill: Package, name: str, folder: Path) -> Any:
    with world(drill, name, folder) as here:
        return run(here)


def without_a_fault(drill: Package, name: str, folder: Path) -> Any:
    with world(drill, name, folder) as here:
        here.sabotage(inject=nothing)
        return run(here, observe_s=1.5)


def without_a_way_back(drill: Package, name: str, folder: Path) -> Any:
    with world(drill, name, folder) as here:
        here.sabotage(undo=nothing, relief=no_relief_that_is_the_way_back)
        found = run(here, verify_s=1.0)
        return {
            **found,
            "unseen": [row for row in found["signature"] if row["name"] in here.known_by and not row["seen"]],
        }


def by_the_timer(drill: Package, name: str, folder: Path) -> Any:
    with world(drill, name, folder) as here:
        here.sabotage(undo=only_the_timer, relief=no_relief_that_is_the_way_back)
        return run(here, observe_s=2.0, undo_after_s=4.0)


CONTROLS = {"a": as_it_is, "b": without_a_fault, "c": without_a_way_back}
# One for each kind of what is broken: a process, a disk, a port, services, an address, the host.
TIMED = (
    "guest_crash",
    "storage_full",
    "network_isolation",
    "control_plane_down",
    "network_management",
    "hypervisor_crash",
)


@pytest.mark.parametrize("name", CATALOG)
def test_only_a_drill_that_breaks_and_puts_back_is_a_pass(drill: Package, tmp_path: Path, name: str) -> None:
    found = side_by_side(tmp_path, {key: partial(control, drill, name) for key, control in CONTROLS.items()})
    good, unbroken, broken = (found[key] for key in CONTROLS)
    assert good["verdict"] == "passed", good["because"]
    assert unbroken["verdict"] == "fault_not_observed", unbroken["because"]
    assert {row["name"]: row["ok"] for row in unbroken["states"]}["verify"], "nothing was wrong"
    assert broken["verdict"] == "not_recovered", broken["because"]
    assert broken["unseen"] == [], "it was broken, and all that it is known by was seen"


def test_a_way_back_that_only_the_timer_went_is_told_from_a_recovery(drill: Package, tmp_path: Path) -> None:
    found = side_by_side(tmp_path, {name: partial(by_the_timer, drill, name) for name in TIMED})
    assert {name: data["verdict"] for name, data in found.items()} == dict.fromkeys(TIMED, "recovered_by_deadman")
