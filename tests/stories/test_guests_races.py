# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets that are not alone: two runs and a person make guests in one range of ids, or guests of one name, at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from proxmoxer.core import ResourceException

from ansible_collections.pvelab.proxmox.tests.integration.guests_parts import BARE, clear, guests, passed, there, whole
from ansible_collections.pvelab.proxmox.tests.lab import Lab, finished
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy, Seen

pytestmark = pytest.mark.release

RANGE = [200, 399]


@pytest.fixture(autouse=True)
def bare(lab: Lab) -> Iterator[None]:
    """Each test has the node for itself, whatever became of the one before."""
    clear(lab)
    yield
    clear(lab)


DISK = {"slot": "scsi0", "storage": "local", "size": "1M"}
MANY = 50
BY_HAND = 20


def test_two_runs_and_a_person_share_a_range_of_ids(lab: Lab) -> None:
    """Both runs plan before either writes: the first writes of one wait for those of the other."""
    tasks = [
        {
            "defaults": {**BARE, "vmid_range": RANGE, "disks": [DISK]},
            "guests": [{"name": f"{run}{i}"} for i in range(MANY)],
        }
        for run in ("left", "right")
    ]
    both = threading.Barrier(3)
    waited: set[str] = set()

    def meet(who: str) -> None:
        if who not in waited:
            waited.add(who)
            both.wait(60)

    by_hand: list[str] = []

    def person() -> None:
        """Somebody else's client, which takes the lowest id that is free and tries the next one when it is not."""
        api, vmid = lab.api(timeout_s=60), RANGE[0]
        both.wait(60)
        for i in range(BY_HAND):
            while not made_by_hand(api, vmid, f"hand{i}"):
                vmid += 1
            by_hand.append(f"hand{i}")

    with Proxies(lab, meet) as (left, right):
        third = threading.Thread(target=person)
        third.start()
        runs = [lab.begin_module("guests", t, port=p.port) for t, p in zip(tasks, (left, right), strict=True)]
        results = [passed(finished(run)) for run in runs]
        third.join(120)
    assert len(by_hand) == BY_HAND
    seen = there(lab)
    assert len(seen) == 2 * MANY + BY_HAND
    for result in results:
        assert result["msg"] == f"{MANY} guests: {MANY} created."
        assert [seen[g["name"]] for g in result["guests"]] == [[g["vmid"]] for g in result["guests"]]
    assert any("somebody else was faster" in str(result["warnings"]) for result in results)
    whole(lab, {g["name"] for result in results for g in result["guests"]} | set(by_hand))
    assert all(passed(guests(lab, t))["changed"] is False for t in tasks)
    clear(lab)


class Proxies:
    """One proxy for each run, which lets the first write of each pass only when ``meet`` returns."""

    def __init__(self, lab: Lab, meet: Any) -> None:
        self.both = [Proxy(lab, lambda seen, who=who: self._cut(seen, who)) for who in ("left", "right")]
        self.meet = meet

    def _cut(self, seen: Seen, who: str) -> str:
        if seen.writes:
            self.meet(who)
        return ""

    def __enter__(self) -> list[Proxy]:
        return [proxy.__enter__() for proxy in self.both]

    def __exit__(self, *error: Any) -> None:
        for proxy in self.both:
            proxy.__exit__(*error)


def made_by_hand(api: Any, vmid: int, name: str) -> bool:
    try:
        api.nodes("pve1").qemu.post(vmid=vmid, name=name, memory=32)
    except ResourceException as error:
        # Somebody else has it, or is just making it.
        assert "already exists" in str(error) or "got timeout" in str(error), error
        return False
    return True


def test_two_runs_make_guests_of_the_same_names(lab: Lab) -> None:
    """Each name is there once in the end, whichever run has made it, and both runs say that all is well."""
    # In the other order each name would get another id, so that nothing keeps them apart.
    some = [{"name": f"twin{i}"} for i in range(12)]
    tasks = [
        {"defaults": {**BARE, "vmid_range": RANGE, "disks": [DISK]}, "guests": order} for order in (some, some[::-1])
    ]
    both = threading.Barrier(2)
    waited: set[str] = set()

    def meet(who: str) -> None:
        if who not in waited:
            waited.add(who)
            both.wait(60)

    with Proxies(lab, meet) as proxies:
        runs = [lab.begin_module("guests", t, port=p.port) for t, p in zip(tasks, proxies, strict=True)]
        results = [passed(finished(run)) for run in runs]
    whole(lab, {g["name"] for g in some})
    assert any("was removed again" in str(result["warnings"]) for result in results)
    seen = there(lab)
    for result in results:
        assert all([g["object"]["vmid"]] == seen[g["name"]] for g in result["guests"]), result["lines"]
    assert all(passed(guests(lab, t))["changed"] is False for t in tasks)


def test_a_guest_of_the_name_that_was_made_by_hand_stays(lab: Lab) -> None:
    """It comes between the look at the node and the creation; the run gives way and goes on with that guest."""
    task = {"guests": [{"name": "mine", "vmid_range": RANGE, **BARE, "cores": 2}]}
    api = lab.api()

    def cut(seen: Seen) -> str:
        if seen.writes and seen.path == "/nodes/pve1/qemu":
            assert made_by_hand(api, 150, "mine")
        return ""

    with Proxy(lab, cut) as proxy:
        result = passed(guests(lab, task, port=proxy.port))
    assert there(lab) == {"mine": [150]}
    assert result["guests"][0]["vmid"] == 150 and result["guests"][0]["object"]["cores"] == 2
