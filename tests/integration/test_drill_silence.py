# SPDX-License-Identifier: GPL-3.0-or-later
"""From single tries to silences, and from dates that are cut off to how two clocks stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, package

PROBE = {"name": "web1", "kind": "tcp", "address": "10.0.0.1:80", "host": False, "every_s": 0.1}


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


def tried(drill: Package, words: str, ms: float = 2.0) -> list[Any]:
    """A letter a tenth of a second: "." an answer, "x" a refusal, "-" silence, a digit n an answer after n seconds."""
    made = []
    for step, letter in enumerate(words):
        late = int(letter) * 1000.0 if letter.isdigit() else ms
        answer = {"x": (None, "refused"), "-": (None, "silent")}.get(letter, (late, ""))
        made.append(drill.silence.Try(round(step / 10, 3), *answer))
    return made


@pytest.mark.parametrize(
    ("words", "gaps", "found"),
    [
        (".....", [], []),
        ("..xxxxx...", [], [(0.2, 0.702, "refused")]),
        ("..-..-...--..", [], []),
        ("..------x", [], [(0.2, None, "silent")]),
        ("xxxxxx....", [], [(0.0, 0.602, "refused")]),
        # a service that hung for a second answers all of it at once; a line that was dead repeats what was lost, late
        ("..1111111111.............", [], [(0.2, 1.2, "late")]),
        ("..1....", [], []),
        ("..--------1..", [], [(0.2, 1.102, "silent")]),
        ("..--xxxxxx...", [], [(0.2, 1.002, "refused")]),
        ("..-----..xxxxx..", [], [(0.2, 0.702, "silent"), (0.9, 1.402, "refused")]),
        # nobody asked from 0.3 on for a second
        ("..1...", [(0.3, 1.3)], []),
        ("..1--------...", [(0.25, 0.4)], [(0.2, 1.102, "silent")]),
        ("----------", [], []),
    ],
)
def test_silences_are_as_long_as_they_were(
    drill: Package, words: str, gaps: list[tuple[float, float]], found: list[Any]
) -> None:
    summary = drill.silence.summary(PROBE, tried(drill, words), gaps)
    rows = [(row["from"], row["to"], row["why"]) for row in summary["outages"]]
    assert rows == [pytest.approx(row) if row[1] is None else (row[0], pytest.approx(row[1]), row[2]) for row in found]
    assert summary["tried"] == len(words)
    if words == "----------":
        assert (summary["answered"], summary["usual_ms"], summary["outage_s"]) == (0, None, 0.0)


def test_what_is_usually_slow_is_not_silent(drill: Package) -> None:
    slow = [drill.silence.Try(n * 3.0, 2000.0) for n in range(9)]
    assert drill.silence.outages(slow) == []
    slow[4:7] = [drill.silence.Try(12.0, 9500.0)]
    assert [(since, until) for since, until, _why in drill.silence.outages(slow)] == [(12.0, 21.5)]


def test_a_file_that_was_cut_off_is_read_as_far_as_it_goes(drill: Package) -> None:
    lines = [
        drill.silence.line("b", drill.silence.Try(2.0, None, "refused")),
        drill.silence.line("a", drill.silence.Try(1.5, 3.25, "", 1795341035.0)),
        drill.silence.line("a", drill.silence.Try(1.0, 3.0)),
        '{"gap":[3.0,4.5]}\n',
        "[]\n",
        '{"at":5.0,"p":"a","m',
    ]
    tries, gaps = drill.silence.read(lines)
    assert [one.at for one in tries["a"]] == [1.0, 1.5]
    assert (tries["a"][1].date, tries["b"][0].no, gaps) == (1795341035.0, "refused", [(3.0, 4.5)])


@pytest.mark.parametrize("ahead", [0.0, 12345.678, -86400.123])
@pytest.mark.parametrize("step", [0.097, 0.25, 1.01])
def test_many_dates_say_it_better_than_one(drill: Package, ahead: float, step: float) -> None:
    """An answer takes 20 ms, and its date is made at some moment of them."""
    tries = []
    for number in range(int(120 / step)):
        at = 100.0 + number * step
        there = at + (number % 7) * 0.003 + ahead + 1e9
        tries.append(drill.silence.Try(at, 20.0, "", float(int(there))))
    rows = drill.silence.dates(tries)
    assert sum(row["n"] for row in rows) == len(tries)
    lo, hi = max(row["lo"] for row in rows), min(row["hi"] for row in rows)
    assert lo <= ahead + 1e9 <= hi
    assert hi - lo <= (0.06 if step < 0.2 or step > 1 else 0.3)


def test_answers_without_a_date_say_nothing_of_the_clock(drill: Package) -> None:
    assert drill.silence.dates(tried(drill, "..x1")) == []
