# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill is allowed to say of itself: never more than was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import combinations
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, package

# From the worst to the most flattering: what is known beside "everything is as it was", and what it comes to.
LADDER: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("skipped", {"skipped": "there is no ZFS"}, "there is no ZFS"),
    ("not_recovered", {"residue": ("queues: tap103i0 netem (was not there)",)}, "tap103i0 netem"),
    ("aborted_preflight", {"refused": "no emergency stop? no"}, "Nothing was touched"),
    ("not_recovered", {"restored": False, "not_restored": "guest 103 is stopped"}, "guest 103 is stopped"),
    ("not_recovered", {"lost": 1}, "1 acknowledged records are not on the disk, 0 are damaged"),
    ("not_recovered", {"corrupt": 2}, "0 acknowledged records are not on the disk, 2 are damaged"),
    ("inconclusive", {"stopped": "it got a signal to end"}, "it got a signal to end"),
    ("recovered_by_deadman", {"by_deadman": True}, "undid it by itself"),
    ("inconclusive", {"gap_s": 2.1}, "saw nothing for 2.1 s"),
    ("fault_not_observed", {"missing": ("the pool is full",)}, "the pool is full was not seen"),
    ("fault_not_observed", {"unharmed": ("guest 103",)}, "guest 103 went on"),
    ("hypothesis_refuted", {"disturbed": ("guest 101 stood still for 4.0 s",)}, "guest 101 stood still for 4.0 s"),
    ("inconclusive", {"unchecked": ("guest 103",)}, "the disk of guest 103"),
)


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.mark.parametrize(("verdict", "known", "because"), LADDER)
def test_each_fact_alone(drill: Package, verdict: str, known: dict[str, Any], because: str) -> None:
    found, why = drill.verdict.judge(drill.verdict.Facts(**{"restored": True, **known}))
    assert found == verdict
    assert because in why


def test_of_two_facts_the_worse_one_counts(drill: Package) -> None:
    for (_worse, one, because), (_better, two, _why) in combinations(LADDER, 2):
        if {*one, *two} != {"lost", "corrupt"}:  # these two share one sentence
            found = drill.verdict.judge(drill.verdict.Facts(**{"restored": True, **two, **one}))
            assert because in found[1], (one, two)
    both = drill.verdict.Facts(restored=True, lost=1, corrupt=2)
    assert drill.verdict.judge(both)[1].startswith("1 acknowledged records are not on the disk, 2 are damaged")


@pytest.mark.parametrize(
    "flattering",
    [{"by_deadman": True}, {"stopped": "by hand"}, {"disturbed": ("guest 101",)}, {"gap_s": 9.0}, {"missing": ("x",)}],
)
def test_lost_data_is_never_excused(drill: Package, flattering: dict[str, Any]) -> None:
    for lost in ({"lost": 3}, {"corrupt": 1}):
        assert drill.verdict.judge(drill.verdict.Facts(restored=True, **lost, **flattering))[0] == "not_recovered"


def test_what_is_left_behind_is_worse_than_a_refusal(drill: Package) -> None:
    facts = drill.verdict.Facts(restored=True, refused="the rehearsal failed", residue=("limits: 103 cpu.max",))
    assert drill.verdict.judge(facts)[0] == "not_recovered"


def test_only_a_full_set_of_good_facts_passes(drill: Package) -> None:
    assert drill.verdict.judge(drill.verdict.Facts())[0] == "not_recovered", "nothing is known"
    assert drill.verdict.judge(drill.verdict.Facts(restored=True))[0] == "passed"
    assert drill.verdict.judge(drill.verdict.Facts(restored=True, gap_s=2.0))[0] == "passed", "short enough"
    blind = drill.verdict.Facts(restored=True, gap_s=4.0, blind_s=5.0)
    assert drill.verdict.judge(blind)[0] == "passed", "short enough for a host that takes its time"
    tried = {name for _verdict, known, _because in LADDER for name in known}
    known = {field.name for field in fields(drill.verdict.Facts)}
    assert tried | {"blind_s"} == known, "a new fact needs a line in the table"
