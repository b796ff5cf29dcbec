# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of a failure drill from a machine that it did not break, put into the drill's journal. Pure.

Whoever looked from there has times of its own clock. How the two clocks stand is worked out from the dates in the
host's answers: by how much the host's wall clock was ahead of the other machine's CLOCK_MONOTONIC (``dates``, between
``lo`` and ``hi`` for each few seconds), and from the samples by how much it was ahead of the clock of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import median
from typing import Any

from .drill_fields import moment
from .drill_probes import LATE, weight
from .drill_samples import Row, number
from .steps import Failure

TRIES = "vantage.jsonl"
SOURCE = "vantage"
# Around the fault a clock may be set, so answers that are nearer to it count for neither side.
AWAY_FROM_FAULT_S = 1.0
# Dates that contradict each other by more are of a clock that was set meanwhile.
TORN_S = 0.25
# In the journal's list of what happened, from each probe.
TOLD = 20
NOBODY = ("silent", "unreachable", LATE)


@dataclass(frozen=True)
class Offset:
    """What is to be added to a time of the other machine, known to ``error`` seconds before the fault and after it
    (None: taken from both wall clocks, and not measured), how much it had changed by then (known to twice the error),
    and from how many answers it is known."""

    s: float
    error: float | None
    drift: float | None
    exchanges: int


def put_in(text: str, where: str, seen: Mapping[str, Any], samples: Iterable[Row], tries: str | None) -> str:
    """The journal with what was ``seen``; ``tries`` is the file from which that comes. Doing it again changes nothing.
    Raises Failure where the text is no journal, or what was seen is nothing of the kind."""
    try:
        journal = json.loads(text)
        marks, rows = journal["marks"], list(samples)
        offset = _offset(seen, marks, _ahead(journal, rows, marks))
        journal["vantage"] = found = _vantage(seen, offset)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Failure(f"{where} and what was seen from outside do not fit: {type(error).__name__} {error}.") from error
    kept = [event for event in journal["events"] if event["source"] != SOURCE]
    journal["events"] = sorted([*kept, *_events(found, marks.get("inject"))], key=lambda event: float(event["at"]))
    journal["evidence"] = [row for row in journal["evidence"] if row["name"] != TRIES]
    if tries is not None:
        data = tries.encode()
        journal["evidence"].append({"name": TRIES, "sha256": sha256(data).hexdigest(), "bytes": len(data)})
    return json.dumps(journal, indent=2) + "\n"


def _ahead(journal: Mapping[str, Any], rows: Sequence[Row], marks: Mapping[str, Any]) -> tuple[float, float]:
    """By how much the host's wall clock was ahead of the clock of the run, before the fault and after it, seconds."""
    known = [(float(row["at"]), wall - float(row["at"])) for row in rows if (wall := number(row, "wall")) is not None]
    begun = moment(journal["clock"]["utc"]).timestamp() - float(journal["clock"]["monotonic"])
    inject, back = marks.get("inject"), marks.get("restored")
    before = [ahead for at, ahead in known if inject is None or at < inject] or [begun]
    after = [ahead for at, ahead in known if back is not None and at > back]
    return median(before), median(after or before)


def _offset(seen: Mapping[str, Any], marks: Mapping[str, Any], ahead: tuple[float, float]) -> Offset:
    rows = list(seen.get("dates") or ())
    if not rows:
        return Offset(float(seen["wall"]) - float(seen["mono"]) - ahead[0], None, None, 0)
    about = (float(rows[0]["lo"]) + float(rows[0]["hi"])) / 2 - ahead[0]
    inject, back = marks.get("inject"), marks.get("restored")
    before = [row for row in rows if inject is None or row["to"] + about < inject - AWAY_FROM_FAULT_S]
    after = [row for row in rows if back is not None and row["from"] + about > back + AWAY_FROM_FAULT_S]
    first, last = _between(before, ahead[0]), _between(after, ahead[1])
    best = first or last
    if best is None:
        return Offset(about, 0.5, None, 1)
    drift = last[0] - first[0] if first and last else None
    error = max(found[1] for found in (first, last) if found)
    return Offset(best[0], error, drift, sum(int(row["n"]) for row in (*before, *after)))


def _between(rows: Sequence[Mapping[str, float]], ahead: float) -> tuple[float, float] | None:
    """The middle of what all dates allow, and how far it may be off; None where there is none, or they contradict."""
    if not rows:
        return None
    lo, hi = max(float(row["lo"]) for row in rows), min(float(row["hi"]) for row in rows)
    return ((lo + hi) / 2 - ahead, max(abs(hi - lo) / 2, 0.001)) if lo - hi < TORN_S else None


def _vantage(seen: Mapping[str, Any], offset: Offset) -> dict[str, Any]:
    def shifted(at: float | None) -> float | None:
        return None if at is None else round(at + offset.s, 3)

    def moved(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "from": shifted(row["from"]), "to": shifted(row["to"])} for row in rows]

    probes = [{**probe, "outages": moved(probe["outages"])} for probe in seen["probes"]]
    return {
        "name": str(seen["name"]),
        "offset_s": round(offset.s, 4),
        "error_s": None if offset.error is None else round(offset.error, 4),
        "drift_s": None if offset.drift is None else round(offset.drift, 4),
        "exchanges": offset.exchanges,
        "from": shifted(seen["from"]),
        "to": shifted(seen["to"]),
        "gaps": moved(seen["gaps"]),
        "away": _away([probe for probe in probes if probe["host"] and probe["answered"]]),
        "probes": probes,
    }


def _away(probes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """When nothing of the host answered at all: whoever is asked most often was not, and none of the others was either,
    as far as they were asked. A refusal is a sign of life. Of one probe alone nobody could say it."""
    if len(probes) < 2:
        return []
    first, *rest = sorted(probes, key=lambda probe: float(probe["every_s"]))
    silences = [out for out in first["outages"] if out["why"] in NOBODY]
    return [
        {key: out[key] for key in ("from", "to", "s")}
        for out in silences
        if all(any(_covers(other, out, 2 * probe["every_s"]) for other in probe["outages"]) for probe in rest)
    ]


def _covers(other: Mapping[str, Any], out: Mapping[str, Any], slack_s: float) -> bool:
    """Whether a silence lasted as long as another one, as far as one that is asked less often can tell."""
    if other["why"] not in NOBODY or other["from"] > out["from"] + slack_s:
        return False
    return other["to"] is None or (out["to"] is not None and other["to"] >= out["to"] - slack_s)


def _events(found: Mapping[str, Any], inject: float | None) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for probe in found["probes"]:
        for out in sorted(probe["outages"], key=lambda out: weight(out["why"], out["to"], inject))[:TOLD]:
            gone = f"{probe['name']} ({probe['address']}) is {out['why']}, seen from {found['name']}"
            events.append(_event(out["from"], gone))
            if out["to"] is not None:
                again = f"{probe['name']} answers {found['name']} again, after {out['s']:.1f} s"
                events.append(_event(out["to"], again))
    return events


def _event(at: float, text: str) -> dict[str, Any]:
    return {"at": at, "source": SOURCE, "guest": None, "text": text}
