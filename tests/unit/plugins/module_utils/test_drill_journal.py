# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals and samples of drills: what is well-formed is read, what is not is refused by the name of its field."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_samples, drill_words
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_fields import printable
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import METRICS, Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_measured import measured
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import Samples, read_samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made


def read(data: Any) -> Journal:
    return read_journal(json.dumps(data), "/drills/journal.json")


def rows(*found: dict[str, Any]) -> Samples:
    return read_samples("".join(json.dumps(row) + "\n" for row in found), ())


@pytest.mark.parametrize(
    "data",
    [made.storage_full(), made.refuted(), made.aborted(), made.relieved(), made.watched(3.4)],
    ids=lambda d: d["run"],
)
def test_a_journal_is_read_as_it_is(data: dict[str, Any]) -> None:
    journal = read(data)
    assert (journal.run, journal.verdict, journal.because) == (data["run"], data["verdict"], data["because"])
    assert journal.marks == data["marks"]
    assert [guest.vmid for guest in journal.guests] == [guest["vmid"] for guest in data["guests"]]
    assert [phase.name for phase in journal.states] == [state["name"] for state in data["states"]]


def test_keys_that_are_words_of_python_are_read() -> None:
    (outage,) = read(made.storage_full()).guests[0].outages
    assert (outage.from_, outage.to, outage.s) == (made.EFFECT, made.RESTORED, 19.2)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("schema", "pvelab-drill-journal/2", 'schema is "pvelab-drill-journal/2" and should be pvelab-drill-journal/1'),
        ("run", ..., "run is missing"),
        ("run", None, "run is null and should be a text"),
        ("verdict", "great", 'verdict is "great" and should be one of passed, recovered_by_deadman'),
        ("began_utc", "yesterday", 'began_utc is "yesterday" and should be like 2026-11-22T02:15:00Z'),
        ("began_utc", "2026-11-22T02:15:00+01:00", "began_utc is .* should be like"),
        ("clock/utc", "2026-11-22 noon", "clock.utc is"),
        ("drill", [], r"drill is \[\] and should be an object"),
        ("drill/name", ..., "drill.name is missing"),
        ("drill/blast_radius", "galaxy", "drill.blast_radius is .* one of file, guest"),
        ("drill/learn/0", 7, r"drill.learn\[0\] is 7 and should be a text"),
        ("guests", {"103": {}}, "guests is .* and should be a list"),
        ("guests/0/vmid", "103", r'guests\[0\].vmid is "103" and should be a whole number'),
        ("guests/0/vmid", True, r"guests\[0\].vmid is true and should be a whole number"),
        ("guests/1/canary/lost", [1, "two"], r'guests\[1\].canary.lost\[1\] is "two"'),
        ("guests/0/outages/0/from", "now", r"guests\[0\].outages\[0\].from is .* should be a number"),
        ("guests/0/canary/errors", {"EIO": "many"}, r"guests\[0\].canary.errors.EIO is"),
        ("marks", {"inject": "soon"}, "marks.inject is .* should be a number"),
        ("states/0/name", "party", r"states\[0\].name is"),
        ("undo/rehearsed", "yes", "undo.rehearsed is .* should be true or false"),
        ("undo/armed", 10**400, "undo.armed is .* should be a number"),
    ],
)
def test_what_is_malformed_is_refused_by_its_name(path: str, value: Any, says: str) -> None:
    with pytest.raises(Failure, match=f"^/drills/journal.json is no journal of a drill: {says}"):
        read(made.cut(made.storage_full(), path, value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 is no JSON"),
        ('{"a":\n1,}', "line 2 is no JSON"),
        ("[]", "schema is null"),
        ('{"schema": NaN}', "it holds NaN, which is no number"),
        ("[" * 100_000, "it is nested too deeply"),
        (f'{{"schema": {"9" * 5000}}}', "it holds a number that is too long"),
    ],
)
def test_what_is_no_json_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(Failure, match=rf"x is no journal of a drill: {says}.*\. Give the journal.json"):
        read_journal(text, "x")


def test_a_run_that_is_not_over_has_no_report() -> None:
    with pytest.raises(Failure, match="x has no verdict: its drill still runs or was cut off"):
        read_journal(json.dumps(made.cut(made.storage_full(), "verdict", None)), "x")


def test_what_is_missing_counts_as_null_where_null_is_allowed() -> None:
    journal = read(made.cut(made.cut(made.storage_full(), "guests/0/canary", ...), "events", ...))
    assert journal.guests[0].canary is None
    assert journal.events == ()


def test_a_second_of_the_host_is_told_in_utc() -> None:
    journal = read(made.storage_full())
    assert drill_words.clock_time(journal, made.INJECT) == "02:15:14.8"
    assert drill_words.since(journal, made.BEGAN) == "-14.8 s"
    assert drill_words.since(journal, None) == "not known"


def test_after_a_reboot_nothing_is_told_in_utc() -> None:
    journal = read(made.cut(made.storage_full(), "states/6/began", 12.0))
    assert not journal.one_clock
    assert journal.utc(made.INJECT) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "not known"),
        (0.04, "0.0 s"),
        (19.24, "19.2 s"),
        (99.96, "1 min 40 s"),
        (120.0, "2 min"),
        (-2.5, "-2.5 s"),
    ],
)
def test_seconds_are_told_as_people_say_them(value: float | None, says: str) -> None:
    assert drill_words.seconds(value) == says


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "7.2 s"),
        ({"metrics/blind_s": None}, "never seen"),
        ({"metrics/blind_s": None, "marks/effect": None}, "not known"),
        ({"metrics/blind_s": None, "marks/effect": None, "marks/inject": None}, "not run"),
    ],
)
def test_a_metric_that_is_missing_says_why(changes: dict[str, Any], says: str) -> None:
    data = made.storage_full()
    for path, value in changes.items():
        data = made.cut(data, path, value)
    assert drill_words.metric(read(data), "blind_s") == says


def test_every_verdict_moment_and_phase_has_words() -> None:
    data = made.storage_full()
    for verdict in drill_words.VERDICTS:
        assert read({**data, "verdict": verdict}).verdict == verdict
    assert set(drill_words.MOMENTS) == {*data["marks"], "relief", "watch"}
    assert tuple(drill_words.MEASURES) == METRICS
    assert set(METRICS) == {*data["metrics"], "watch_s"}
    assert set(drill_words.PHASES) == {*(state["name"] for state in data["states"]), "relieve"}


def test_what_was_measured_is_told_in_sentences() -> None:
    assert measured(read(made.storage_full())) == [
        "Guest 103 (db1), a victim, was out for 19.2 s.",
        "The bystanders 101 (web1) and 102 (dns1) had no outage.",
        "Of 934 acknowledged writes, none was lost and none damaged.",
        "2 of 2 expected signs seen.",
    ]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("guests/0/probe", "none", "Guest 103 (db1), a victim, was not watched."),
        ("guests/0/outages/0/to", None, "Guest 103 (db1), a victim, did not come back while the drill watched."),
        ("guests/0/outage_s", None, "Guest 103 (db1), a victim, was watched, but its outage is not known."),
        ("guests/0/canary/lost", [7, 8], "Of 934 acknowledged writes, 2 were lost and none damaged."),
        (
            "guests/0/canary/checked",
            False,
            "The disk of 103 (db1) was not read back, so nothing is known of lost writes there.",
        ),
        ("guests/1/probe", "none", "Guest 101 (web1), a bystander, was not watched."),
        ("signature/0/seen", False, "1 of 2 expected signs seen."),
    ],
)
def test_what_was_not_seen_is_not_claimed(path: str, value: Any, says: str) -> None:
    assert says in measured(read(made.cut(made.storage_full(), path, value)))


def test_what_an_operator_did_meanwhile_is_told_with_what_it_changed() -> None:
    says = "Half of the writes of guest 103 (db1) took at most 21.4 ms during the fault and 3.6 ms with the remedy, "
    said = measured(read(made.relieved()))
    assert f"{says}instead of 3.1 ms." in said
    assert "3 of 3 expected signs seen." in said
    for path in ("marks/relief", "guests/0/latency_ms/relief", "guests/0/latency_ms", "guests/0/latency_ms/fault/p50"):
        assert "remedy" not in " ".join(measured(read(made.cut(made.relieved(), path, None))))


def test_a_journal_that_is_older_than_the_remedy_is_read() -> None:
    journal = read(made.storage_full())
    assert (journal.plan.relief, journal.marks.get("relief")) == (None, None)
    assert [guest.latency_ms.relief for guest in journal.guests if guest.latency_ms] == [None, None, None]
    relieved = read(made.relieved())
    assert (relieved.plan.relief or "").startswith("echo 10000 >")
    assert relieved.guests[0].latency_ms and relieved.guests[0].latency_ms.relief
    assert relieved.guests[0].latency_ms.relief.p50 == 3.6


def test_writes_of_a_disk_that_was_not_read_back_are_not_counted() -> None:
    said = measured(read(made.cut(made.storage_full(), "guests/0/canary/checked", False)))
    assert "Of 838 acknowledged writes, none was lost and none damaged." in said


def test_samples_are_read_in_order_and_what_cannot_be_read_is_counted() -> None:
    found = read_samples('{"at": 2}\n{"at": 1, "fill": 7}\nno json\n{"at": null}\n[1]\n{"at": 3, "psi"', ())
    assert [row["at"] for row in found.rows] == [1, 2]
    assert found.notes == ("4 lines of samples.jsonl could not be read and are left out.",)


def test_missing_samples_are_said_to_be_missing() -> None:
    assert "There is no samples.jsonl" in read_samples(None, ()).notes[0]


def test_samples_of_another_run_are_noticed_by_their_checksum() -> None:
    text = made.samples(stalled=True)
    evidence = read(made.storage_full()).evidence
    assert evidence[0].sha256 == sha256(text.encode()).hexdigest()
    assert read_samples(text, evidence).notes == ()
    assert "checksum" in read_samples(text + "\n", evidence).notes[0]


def test_pressure_is_judged_from_its_counter() -> None:
    found = rows(
        {"at": 0.0, "psi": {"io": 1_000_000}},
        {"at": 1.0, "psi": {"io": 1_500_000}},
        {"at": 2.0},
        {"at": 3.0, "psi": {"io": "broken"}},
        {"at": 4.0, "psi": {"io": 1_500_000}},
        {"at": 5.0, "psi": {"io": 100}},
    )
    assert drill_samples.rate(found, ("psi", "io"), 0.5) == [(1.0, 50.0), (4.0, 0.0)]


def test_a_level_keeps_the_extreme_of_each_column() -> None:
    found = rows({"at": 0.0, "m": 5}, {"at": 0.4, "m": 2}, {"at": 0.9, "m": 4}, {"at": 1.2, "m": 9}, {"at": 1.3})
    assert drill_samples.level(found, ("m",), 1.0, min) == [(0.0, 2.0), (1.2, 9.0)]
    assert drill_samples.level(found, ("m",), 1.0, max) == [(0.0, 5.0), (1.2, 9.0)]


def test_acknowledgements_are_where_the_count_grows() -> None:
    found = rows(*({"at": at, "guests": {"103": {"acks": acks}}} for at, acks in enumerate([5, 5, 6, 6, 9, 0, 1])))
    assert drill_samples.acknowledgements(found, 103) == [2.0, 4.0, 6.0]


def test_spans_end_where_a_sample_denies_them() -> None:
    found = rows(*({"at": at, "api": api} for at, api in enumerate([True, False, None, False, True, False, False])))
    spans = drill_samples.spans(found, lambda row: None if row["api"] is None else not row["api"])
    assert spans == [(1.0, 4.0), (5.0, 6.0)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\rc\n\td", "a\nb\nc\n\td"),
        ("bell\x07 escape\x1b null\x00", "bell\ufffd escape\ufffd null\ufffd"),
        ("half a pair \ud800", "half a pair \ufffd"),
        ("turned \u202e around", "turned \ufffd around"),
        ("Größe 10 µs", "Größe 10 µs"),
    ],
)
def test_what_could_break_a_file_is_replaced(text: str, shown: str) -> None:
    assert printable({text: [text]}) == {shown: [shown]}
