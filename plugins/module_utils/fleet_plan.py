# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was foreseen of each guest to what has to wait for what. Only looks at results."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .core.fleet import DOWN, UP, Job
from .core.fleet_entries import Entry, arranged, begin_order, needs
from .core.fleet_report import Told
from .core.reconcile import Outcome
from .core.steps import Failure

_RUNS = ("running", "paused")
# qemu-server: memory of a guest that does not say.
_MEMORY_MIB = 512


def vmid_of(outcome: Outcome | None) -> int | None:
    """The id of the guest that an outcome is about, or None where it is not known yet."""
    found = (outcome.object or {}).get("vmid") if outcome else None
    return int(found) if found else made_id(outcome.steps if outcome else ())


def made_id(steps: Iterable[Mapping[str, Any]]) -> int | None:
    """The id of the guest that one of these steps makes, or None."""
    for step in steps:
        sent = step.get("params") or {}
        if re.fullmatch(r"POST /nodes/[^/]+/qemu", str(step.get("request"))):
            return int(sent["vmid"])
        if re.fullmatch(r"POST /nodes/[^/]+/qemu/\d+/clone", str(step.get("request"))):
            return int(sent["newid"])
    return None


def is_twin(failure: Failure) -> bool:
    """True when a guest was made, and another one of this name is there, too."""
    return failure.msg.startswith("several guests are called ")


def removal(params: Mapping[str, Any], vmid: int) -> dict[str, Any]:
    """The options with which a guest that this run has made goes again, by its id and its name."""
    own = {"vmid": vmid, "state": "absent", "force_stop": True, "allow_data_loss": True, "rename": False}
    return {**params, **own, "clone": None, "unset": None, "destroy_unreferenced_disks": False, "purge": False}


def _now(outcome: Outcome | None) -> str:
    return str(((outcome.object if outcome else None) or {}).get("status") or "stopped")


def ends(entry: Entry, outcome: Outcome | None) -> str:
    """UP for a guest that is to run and does not yet, DOWN for one that is to stop or to go, else ""."""
    if outcome is None or not outcome.changed:
        return ""
    if outcome.action == "delete":
        return DOWN
    wanted, now = entry.params.get("status"), _now(outcome)
    if wanted in _RUNS and now not in _RUNS:
        return UP
    return DOWN if wanted == "stopped" and now in _RUNS else ""


def hopeless(made: Sequence[Entry], told: Mapping[str, Told]) -> dict[str, Failure]:
    """Guests that cannot be finished whatever is done, because what they need fails or will not run."""
    found: dict[str, Failure] = {}
    by_name = {e.called: e for e in made}
    open_ = [e for e in made if needs(e) and not told[e.called].failure]
    while True:
        lost = {n for n in by_name if told[n].failure or n in found}
        new = {e.called: f for e in open_ if e.called not in found and (f := _lost(e, by_name, told, lost))}
        if not new:
            return found
        found |= new


def _lost(
    entry: Entry, by_name: Mapping[str, Entry], told: Mapping[str, Told], lost: Collection[str]
) -> Failure | None:
    outcome = told[entry.called].outcome
    if entry.source in lost and outcome and outcome.action == "create":
        why = f"it is cloned from {entry.source}, which failed. Mend that, then run again."
        return Failure(why, doing=f"create guest {entry.called}")
    if ends(entry, outcome) != UP:
        return None
    for name in sorted(entry.depends):
        if name in lost:
            why = f"it depends on {name}, which failed. Mend that, then run again."
            return Failure(why, doing=f"start guest {entry.called}")
        other = told[name].outcome
        end = ends(by_name[name], other)
        if end != UP and (end == DOWN or _now(other) not in _RUNS):
            why = f"it depends on {name}, which does not run and is not to be started. Set status: running for {name}."
            return Failure(why, doing=f"start guest {entry.called}")
    return None


def behind(names: set[str], todo: Sequence[Entry]) -> set[str]:
    """The entries that wait for one of ``names``, directly or not."""
    found: set[str] = set()
    while True:
        new = {e.called for e in todo if e.called not in found and needs(e) & (names | found)}
        if not new:
            return found
        found |= new


def schedule(todo: Sequence[Entry], told: Mapping[str, Told]) -> list[Job]:
    """The work on each guest that differs, in the order in which it begins."""
    mine = {e.called for e in todo}
    plans = {e.called: told[e.called].planned for e in todo}
    way = {e.called: ends(e, plans[e.called]) for e in todo}
    # What is there already is not cloned again.
    todo = [e if (p := plans[e.called]) and p.action == "create" else replace(e, source=None) for e in todo]
    ups, downs = ({name for name, end in way.items() if end == which} for which in (UP, DOWN))
    order = begin_order(arranged(todo, ups, downs), downs)
    return [_job(e, plans[e.called], mine) for e in order]


def _job(entry: Entry, planned: Outcome | None, mine: set[str]) -> Job:
    memory = entry.params.get("memory") or ((planned.object if planned else None) or {}).get("memory")
    return Job(
        name=entry.called,
        end=ends(entry, planned),
        depends=frozenset(entry.depends & mine),
        after=frozenset({entry.source} if entry.source else ()) & mine,
        order=entry.order,
        node=_node(entry, planned),
        memory=int(float(memory or _MEMORY_MIB)),
    )


def _node(entry: Entry, planned: Outcome | None) -> str:
    known = ((planned.object if planned else None) or {}).get("node")
    found = [re.match(r"\w+ /nodes/([^/]+)/", str(s.get("request"))) for s in (planned.steps if planned else ())]
    return str(known or next((f[1] for f in found if f), entry.params.get("node") or ""))
