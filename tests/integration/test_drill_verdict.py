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
    (
        "inconclusive",
        {"coarse": ("guest 104 is heard every 4.0 s",)},
        "Too little was heard to tell an outage from none",
    ),
    ("inconclusive", {"unseen": ("guest 104 is known through the node",)}, "Nobody could look while it mattered"),
    ("fault_not_observed", {"missing": ("the pool is full",)}, "the pool is full was not seen"),
    ("fault_not_observed", {"unharmed": ("guest 103",)}, "guest 103 went on"),
    ("hypothesis_refuted", {"disturbed": ("guest 101 stood still for 4.0 s",)}, "guest 101 stood still for 4.0 s"),
    ("inconclusive", {"untried": "LookupError: x"}, "the remedy was not tried: LookupError: x"),
    (
        "hypothesis_refuted",
        {"unhelped": ("writes of guest 103 are quick again",)},
        "The remedy did not help: writes of guest 103 are quick again was not seen.",
    ),
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
    assert tried | {"blind_s", "helped", "proven", "unknown"} == known, "a new fact needs a line in the table"


def test_a_remedy_is_named_where_it_helped_and_only_there(drill: Package) -> None:
    def judged(**known: Any) -> tuple[str, str]:
        return tuple(drill.verdict.judge(drill.verdict.Facts(restored=True, **known)))  # type: ignore[return-value]

    assert judged(proven=1)[1].startswith("The fault was seen, its signs were seen, service came back,")
    assert judged(helped=True, proven=3) == (
        "passed",
        "The fault was seen, its signs were seen, the remedy helped, service came back, and no acknowledged write is "
        "missing.",
    )
    unseen = judged(missing=("the guest is slow",), unhelped=("the guest is quick again",))
    assert unseen == ("fault_not_observed", "The fault did not show: the guest is slow was not seen.")


def test_of_data_no_more_is_said_than_was_looked_at(drill: Package) -> None:
    def said(**known: Any) -> str:
        verdict, because = drill.verdict.judge(drill.verdict.Facts(restored=True, **known))
        assert verdict == "passed"
        return str(because).removeprefix("The fault was seen, its signs were seen, ")

    assert said() == "and service came back."
    assert said(proven=2) == "service came back, and no acknowledged write is missing."
    assert said(unknown=("guest 105",)) == "and service came back. Whether guest 105 lost anything is not known."
    assert said(proven=1, unknown=("guest 105", "guest 106")) == (
        "service came back, and no acknowledged write of the others is missing. Whether guest 105, guest 106 lost "
        "anything is not known."
    )
