# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was recorded to what the journal says, and to what the verdict is made of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from . import canary
from .faults.fault import Fault
from .journal import Journal
from .plan import Plan
from .recorder import Recorder
from .verdict import Facts

# How long a canary may be silent before that counts as an outage, where the drill does not say otherwise.
STALL_S = 3.0


def gather(
    journal: Journal,
    recorder: Recorder,
    fault: Fault | None,
    signs: Mapping[str, dict[str, Any]],
    facts: Mapping[str, Any],
) -> Facts:
    """Write what was seen into the journal, and set its marks; what the verdict needs."""
    data, plan = journal.data, journal.plan
    data["events"] = sorted(recorder.events + _kernel(recorder, data["marks"]["inject"]), key=lambda row: row["at"])
    data["undo"]["fired"] = bool(facts.get("by_deadman"))
    data["recorder"] = recorder.summary() if recorder.began else None
    known = _known(facts)
    if fault is None or not recorder.began:
        return Facts(restored=True, **known)
    data["guests"] = [_guest(plan, vmid, recorder, data["marks"], facts.get("disks", {})) for vmid in plan.listed]
    unseen = {"seen": False, "at": None, "evidence": ""}
    data["signature"] = [signs.get(sign.name) or {"name": sign.name, **unseen} for sign in fault.signs]
    if data["marks"]["inject"] is None:
        return Facts(restored=True, **{"refused": str(facts.get("failed_inject") or ""), **known})
    journal.mark("effect", _effect(plan, recorder, data))
    journal.mark("api", next((at for at, _what in recorder.told if _in_fault(at, data["marks"])), None))
    journal.measure()
    return Facts(
        restored=bool(facts.get("restored")),
        not_restored=str(facts.get("failed_verify") or facts.get("failed_recover") or facts.get("stopped") or ""),
        stopped=next((str(facts[name]) for name in BROKEN_OFF if facts.get(name)), ""),
        missing=tuple(row["name"] for row in data["signature"] if not row["seen"]),
        **_harm(data["guests"], outage=fault.outage),
        gap_s=_blind(recorder, data["marks"]),
        blind_s=plan.limits.blind_s,
        **{name: value for name, value in known.items() if name != "stopped"},
    )


def _harm(guests: list[dict[str, Any]], *, outage: bool) -> dict[str, Any]:
    """Who stood still and should not have, who did not and should have, and what was lost."""
    victims = [row for row in guests if row["role"] == "victim"]
    others = [row for row in guests if row["role"] == "bystander"]
    return {
        "unharmed": tuple(_named(row) for row in victims if outage and not row["outages"]),
        "disturbed": tuple(
            f"{_named(row)} stood still for {row['longest_gap_s']:.1f} s" for row in others if row["outages"]
        ),
        "lost": sum(len(row["canary"]["lost"]) for row in guests),
        "corrupt": sum(len(row["canary"]["corrupt"]) for row in guests),
    }


PLAIN = ("refused", "skipped", "stopped", "unchecked", "residue", "by_deadman")
# Why less can be said of a run than of one that went through all states as it should.
BROKEN_OFF = ("stopped", "failed_inject", "failed_recover")


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: facts[name] for name in PLAIN if name in facts}
    if failed := facts.get("failed_disarm"):
        known["residue"] = (*known.get("residue", ()), f"it could not be disarmed: {failed}")
    return known


def _in_fault(at: float, marks: Mapping[str, float | None]) -> bool:
    """Whether something was while the fault was there: what is seen after recovery began is not what the fault did."""
    inject, recover = marks["inject"], marks["recover"]
    return inject is not None and at >= inject and (recover is None or at <= recover)


def _named(row: Mapping[str, Any]) -> str:
    return f"guest {row['vmid']}"


def _kernel(recorder: Recorder, since: float | None) -> list[dict[str, Any]]:
    """What the kernel said from the fault on; its own clock may be a little off the monotonic one."""
    if since is None:
        return []
    return [
        {"at": at, "source": "kernel", "guest": None, "text": text} for at, text in recorder.kernel if at >= since - 1
    ]


def _guest(
    plan: Plan, vmid: int, recorder: Recorder, marks: Mapping[str, float | None], disks: Mapping[int, Any]
) -> dict[str, Any]:
    heard = recorder.heard[vmid]
    begin, end = marks["inject"], marks["verified"] or time.monotonic()
    stall = float(plan.options.get("stall_s") or STALL_S)
    outages = canary.outages(heard.acks, begin, end, stall) if begin is not None else []
    recover = marks["recover"] or end
    lost, corrupt = disks.get(vmid, ([], []))
    return {
        "vmid": vmid,
        "name": recorder.names.get(vmid, ""),
        "role": "victim" if vmid in plan.victims else "bystander",
        "probe": "canary" if heard.acks else "none",
        "outages": [_outage(since, until) for since, until in outages],
        "outage_s": round(sum((until or end) - since for since, until in outages), 3),
        "longest_gap_s": round(
            max([canary.longest_gap(heard.acks), *((until or end) - at for at, until in outages)]), 3
        ),
        "latency_ms": {
            "baseline": canary.latency(heard.between(recorder.began, begin or end)),
            "fault": canary.latency(heard.between(begin, recover)) if begin is not None else None,
            "after": canary.latency(heard.between(recover, end + 1)) if begin is not None else None,
        },
        "canary": {
            "acked": len(heard.acks),
            "checked": vmid in disks,
            "lost": lost,
            "corrupt": corrupt,
            "errors": heard.errors,
            "rpo_records": len(lost) if vmid in disks else None,
            "rpo_s": _rpo(heard.acks, lost) if vmid in disks else None,
            "boots": len({ack.boot for ack in heard.acks}),
        },
    }


def _outage(since: float, until: float | None) -> dict[str, float | None]:
    lasted = None if until is None else round(until - since, 3)
    return {"from": round(since, 3), "to": None if until is None else round(until, 3), "s": lasted}


def _rpo(acks: list[canary.Ack], lost: list[int]) -> float:
    """From the first to the last acknowledged write that is lost, in seconds of the host's clock."""
    times = [ack.at for ack in acks if ack.seq in set(lost)]
    return round(max(times) - min(times), 3) if times else 0.0


def _effect(plan: Plan, recorder: Recorder, data: Mapping[str, Any]) -> float | None:
    """The first true effect: a victim's canary falls silent, its process ends, the API or an address is gone."""
    inject = data["marks"]["inject"]
    silent = [row["outages"][0]["from"] for row in data["guests"] if row["role"] == "victim" and row["outages"]]
    found = [max(at, inject) for at in silent]
    found += [row["at"] for row in recorder.events if "is gone" in row["text"] and _in_fault(row["at"], data["marks"])]
    found += [at for at, what in recorder.told if what == "silent" and _in_fault(at, data["marks"])]
    for tried in recorder.reached.values():
        found += [at for at, got in tried if got is None and at >= inject][:1]
    found += [row["at"] for row in data["signature"] if row["seen"]]
    return min(found, default=None)


def _blind(recorder: Recorder, marks: Mapping[str, float | None]) -> float:
    begin, end = marks["inject"], marks["restored"] or marks["verified"]
    if begin is None or end is None:
        return 0.0
    return max((min(gap["to"], end) - max(gap["from"], begin) for gap in recorder.gaps), default=0.0)
