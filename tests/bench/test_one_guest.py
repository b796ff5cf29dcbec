# SPDX-License-Identifier: GPL-3.0-or-later
"""What one task for one guest asks of the node, and what it would by proxmox_kvm of community.proxmox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.bench.clients import Place, play
from ansible_collections.pvelab.proxmox.tests.bench.counting import Counter
from ansible_collections.pvelab.proxmox.tests.bench.fleet import NODE, Fleet
from ansible_collections.pvelab.proxmox.tests.bench.measure import place
from ansible_collections.pvelab.proxmox.tests.lab import until

OURS, THEIRS = "pvelab.proxmox.vm", "community.proxmox.proxmox_kvm"
FLEET = Fleet(1)
QEMU = f"/nodes/{NODE}/qemu"


@pytest.fixture(scope="module")
def at() -> Iterator[Place]:
    """A node with one guest: where a list shows none at all, we ask whether one would be seen (core/sight.py)."""
    with place() as found:
        found.lab.api().nodes(NODE).qemu.post(vmid=999, name="there")
        listed(found, "there")
        yield found


def guest(module: str, **said: Any) -> dict[str, Any]:
    """The options of either module for the same guest, with a disk and a network card; None leaves one out."""
    options = FLEET.ours(999) if module == OURS else FLEET.theirs(999)
    return {option: value for option, value in {**options, **said}.items() if value is not None}


def asked(at: Place, module: str, options: Mapping[str, Any]) -> list[str]:
    """What the task asks besides how its own task goes on."""
    with Counter(at.lab.log, at.lab.pid).counted() as found:
        play(at, {module: options})
    return found.needed


def listed(at: Place, name: str, **how: str) -> int:
    """The id of a guest, once the cluster's list has its name and how it is, which takes up to ten seconds."""
    sought = {"name": name, **how}
    rows = until(
        lambda: [r for r in at.lab.api().cluster.resources.get() if sought.items() <= r.items()], f"{sought} is listed"
    )
    return int(rows[0]["vmid"])


def test_a_guest_by_its_id(at: Place) -> None:
    ours, theirs = guest(OURS, vmid=1000, name="a"), guest(THEIRS, vmid=2000, name="b")
    made = asked(at, OURS, ours)
    assert made == [
        "GET /cluster/resources", f"GET /nodes/{NODE}/network", f"POST {QEMU}", f"GET {QEMU}/1000/pending",
    ]  # fmt: skip
    assert len(made) < len(asked(at, THEIRS, theirs))
    # Until the cluster knows how a guest is, the node has to be asked.
    listed(at, ours["name"])
    # Theirs looks at less for this: it takes a guest that is there for one that is right.
    same = asked(at, OURS, ours)
    assert same == ["GET /cluster/resources", f"GET {QEMU}/1000/pending"]
    assert len(same) <= len(asked(at, THEIRS, theirs))


def test_a_guest_that_runs(at: Place) -> None:
    """It costs no more than one that does not: the list of the cluster tells how it runs, too."""
    ours = guest(OURS, vmid=1001, name="runs", status="running")
    play(at, {OURS: ours})
    listed(at, "runs", status="running")
    unsaid = {option: value for option, value in ours.items() if option != "status"}
    left = asked(at, OURS, unsaid)
    assert left == ["GET /cluster/resources", f"GET {QEMU}/1001/pending"]
    # A task that says how it is to run has the node itself asked.
    held = asked(at, OURS, ours)
    assert held == [*left, f"GET {QEMU}/1001/status/current"]
    # So does one for a guest that is listed as anything but running or stopped.
    at.lab.api().nodes(NODE).qemu(1001).status.suspend.post()
    listed(at, "runs", status="paused")
    assert asked(at, OURS, unsaid) == held


def test_a_guest_by_its_name_alone(at: Place) -> None:
    ours, theirs = (guest(module, vmid=None, name=module[:6]) for module in (OURS, THEIRS))
    made = asked(at, OURS, ours)
    vmid = listed(at, ours["name"])
    # Before and after it is made, the node itself tells which names there are, so that there are not two of one.
    assert sorted(made) == sorted([
        "GET /cluster/resources", f"GET {QEMU}", f"GET /nodes/{NODE}/network", "GET /cluster/nextid",
        f"POST {QEMU}", f"GET {QEMU}/{vmid}/pending", f"GET {QEMU}",
    ])  # fmt: skip
    assert len(made) < len(asked(at, THEIRS, theirs))
    # As long as the cluster lists a guest without its name, the node has to be asked.
    listed(at, theirs["name"])
    same = asked(at, OURS, ours)
    assert same == ["GET /cluster/resources", f"GET {QEMU}/{vmid}/pending"]
    assert len(same) < len(asked(at, THEIRS, theirs))


def test_a_guest_by_its_name_and_a_range_of_ids(at: Place) -> None:
    made = asked(at, OURS, guest(OURS, vmid=None, name="c", vmid_range=[3000, 3009]))
    assert "GET /cluster/nextid" not in made
    assert (len(made), made.count(f"POST {QEMU}")) == (6, 1)
    assert listed(at, "c") == 3000
