# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen from outside: put into the journal by the host's clock, told in sentences, and drawn."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_lanes, drill_plots, drill_svg
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_html import html
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_markdown import markdown
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_measured import measured
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_outside import put_in
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import Samples, read_samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

# By the clock of whoever looked it is so much later than by the host's, whose wall clock says this at 0 of its run.
LATER_S = 10_000.25
WALL = datetime(2026, 11, 22, 2, 15, tzinfo=UTC).timestamp() - made.BEGAN
SAMPLES = [{"at": made.BEGAN + n, "wall": WALL + made.BEGAN + n} for n in range(40)]


def dates(since: float, until: float, off: float = 0.0, take_s: float = 0.02) -> list[dict[str, float]]:
    """What many answers say of the host's wall clock against that of whoever looked, every five seconds of the run."""
    truth = WALL - LATER_S + off
    rows = []
    while since < until:
        begin, end = since + LATER_S, min(since + 5, until) + LATER_S
        rows.append({"from": begin, "to": end, "lo": truth - take_s / 2, "hi": truth + take_s / 2, "n": 50})
        since += 5
    return rows


def seen(**more: Any) -> dict[str, Any]:
    since, until = made.INJECT + LATER_S, made.RECOVER + LATER_S
    api = made.probe("API", "192.0.2.5:8006", "https", 0.1, [(since, until, "silent")])
    ssh = made.probe("SSH", "192.0.2.5:22", "banner", 3.3333, [(since + 2, until + 1, "silent")])
    return {
        **{"name": "the controller", "mono": 1.0, "wall": 1.0 + WALL - LATER_S + 0.7},
        **{"from": made.BEGAN + LATER_S, "to": made.ENDED + LATER_S},
        **{"gaps": [{"from": made.BEGAN + LATER_S, "to": made.BEGAN + LATER_S + 1}], "probes": [api, ssh]},
        "dates": [*dates(made.BEGAN, made.INJECT - 2), *dates(made.RESTORED + 2, made.ENDED)],
        **more,
    }


def put(journal: dict[str, Any] | None = None, tries: str | None = None, **more: Any) -> dict[str, Any]:
    text = json.dumps(journal or made.storage_full())
    found: dict[str, Any] = json.loads(put_in(text, "journal.json", seen(**more), SAMPLES, tries))
    return found


def test_times_are_by_the_clock_of_the_host() -> None:
    found = put()["vantage"]
    assert found["offset_s"] == pytest.approx(-LATER_S, abs=0.001)
    assert (found["error_s"], found["drift_s"], found["exchanges"]) == (0.01, 0.0, 250)
    assert found["from"] == pytest.approx(made.BEGAN, abs=0.002)
    (outage,) = found["probes"][0]["outages"]
    assert (outage["from"], outage["to"]) == pytest.approx((made.INJECT, made.RECOVER), abs=0.002)
    assert found["gaps"][0]["to"] == pytest.approx(made.BEGAN + 1, abs=0.002)


def test_clocks_that_drift_apart_are_told() -> None:
    later = dates(made.RESTORED + 2, made.ENDED, off=0.04)
    found = put(dates=[*dates(made.BEGAN, made.INJECT - 2), *later])["vantage"]
    assert found["drift_s"] == pytest.approx(0.04, abs=0.001)
    assert found["offset_s"] == pytest.approx(-LATER_S, abs=0.001), "as it was before the fault"


def test_a_wall_clock_that_is_set_during_the_drill_is_none_of_theirs() -> None:
    """The host's clock is 45 s ahead while the fault is there, and once more by a little after it."""
    ahead = dates(made.INJECT + 1, made.RECOVER, off=45.0)
    late = dates(made.RESTORED + 2, made.ENDED, off=0.5)
    rows = [*SAMPLES[:14], *({**row, "wall": row["wall"] + 45} for row in SAMPLES[14:33])]
    rows += [{"at": made.RESTORED + n, "wall": WALL + made.RESTORED + n + 0.5} for n in range(1, 6)]
    data = seen(dates=[*dates(made.BEGAN, made.INJECT - 2), *ahead, *late])
    found = json.loads(put_in(json.dumps(made.storage_full()), "journal.json", data, rows, None))["vantage"]
    assert found["offset_s"] == pytest.approx(-LATER_S, abs=0.001)
    assert found["drift_s"] == pytest.approx(0.0, abs=0.001)


def test_without_dates_both_wall_clocks_are_believed_and_that_is_said() -> None:
    journal = put(dates=[])
    found = journal["vantage"]
    assert (found["error_s"], found["drift_s"], found["exchanges"]) == (None, None, 0)
    assert found["offset_s"] == pytest.approx(-LATER_S + 0.7, abs=0.001)
    assert "as right as both machines&#x27; wall clocks" in html(read_journal(json.dumps(journal), "j"), Samples())


def test_dates_that_contradict_each_other_are_worth_half_a_second() -> None:
    torn = [*dates(made.BEGAN, made.BEGAN + 5), *dates(made.BEGAN + 5, made.INJECT - 2, off=3.0)]
    assert put(dates=torn)["vantage"]["error_s"] == 0.5


@pytest.mark.parametrize(
    ("outages", "away"),
    [
        ([(2.0, 19.0, "silent")], 1),
        ([(2.0, None, "unreachable")], 1),
        ([(2.0, 19.0, "refused")], 0),
        ([(9.0, 19.0, "silent")], 0),
        ([(2.0, 9.0, "silent")], 0),
        ([], 0),
    ],
    ids=["both", "for good", "a refusal is a sign of life", "SSH answered first", "SSH was back", "SSH answered"],
)
def test_a_host_is_away_when_nothing_of_it_answers(outages: list[Any], away: int) -> None:
    base = made.INJECT + LATER_S
    rows = [(base + since, until and base + until, why) for since, until, why in outages]
    ssh = made.probe("SSH", "192.0.2.5:22", "banner", 3.3333, rows)
    api = seen()["probes"][0]
    assert len(put(probes=[api, ssh])["vantage"]["away"]) == away
    assert put(probes=[api])["vantage"]["away"] == [], "an API that hangs is silent, too"


def test_it_is_put_in_once_and_changes_nothing_else() -> None:
    before = made.storage_full()
    once = put(tries="{}\n")
    twice = put(once, tries="{}\n")
    assert once == twice
    assert [event["text"] for event in once["events"] if event["source"] == "vantage"] == [
        "API (192.0.2.5:8006) is silent, seen from the controller",
        "SSH (192.0.2.5:22) is silent, seen from the controller",
        "API answers the controller again, after 17.9 s",
        "SSH answers the controller again, after 16.9 s",
    ]
    (row,) = [row for row in once["evidence"] if row["name"] == "vantage.jsonl"]
    assert row["bytes"] == 3
    rest = {name: once[name] for name in before if name not in ("events", "evidence")}
    assert rest == {name: before[name] for name in rest}


@pytest.mark.parametrize("more", [{"probes": None}, {"mono": None, "dates": []}, {"dates": [{}]}])
def test_what_does_not_fit_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Failure, match=r"^journal\.json and what was seen from outside do not fit: "):
        put(**more)


def both(data: dict[str, Any]) -> list[str]:
    """The report in both forms, without what only Markdown has."""
    journal = read_journal(json.dumps(data), "journal.json")
    samples = read_samples(made.samples(stalled=True, more=True), ())
    plain = re.sub(r"<[^>]+>", " ", html(journal, samples)).replace("\u00a0", " ").replace("&#x27;", "'")
    return [re.sub(r"\s+", " ", plain), markdown(journal, samples).replace("\\", "")]


def test_the_report_says_what_only_the_outside_saw() -> None:
    for text in both(made.outside()):
        for wanted in (
            *("Who answered, and whom", "The controller looked from outside.", "in 212 answers", "right to 12 ms"),
            "the clocks had drifted apart by 42 ms",
            *("Nothing of the host answered from +0.4 s on, for 16.5 s. Its own recorder saw nothing either.",),
            *(
                "Seen from the controller, nothing of the host answered for 16.5 s.",
                "For 1.1 s it could not look itself",
            ),
            *("API for 16.5 s and SSH for 12.6 s", "never reached from there", "+2.1 s, for 2.5 s (refused)"),
        ):
            assert wanted in text, wanted
    assert "drifted" not in both(made.cut(made.outside(), "vantage/drift_s", 0.02))[0], "it was not measured"
    for text in both(made.storage_full()):
        assert "Nobody looked from outside" in text
    assert "Who answered" not in both(made.aborted())[0]


def test_who_answered_all_the_time_is_said_in_one_sentence() -> None:
    data = made.cut(made.outside(), "vantage/probes/0/outages", [])
    data = made.cut(made.cut(data, "vantage/probes/1/outages", []), "vantage/away", [])
    said = measured(read_journal(json.dumps(data), "j"))
    assert "Seen from the controller, API and SSH answered all the time." in said
    assert not [text for text in said if "no answer" in text]


def slow(*late: tuple[float, float]) -> dict[str, Any]:
    """The API answers, but late at some times; after the fault it is silent for a second."""
    rows = [*[(since, until, "late") for since, until in late], (made.INJECT + 9, made.INJECT + 10, "silent")]
    api = made.probe("API", "192.0.2.5:8006", "https", 0.1, sorted(rows))
    return made.cut(made.cut(made.outside(), "vantage/away", []), "vantage/probes", [api])


def test_a_late_answer_is_an_answer() -> None:
    early = [(made.BEGAN + n, made.BEGAN + n + 0.5) for n in range(4)]
    fault = (made.INJECT + 2, made.INJECT + 5)

    def said(*late: tuple[float, float]) -> str:
        return "\n".join(measured(read_journal(json.dumps(slow(*late)), "journal.json")))

    assert "Seen from the controller, there was no answer from API for 1.0 s." in said(*early, fault)
    assert "answers of API were late 5 times, by 5.0 s in all, 2.0 s of it before the fault." in said(*early, fault)
    assert "answers of API were late 4 times, by 2.0 s in all, all of it before the fault." in said(*early)
    assert "answers of API were late 1 time, by 3.0 s in all." in said(fault)
    for text in both(slow(fault)):
        assert "1 time, 3.0 s" in text


def test_of_many_outages_those_of_the_fault_are_told() -> None:
    base, fault = made.BEGAN + LATER_S, made.INJECT + LATER_S
    rows = [(base + n * 0.2, base + n * 0.2 + 0.1, "late") for n in range(30)]
    probe = made.probe(
        *("API", "192.0.2.5:8006", "https", 0.1), [*rows, (fault + 1, fault + 4, "late"), (fault + 5, None, "silent")]
    )
    told = [event for event in put(probes=[probe])["events"] if event["source"] == "vantage"]
    assert [event["text"].split(",")[0] for event in told if event["at"] > made.INJECT] == [
        "API (192.0.2.5:8006) is late",
        "API answers the controller again",
        "API (192.0.2.5:8006) is silent",
    ]
    assert len(told) == 2 * 20 - 1


@pytest.mark.parametrize("width", [drill_svg.WIDE, drill_svg.NARROW])
def test_each_who_answered_has_a_lane(width: int) -> None:
    journal = read_journal(json.dumps(made.outside()), "journal.json")
    titles = [lane.title for lane in drill_lanes.lanes(journal)]
    assert titles == ["web1, seen from the host", "API, seen from the controller", "SSH, seen from the controller"]
    picture = drill_svg.timeline(journal, Samples(), width)
    assert picture is not None
    root = ET.fromstring(picture)
    words = [element.text for element in root.iter() if element.get("class") == "name"]
    assert words[-3:] == titles or [title in words for title in titles]
    axis = drill_svg.axis_of(journal, Samples(), width)
    assert axis is not None
    boxes = [element for element in root.iter() if element.get("class") == "outage"]
    api = boxes[-2]
    assert float(api.get("x", "")) == pytest.approx(axis.x(made.INJECT + 0.4), abs=0.1)
    assert all(float(box.get("x", "")) + float(box.get("width", "")) <= width for box in boxes)
    assert [e.text for e in root.iter() if e.get("class") == "told" and "silent" in (e.text or "")]


def test_memory_swap_and_sharing_are_plotted_where_there_is_something() -> None:
    journal = read_journal(json.dumps(made.outside()), "journal.json")
    rich = read_samples(made.samples(stalled=True, more=True), ())
    found = {plot.key: plot for plot in drill_plots.plots(journal, rich, drill_svg.WIDE)}
    assert [name for name, _points in found["memory"].lines] == ["available", "free swap space", "to be written"]
    assert [name for name, _points in found["ksm"].lines] == ["shared", "saved"]
    poor = read_samples(made.samples(stalled=True), ())
    assert "ksm" not in {plot.key for plot in drill_plots.plots(journal, poor, drill_svg.WIDE)}
    still = [{"at": made.BEGAN + n, "ksm": {"sharing_mib": 0.0, "profit_mib": 0.0}} for n in range(40)]
    quiet = read_samples("".join(json.dumps(row) + "\n" for row in still), ())
    assert drill_plots.plots(journal, quiet, drill_svg.WIDE) == []
