# SPDX-License-Identifier: GPL-3.0-or-later
"""The module snapshots against a node: a list is foreseen, done at once, done again; one that fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.guests_parts import BARE, clear, guests
from ansible_collections.pvelab.proxmox.tests.integration.module_parts import passed
from ansible_collections.pvelab.proxmox.tests.lab import Lab
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy

NAMES = [f"many{i}" for i in range(10)]
TASK: dict[str, Any] = {"guests": NAMES, "snapname": "clean", "description": "As it was made"}


@pytest.fixture(scope="module")
def ids(lab: Lab) -> Iterator[list[int]]:
    """Ten guests, each with a disk that is nothing but a file."""
    disk = {"slot": "scsi0", "storage": "local", "size": "4M", "format": "qcow2"}
    made = guests(lab, {"defaults": {**BARE, "disks": [disk]}, "guests": [{"name": name} for name in NAMES]})
    yield [int(guest["vmid"]) for guest in passed(made)["guests"]]
    clear(lab)


def held(lab: Lab, ids: list[int]) -> list[list[str]]:
    """The snapshots of each guest."""
    node = lab.api().nodes(lab.node)
    return [[s["name"] for s in node.qemu(vmid).snapshot.get() if s["name"] != "current"] for vmid in ids]


def most_at_once(lab: Lab, ids: list[int]) -> int:
    """How many tasks of these guests went on at the same time, by the node's own list."""
    rows = [t for t in lab.api().nodes(lab.node).tasks.get(limit=100) if t["type"] == "qmsnapshot"]
    mine = [t for t in rows if int(t["id"]) in ids]
    return max(sum(1 for o in mine if o["starttime"] <= t["starttime"] <= o["endtime"]) for t in mine)


def test_a_list_gets_a_snapshot_keeps_it_and_loses_it(lab: Lab, ids: list[int]) -> None:
    foreseen = passed(lab.module("snapshots", TASK, check=True))
    assert held(lab, ids) == [[]] * len(ids), "check mode wrote something"
    made = passed(lab.module("snapshots", TASK))
    assert made["msg"] == foreseen["msg"] == "10 guests: 10 created."
    assert [g["steps"] for g in made["guests"]] == [g["steps"] for g in foreseen["guests"]]
    assert [g["vmid"] for g in made["guests"]] == ids
    assert held(lab, ids) == [["clean"]] * len(ids)
    assert most_at_once(lab, ids) > 1

    with Proxy(lab) as proxy:
        again = passed(lab.module("snapshots", {**TASK, "guests": ids}, port=proxy.port))
    assert (again["changed"], again["diff"]) == (False, [])
    assert len([s for s in proxy.seen if s.path != "/access/ticket"]) == 1 + len(ids), proxy.seen

    one = lab.module("snapshot", {"vmid": ids[3], "snapname": "clean", "state": "absent", "allow_data_loss": True})
    assert passed(one)["changed"]
    assert passed(lab.module("snapshots", TASK))["msg"] == "10 guests: 9 as they were, 1 created."

    kept = {"guests": NAMES, "snapname": "next", "retention": {"keep": 1, "pattern": "*"}}
    assert passed(lab.module("snapshots", kept))["lines"][0] == f"many0 ({ids[0]}): created"
    assert held(lab, ids) == [["next"]] * len(ids)

    gone = {"guests": NAMES, "snapname": "next", "state": "absent"}
    refused = lab.module("snapshots", gone)
    assert (
        refused["failed"] and "10 of 10 guests failed" in refused["msg"] and "destroy snapshot next" in refused["msg"]
    )
    assert held(lab, ids) == [["next"]] * len(ids)
    assert passed(lab.module("snapshots", {**gone, "allow_data_loss": True}))["msg"] == "10 guests: 10 removed."
    assert held(lab, ids) == [[]] * len(ids)


def test_the_others_are_finished_where_one_cannot_be(lab: Lab, ids: list[int]) -> None:
    locked = lab.api().nodes(lab.node).qemu(ids[2]).config
    locked.put(lock="backup")
    try:
        task = {**TASK, "snapname": "most", "guests": [*NAMES, "nobody"], "api_lock_timeout": 1}
        result = lab.module("snapshots", task)
    finally:
        locked.put(delete="lock", skiplock=1)
    assert result["failed"] and result["msg"].startswith("2 of 11 guests failed: ")
    assert f"guest {ids[2]} (many2)" in result["msg"] and "there is no guest called 'nobody'" in result["msg"]
    assert held(lab, ids) == [[] if i == 2 else ["most"] for i in range(len(ids))]
    assert passed(lab.module("snapshots", {**TASK, "snapname": "most"}))["lines"][2] == f"many2 ({ids[2]}): created"
