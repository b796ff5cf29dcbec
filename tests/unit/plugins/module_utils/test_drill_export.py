# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill for other people's viewers, and against its own past: nothing looks better than it was."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_export import (
    NOT_RUNNABLE,
    chaostoolkit,
    junit,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_history import history
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_words import VERDICTS
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

FAILURES = sorted(set(VERDICTS) - {"passed", "skipped"})


def read(data: Any) -> Journal:
    return read_journal(json.dumps(data), "journal.json")


def verdict(name: str) -> Journal:
    return read({**made.storage_full(), "verdict": name})


def counts(root: ET.Element) -> tuple[str | None, ...]:
    (suite,) = root.findall("testsuite")
    assert [root.get(key) for key in ("tests", "failures", "skipped")] == [
        suite.get(key) for key in ("tests", "failures", "skipped")
    ]
    return tuple(root.get(key) for key in ("tests", "failures", "errors", "skipped"))


def test_junit_of_a_drill_that_passed() -> None:
    root = ET.fromstring(junit(verdict("passed")))
    assert counts(root) == ("1", "0", "0", "0")
    (suite,) = root.findall("testsuite")
    assert (suite.get("hostname"), suite.get("time"), suite.get("timestamp")) == (
        "pve1",
        "43.300",
        "2026-11-22T02:15:00",
    )
    told = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert (told["verdict"], told["outage_s"], told["blind_s"]) == ("passed", "19.2", "7.2")


@pytest.mark.parametrize("name", FAILURES)
def test_junit_fails_for_every_other_verdict(name: str) -> None:
    root = ET.fromstring(junit(verdict(name)))
    assert counts(root) == ("1", "1", "0", "0")
    (failure,) = root.iter("failure")
    assert failure.get("type") == name
    assert failure.get("message") == made.storage_full()["because"]
    assert VERDICTS[name].then in (failure.text or "")


def test_junit_skips_what_was_skipped() -> None:
    root = ET.fromstring(junit(verdict("skipped")))
    assert counts(root) == ("1", "0", "0", "1")
    assert [s.get("message") for s in root.iter("skipped")] == [made.storage_full()["because"]]


def test_junit_takes_any_text() -> None:
    root = ET.fromstring(junit(read(made.cut(made.refuted(), "because", '<&"]]>\x00\x1b \ud800'))))
    assert [f.get("message") for f in root.iter("failure")] == ['<&"]]>\ufffd\ufffd \ufffd']


@pytest.mark.parametrize("name", VERDICTS)
def test_only_passed_is_a_success_of_the_chaos_toolkit(name: str) -> None:
    found = chaostoolkit(verdict(name))
    success = (found["status"], found["deviated"]) == ("completed", False)
    assert success is (name == "passed")
    assert found["status"] in ("completed", "failed", "aborted", "interrupted")
    after = found["steady_states"]["after"]
    assert found["deviated"] is (after is not None and not after["steady_state_met"])
    assert (after is not None and after["steady_state_met"]) is (name == "passed")
    assert found["pvelab"]["verdict"] == name


def test_a_journal_of_the_chaos_toolkit_has_what_its_format_asks_for() -> None:
    found = chaostoolkit(verdict("passed"))
    assert {"chaoslib-version", "platform", "node", "experiment", "start", "end", "duration"} <= set(found)
    assert {"status", "deviated", "steady_states", "run", "rollbacks"} <= set(found)
    assert (found["start"], found["end"]) == ("2026-11-22T02:15:00Z", "2026-11-22T02:15:43.300Z")
    assert found["duration"] == pytest.approx(43.3)
    probes = [p for when in ("before", "after") for p in found["steady_states"][when]["probes"]]
    assert [p["activity"]["name"] for p in probes] == ["preflight", "baseline", "verify", "verdict"]
    assert [r["activity"]["name"] for r in found["run"]] == ["inject", "observe", "recover"]
    for result in [*probes, *found["run"]]:
        assert {"activity", "status", "start", "end", "duration", "output"} <= set(result)
        assert result["status"] == "succeeded"
        assert ("tolerance_met" in result) is (result["activity"]["type"] == "probe")
    assert found["run"][0]["start"] == "2026-11-22T02:15:14.800Z"
    assert found["run"][0]["duration"] == 0.2
    assert found["rollbacks"] == []
    assert json.loads(json.dumps(found)) == found


def test_an_experiment_that_is_taken_out_cannot_be_run() -> None:
    experiment = chaostoolkit(verdict("passed"))["experiment"]
    activities = [*experiment["method"], *experiment["rollbacks"], *experiment["steady-state-hypothesis"]["probes"]]
    assert {a["provider"]["path"] for a in activities} == {NOT_RUNNABLE}
    assert experiment["method"][0]["provider"]["arguments"] == ["inject", made.storage_full()["plan"]["inject"]]


def test_what_an_operator_did_meanwhile_is_part_of_the_method() -> None:
    found = chaostoolkit(read(made.relieved()))
    assert [r["activity"]["name"] for r in found["run"]] == ["inject", "observe", "relieve", "recover"]
    assert [a["name"] for a in found["experiment"]["method"]] == ["inject", "observe", "relieve", "recover"]
    relieve = found["run"][2]
    assert relieve["activity"]["provider"]["arguments"] == ["relieve", made.relieved()["plan"]["relief"]]
    assert (relieve["activity"]["type"], relieve["duration"]) == ("action", 6.9)
    without = chaostoolkit(verdict("passed"))["experiment"]["method"]
    assert [a["name"] for a in without] == ["inject", "observe", "recover"]


def test_a_drill_that_never_began_has_run_nothing() -> None:
    found = chaostoolkit(read(made.aborted()))
    assert (found["run"], found["rollbacks"], found["steady_states"]["after"]) == ([], [], None)
    before = found["steady_states"]["before"]
    assert before["steady_state_met"] is False
    assert before["probes"][0]["output"].startswith("no job runs? no")


@pytest.mark.parametrize(("name", "status"), [("recovered_by_deadman", "succeeded"), ("not_recovered", "failed")])
def test_what_the_timer_undid_is_a_rollback(name: str, status: str) -> None:
    data = made.cut({**made.storage_full(), "verdict": name}, "undo/fired", True)
    data["events"] += [made.event(5150.0, "undo", "began"), made.event(5150.5, "undo", "ended")]
    (rollback,) = chaostoolkit(read(data))["rollbacks"]
    assert (rollback["status"], rollback["duration"], rollback["output"]) == (status, 0.5, "began\nended")
    assert rollback["start"] == "2026-11-22T02:15:26.800Z"


def runs(*outages: float | None) -> list[Journal]:
    return [
        read(made.cut(made.storage_full(f"2026110{i}T000000Z-storage_full-x"), "metrics/outage_s", outage))
        for i, outage in enumerate(outages)
    ]


@pytest.mark.parametrize(
    ("earlier", "newest", "says"),
    [
        ([], 19.2, ""),
        ([20.0], 1.0, ""),
        ([20.0, 21.0], 1.0, ""),
        ([20.0, 21.0, None], 1.0, ""),
        ([20.0, 21.0, 22.0], 19.9, "better"),
        ([20.0, 21.0, 22.0], 20.0, "same"),
        ([20.0, 21.0, 22.0], 21.5, "same"),
        ([20.0, 21.0, 22.0], 22.0, "same"),
        ([20.0, 21.0, 22.0], 22.1, "worse"),
        ([20.0, 21.0, 22.0], None, ""),
    ],
)
def test_a_run_is_judged_only_by_enough_others_and_outside_of_their_range(
    earlier: list[float | None], newest: float | None, says: str
) -> None:
    now = read(made.cut(made.storage_full(), "metrics/outage_s", newest))
    (outage,) = [s for s in history(now, runs(*earlier)).spreads if s.metric == "outage_s"]
    assert outage.judged == says


def test_the_spread_of_earlier_runs_leaves_the_newest_out() -> None:
    found = history(read(made.storage_full()), runs(30.0, 10.0, 12.0, None))
    (outage,) = [s for s in found.spreads if s.metric == "outage_s"]
    assert (outage.newest, outage.n, outage.lowest, outage.middle, outage.highest) == (19.2, 3, 10.0, 12.0, 30.0)
    assert found.earlier == 4


def test_each_run_counts_once_and_later_ones_do_not() -> None:
    newest = read(made.storage_full())
    others = [*runs(30.0, 10.0), *runs(30.0), newest, read(made.refuted())]
    found = history(newest, others)
    assert (found.earlier, found.later) == (2, 1)
    assert found.verdicts == (("passed", 3),)
    backwards = history(newest, reversed(others))
    assert backwards == found


def test_verdicts_are_counted() -> None:
    found = history(read(made.aborted()), [read(made.storage_full()), read(made.refuted())])
    assert dict(found.verdicts) == {"passed": 1, "hypothesis_refuted": 1, "aborted_preflight": 1}


def test_runs_of_other_drills_do_not_compare() -> None:
    other = read(made.cut(made.storage_full("20261101-x"), "drill/name", "oom"))
    with pytest.raises(
        Failure, match=r"run 20261101-x is of the drill oom.*Give earlier journals of storage_full only"
    ):
        history(read(made.storage_full()), [other])


def test_other_hosts_are_named() -> None:
    other = read(made.cut(made.storage_full("20261101-x"), "host/name", "pve2"))
    assert history(read(made.storage_full()), [other]).hosts == ("pve1", "pve2")
