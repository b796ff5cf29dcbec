# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a drill for other people's viewers: JUnit XML, and a journal as the Chaos Toolkit writes it.

Both know fewer outcomes than a drill has. Only ``passed`` becomes a success; nothing else is made to look like one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from .drill_journal import Journal, Phase
from .drill_words import MEASURES, PHASES, VERDICTS, metric

# The version of the library whose journals these are like: viewers choose their template by it.
CHAOSLIB = "1.45.0"
# Nothing can be run by this name. An experiment that is taken out of the journal and run would break the host without
# the timer that undoes it, so it must not be runnable.
NOT_RUNNABLE = "pvelab-drill-record"
# The phases that do something, and watch what it does.
METHOD = ("inject", "observe", "relieve", "recover")
# A verdict as the Chaos Toolkit's status, whether it deviated, and whether the steady state was met in the end (None:
# nobody can say). https://chaostoolkit.org/reference/api/journal/
_OUTCOMES: Mapping[str, tuple[str, bool, bool | None]] = {
    "passed": ("completed", False, True),
    "recovered_by_deadman": ("failed", True, False),
    "hypothesis_refuted": ("failed", True, False),
    "fault_not_observed": ("failed", False, None),
    "not_recovered": ("failed", True, False),
    "aborted_preflight": ("aborted", False, None),
    "inconclusive": ("failed", False, None),
    "skipped": ("aborted", False, None),
}


def junit(journal: Journal) -> str:
    """JUnit XML with one test: it fails for every verdict but ``passed``, and is skipped for ``skipped``."""
    said = VERDICTS[journal.verdict]
    skipped = journal.verdict == "skipped"
    failed = not skipped and journal.verdict != "passed"
    counts = {"tests": "1", "failures": str(int(failed)), "errors": "0", "skipped": str(int(skipped))}
    lasted = f"{journal.duration_s or 0:.3f}"
    top = ET.Element("testsuites", {"name": "drills", **counts, "time": lasted})
    about = {"timestamp": journal.began_utc[:19], "hostname": journal.host.name, "time": lasted}
    suite = ET.SubElement(top, "testsuite", {"name": f"drill {journal.drill.name}", **counts, **about})
    properties = ET.SubElement(suite, "properties")
    told = [("run", journal.run), ("verdict", journal.verdict), ("blast_radius", journal.drill.blast_radius)]
    told += [(key, str(found)) for key in journal.measures if (found := journal.metrics.get(key)) is not None]
    for name, value in told:
        ET.SubElement(properties, "property", {"name": name, "value": value})
    where = {"classname": f"drill.{journal.drill.name}", "name": journal.drill.title, "time": lasted}
    test = ET.SubElement(suite, "testcase", where)
    if skipped:
        ET.SubElement(test, "skipped", {"message": journal.because})
    if failed:
        text = f"{journal.because}\n{said.means}\n{said.then}\n"
        ET.SubElement(test, "failure", {"message": journal.because, "type": journal.verdict}).text = text
    lines = [f"{said.headline}: {journal.because}", f"Expected: {journal.drill.hypothesis}"]
    lines += [f"{MEASURES[key][0]}: {metric(journal, key)}" for key in journal.measures]
    ET.SubElement(test, "system-out").text = "\n".join(lines) + "\n"
    ET.indent(top)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(top, encoding="unicode")}\n'


def chaostoolkit(journal: Journal) -> dict[str, Any]:
    """A journal as the Chaos Toolkit's, with what it has no place for under ``pvelab``.

    The phases inject, observe, relieve and recover are its run, preflight and baseline the steady state before; what
    the timer undid is its rollback. Moments are RFC 3339 in UTC, ``duration`` is in seconds.
    """
    status, deviated, met = _OUTCOMES[journal.verdict]
    before = [_result(journal, state) for state in journal.states if state.name in ("preflight", "baseline")]
    run = [_result(journal, state) for state in journal.states if state.name in METHOD]
    after = [_result(journal, state) for state in journal.states if state.name == "verify"]
    states: dict[str, Any] = {"before": None, "after": None, "during": []}
    if before:
        states["before"] = {"steady_state_met": all(b["tolerance_met"] for b in before), "probes": before}
    if met is not None:
        states["after"] = {"steady_state_met": met, "probes": [*after, _hypothesis(journal, met)]}
    return {
        "chaoslib-version": CHAOSLIB,
        "platform": f"Linux {journal.host.kernel or ''}".strip(),
        "node": journal.host.name,
        "experiment": _experiment(journal),
        "start": journal.began_utc,
        "status": status,
        "deviated": deviated,
        "steady_states": states,
        "run": run,
        "rollbacks": _rollbacks(journal),
        "end": journal.ended_utc or journal.began_utc,
        "duration": journal.duration_s or 0.0,
        "pvelab": {
            "schema": journal.schema,
            "run": journal.run,
            "verdict": journal.verdict,
            "because": journal.because,
            "metrics": dict(journal.metrics),
        },
    }


def _experiment(journal: Journal) -> dict[str, Any]:
    plan = journal.plan
    warning = "This is a record. Only the drill itself arms the timer that undoes the fault, so run it there."
    return {
        "version": "1.0.0",
        "title": journal.drill.title,
        "description": f"{journal.drill.hypothesis} {warning}",
        "tags": ["pvelab", journal.drill.name, journal.drill.blast_radius],
        "steady-state-hypothesis": {
            "title": journal.drill.hypothesis,
            "probes": [_activity(journal, name) for name in ("preflight", "baseline", "verify")],
        },
        "method": [_activity(journal, name) for name in METHOD if name != "relieve" or plan.relief],
        "rollbacks": [_action("undo", plan.undo)] if plan.undo else [],
    }


def _activity(journal: Journal, name: str) -> dict[str, Any]:
    """One phase as an action, or as a probe where it only looks."""
    if name == "inject":
        return _action(name, journal.plan.inject)
    if name == "relieve":
        return _action(name, journal.plan.relief)
    if name == "recover":
        return _action(name, journal.drill.remedy)
    return {**_action(name, PHASES[name]), "type": "probe", "tolerance": True}


def _action(name: str, text: str | None) -> dict[str, Any]:
    provider = {"type": "process", "path": NOT_RUNNABLE, "arguments": [name, text or ""]}
    return {"type": "action", "name": name, "provider": provider}


def _result(journal: Journal, state: Phase) -> dict[str, Any]:
    activity = _activity(journal, state.name)
    met = {"tolerance_met": state.ok is True} if activity["type"] == "probe" else {}
    return {
        "activity": activity,
        "status": "succeeded" if state.ok else "failed",
        "start": _moment(journal, state.began),
        "end": _moment(journal, state.ended),
        "duration": 0.0 if state.ended is None else round(state.ended - state.began, 3),
        "output": state.text or None,
        **met,
    }


def _hypothesis(journal: Journal, met: bool) -> dict[str, Any]:
    """The verdict as the last probe of the steady state afterwards: it says why the rest is not enough."""
    moment = journal.ended_utc or journal.began_utc
    return {
        "activity": {**_action("verdict", journal.drill.hypothesis), "type": "probe", "tolerance": True},
        "status": "succeeded" if met else "failed",
        "start": moment,
        "end": moment,
        "duration": 0.0,
        "tolerance_met": met,
        "output": f"{journal.verdict}: {journal.because}",
    }


def _rollbacks(journal: Journal) -> list[dict[str, Any]]:
    """The undo, where the timer has run it."""
    if journal.undo is None or not journal.undo.fired:
        return []
    seen = [event for event in journal.events if event.source == "undo"]
    at = _moment(journal, seen[0].at if seen else journal.undo.due)
    ended = _moment(journal, seen[-1].at if seen else journal.undo.due)
    lasted = round(seen[-1].at - seen[0].at, 3) if seen else 0.0
    status = "failed" if journal.verdict == "not_recovered" else "succeeded"
    result = {"activity": _action("undo", journal.plan.undo), "status": status, "start": at, "end": ended}
    return [{**result, "duration": lasted, "output": "\n".join(event.text for event in seen) or None}]


def _moment(journal: Journal, at: float | None) -> str:
    """A second of the host in UTC; the beginning of the run where that cannot be known."""
    found = journal.utc(at)
    return journal.began_utc if found is None else f"{found:%Y-%m-%dT%H:%M:%S}.{found.microsecond // 1000:03}Z"
