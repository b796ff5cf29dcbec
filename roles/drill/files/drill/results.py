# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was recorded to what the journal says, and to what the verdict is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import canary, clock, pulses, said, silence, watch
from .faults.fault import Fault
from .faults.guests import stall_s
from .journal import Journal
from .plan import Plan
from .recorder import Recorder
from .verdict import Facts


def gather(
    journal: Journal,
    recorder: Recorder,
    fault: Fault | None,
    signs: Mapping[str, dict[str, Any]],
    facts: Mapping[str, Any],
) -> Facts:
    """Write what was seen into the journal, and set its marks; what the verdict needs."""
    data, plan = journal.data, journal.plan
    watched, told = watch.look(plan, data["marks"]["inject"], data["marks"]["recover"])
    data["marks"].update(told)
    services = said.since(recorder.cursor) if data["marks"]["inject"] is not None else []
    seen = [*recorder.events, *_kernel(recorder, data["marks"]["inject"]), *services, *watched]
    data["events"] = sorted(seen, key=lambda row: row["at"])
    data["undo"]["fired"] = bool(facts.get("by_deadman"))
    data["recorder"] = recorder.summary() if recorder.began else None
    data["probes"] = _probes(plan, recorder)
    known = _known(facts)
    if fault is None or not recorder.began:
        return Facts(restored=True, **known)
    data["guests"] = [_guest(plan, vmid, recorder, data["marks"], facts) for vmid in plan.listed]
    unseen = {"seen": False, "at": None, "evidence": ""}
    data["signature"] = [signs.get(sign.name) or {"name": sign.name, **unseen} for sign in (*fault.signs, *fault.eased)]
    if data["marks"]["inject"] is None:
        return Facts(restored=True, **{"refused": str(facts.get("failed_inject") or ""), **known})
    journal.mark("effect", _effect(plan, recorder, data))
    journal.mark("api", next((at for at, _what in recorder.told if _in_fault(at, data["marks"])), None))
    journal.measure()
    return Facts(
        restored=bool(facts.get("restored")),
        not_restored=str(facts.get("failed_verify") or facts.get("failed_recover") or facts.get("stopped") or ""),
        stopped=_broken_off(facts),
        missing=tuple(sign.name for sign in fault.signs if sign.name not in signs),
        **_remedy(fault, signs, facts, tried=data["marks"]["relief"] is not None),
        **_harm(data["guests"], outage=fault.outage),
        **_known_of(plan, recorder, data),
        gap_s=_blind(recorder, data["marks"]),
        blind_s=plan.limits.blind_s,
        **{name: value for name, value in known.items() if name != "stopped"},
    )


def _remedy(
    fault: Fault, signs: Mapping[str, dict[str, Any]], facts: Mapping[str, Any], *, tried: bool
) -> dict[str, Any]:
    """Whether what an operator did while the fault was there has helped."""
    unhelped = tuple(sign.name for sign in fault.eased if tried and sign.name not in signs)
    untried = str(facts.get("failed_observe") or "") if fault.relief and not tried else ""
    return {"helped": tried and not unhelped, "unhelped": unhelped, "untried": untried}


def _harm(guests: list[dict[str, Any]], *, outage: bool) -> dict[str, Any]:
    """Who stood still and should not have, who did not and should have, and what was lost."""
    victims = [row for row in guests if row["role"] == "victim"]
    others = [row for row in guests if row["role"] == "bystander"]
    stood = [f"{_named(row)} stood still for {row['longest_gap_s']:.1f} s" for row in others if row["outages"]]
    # One that dies and is back before its silence counts as an outage is disturbed all the same.
    canaries = [row["canary"] for row in guests if row["canary"]]
    anew = [
        f"{_named(row)} was started anew"
        for row in others
        if not row["outages"] and row["canary"] and row["canary"]["boots"] > 1
    ]
    return {
        "unharmed": tuple(_named(row) for row in victims if outage and not row["outages"]),
        "disturbed": (*stood, *anew),
        "lost": sum(len(found["lost"]) for found in canaries),
        "corrupt": sum(len(found["corrupt"]) for found in canaries),
        "proven": sum(found["checked"] and found["acked"] > 0 for found in canaries),
        "unknown": tuple(_named(row) for row in guests if not row["canary"]),
    }


def _known_of(plan: Plan, recorder: Recorder, data: Mapping[str, Any]) -> dict[str, Any]:
    """Guests of which too little is known: heard too seldom, or not to be seen for too long."""
    marks, most = data["marks"], stall_s(plan)
    end = marks["restored"] or marks["verified"] or clock.now()
    coarse, unseen = [], []
    for row in data["guests"]:
        if plan.pulse(row["vmid"]).by == "serial":
            continue
        if row["resolution_s"] is None or row["resolution_s"] > most:
            heard = "too seldom" if row["resolution_s"] is None else f"every {row['resolution_s']:.1f} s"
            coarse.append(f"{_named(row)} is heard {heard}, and {most:g} s without it are an outage")
        hidden = pulses.unseen(recorder.heard[row["vmid"]], marks["inject"], end)
        if hidden > most:
            unseen.append(f"{_named(row)} is known through the node, which was silent for {hidden:.1f} s")
    return {"coarse": tuple(coarse), "unseen": tuple(unseen)}


PLAIN = ("refused", "skipped", "stopped", "unchecked", "residue", "by_deadman")
# Why less can be said of a run than of one that went through all states as it should.
BROKEN_OFF = ("stopped", "failed_inject", "failed_relieve", "failed_recover")


def _broken_off(facts: Mapping[str, Any]) -> str:
    # A host that was told to go down and stayed up is a fault that did not show, and says so by its signs.
    names = [name for name in BROKEN_OFF if not (name == "failed_inject" and facts.get("stayed"))]
    return next((str(facts[name]) for name in names if facts.get(name)), "")


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: facts[name] for name in PLAIN if name in facts}
    if failed := facts.get("failed_disarm"):
        known["residue"] = (*known.get("residue", ()), f"it could not be disarmed: {failed}")
    return known


def _in_fault(at: float, marks: Mapping[str, float | None]) -> bool:
    """Whether something was while the fault was there: what is seen after recovery began is not what the fault did."""
    inject, recover = marks["inject"], marks["recover"]
    return inject is not None and at >= inject and (recover is None or at <= recover)


def _probes(plan: Plan, recorder: Recorder) -> list[dict[str, Any]]:
    """Whether those answered whom the host asked. Where the recorder saw nothing, neither did it ask."""
    gaps = [(gap["from"], gap["to"]) for gap in recorder.gaps]
    tries = {name: sorted(found, key=lambda one: one.at) for name, found in recorder.tries.items()}
    return [silence.summary(probe.told(), tries.get(probe.name, []), gaps) for probe in plan.probes]


def _named(row: Mapping[str, Any]) -> str:
    return f"guest {row['vmid']}"


def _kernel(recorder: Recorder, since: float | None) -> list[dict[str, Any]]:
    """What the kernel said from the fault on; its own clock may be a little off the monotonic one."""
    if since is None:
        return []
    return [
        {"at": at, "source": "kernel", "guest": None, "text": text} for at, text in recorder.kernel if at >= since - 1
    ]


# By what a guest was watched, as the journal calls it.
PROBES = {"serial": "canary", "agent": "agent", "opaque": "echo"}


def _guest(
    plan: Plan, vmid: int, recorder: Recorder, marks: Mapping[str, float | None], facts: Mapping[str, Any]
) -> dict[str, Any]:
    heard, pulse = recorder.heard[vmid], plan.pulse(vmid)
    begin, end = marks["inject"], marks["verified"] or clock.now()
    spans = {**marks, "relieved": facts.get("relieved")}
    found = canary.outages(heard.acks, begin, end, stall_s(plan)) if begin is not None else []
    outages = pulses.told(found, heard, end, stall_s(plan))
    row = {
        "vmid": vmid,
        "name": recorder.names.get(vmid, ""),
        "role": "victim" if vmid in plan.victims else "bystander",
        "probe": PROBES[pulse.by] if heard.acks else "none",
        "outages": [_outage(since, until) for since, until in outages],
        "outage_s": round(sum((until or end) - since for since, until in outages), 3),
        "longest_gap_s": round(
            max([canary.longest_gap(heard.acks), *((until or end) - at for at, until in outages)]), 3
        ),
        # How long an echo took is nothing that a write has taken.
        "latency_ms": _latencies(heard, recorder.began, spans, end) if pulse.by != "opaque" else None,
        "canary": _canary(heard, *facts.get("disks", {}).get(vmid, (None, None))) if pulse.by != "opaque" else None,
    }
    return row if pulse.by == "serial" else {**row, **_of_others(heard, recorder.began, marks, end)}


def _latencies(
    heard: canary.Heard, began: float, spans: Mapping[str, float | None], end: float
) -> dict[str, dict[str, float] | None]:
    """How long writes took before, during and after the fault, and with an operator's remedy once it was in place."""
    begin, recover = spans["inject"], spans["recover"] or end
    relieved = spans["relieved"] or recover
    return {
        "baseline": canary.latency(heard.between(began, begin or end)),
        "fault": canary.latency(heard.between(begin, relieved)) if begin is not None else None,
        "relief": canary.latency(heard.between(relieved, recover)) if begin is not None else None,
        "after": canary.latency(heard.between(recover, end + 1)) if begin is not None else None,
    }


def _canary(heard: canary.Heard, lost: list[int] | None, corrupt: list[int] | None) -> dict[str, Any]:
    """A guest's numbered writes; ``lost`` is None where its disk was not read back."""
    return {
        "acked": len(heard.acks),
        "checked": lost is not None,
        "lost": lost or [],
        "corrupt": corrupt or [],
        "errors": heard.errors,
        "rpo_records": None if lost is None else len(lost),
        "rpo_s": None if lost is None else _rpo(heard.acks, lost),
        "boots": len({ack.boot for ack in heard.acks}),
    }


def _of_others(heard: canary.Heard, began: float, marks: Mapping[str, float | None], end: float) -> dict[str, Any]:
    """What is known of a guest without a canary besides: how finely it was heard, and what QEMU has counted."""
    begin, recover = marks["inject"] or end, marks["recover"] or end
    finest = pulses.resolution(heard.acks, began, begin)
    return {
        "resolution_s": None if finest is None else round(finest, 3),
        "written_bytes": {
            "baseline": pulses.written(heard, began, begin),
            "fault": pulses.written(heard, begin, recover),
            "after": pulses.written(heard, recover, end + 1),
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
    """The first true effect: a victim's canary falls silent, its process ends, the API or an address is gone, or the
    node itself shows that something is wrong."""
    inject = data["marks"]["inject"]
    silent = [row["outages"][0]["from"] for row in data["guests"] if row["role"] == "victim" and row["outages"]]
    found = [max(at, inject) for at in silent]
    ended = [row["at"] for row in recorder.events if row["source"] == "runner" and "is gone" in row["text"]]
    found += [at for at in ended if _in_fault(at, data["marks"])]
    found += [at for at, _what in recorder.told if _in_fault(at, data["marks"])]
    for tried in recorder.reached.values():
        found += [at for at, got in tried if got is None and at >= inject][:1]
    found += [row["at"] for row in data["signature"] if row["seen"]]
    gone = [outage["from"] for probe in data["probes"] for outage in probe["outages"]]
    found += [at for at in gone if _in_fault(at, data["marks"])]
    return min(found, default=None)


def _blind(recorder: Recorder, marks: Mapping[str, float | None]) -> float:
    begin, end = marks["inject"], marks["restored"] or marks["verified"]
    if begin is None or end is None:
        return 0.0
    return max((min(gap["to"], end) - max(gap["from"], begin) for gap in recorder.gaps), default=0.0)
