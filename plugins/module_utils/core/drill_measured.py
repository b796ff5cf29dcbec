# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill has measured, in sentences; only what the journal says, and what it does not say named as such."""

from __future__ import annotations

from .drill_journal import WATCHED, GuestResult, Journal
from .drill_probes import ProbeResult
from .drill_words import joined, many, seconds


def measured(journal: Journal) -> list[str]:
    """Sentences on guests, on who told of the fault, on data, and on the signs of the fault."""
    said = [_outage(guest) for guest in journal.guests if guest.role == "victim"]
    said += _bystanders([guest for guest in journal.guests if guest.role == "bystander"])
    said += _relief(journal)
    said += _told(journal)
    said += _outside(journal)
    said += _data(journal.guests)
    said += _coarse(journal.guests)
    if journal.signature:
        seen = sum(sign.seen is True for sign in journal.signature)
        said.append(f"{seen} of {many(len(journal.signature), 'expected sign')} seen.")
    return said


def _outage(guest: GuestResult) -> str:
    what = f"Guest {guest.called}, a {guest.role},"
    if guest.probe == "none":
        return f"{what} was not watched."
    if any(outage.to is None for outage in guest.outages):
        return f"{what} did not come back while the drill watched."
    if guest.outage_s is None:
        return f"{what} was watched, but its outage is not known."
    if guest.outage_s == 0:
        return f"{what} had no outage."
    times = f" in {len(guest.outages)} pieces" if len(guest.outages) > 1 else ""
    return f"{what} was out for {seconds(guest.outage_s)}{times}."


def _bystanders(guests: list[GuestResult]) -> list[str]:
    """One sentence for all that were left alone, and one for each that was not."""
    calm = [g for g in guests if g.probe != "none" and g.outage_s == 0 and not g.outages]
    rest = [_outage(guest) for guest in guests if guest not in calm]
    if len(calm) < 2:
        return [_outage(guest) for guest in calm] + rest
    return [f"The bystanders {joined([g.called for g in calm])} had no outage.", *rest]


def _relief(journal: Journal) -> list[str]:
    """What an operator's remedy changed for the victims' writes, where one was tried and there were some."""
    said = []
    for guest in journal.guests:
        times = guest.latency_ms
        if journal.marks.get("relief") is None or guest.role != "victim" or times is None:
            continue
        told = (times.baseline, times.fault, times.relief)
        before, fault, relief = (None if found is None else found.p50 for found in told)
        if before is not None and fault is not None and relief is not None:
            said.append(
                f"Half of the writes of guest {guest.called} took at most {fault:.1f} ms during the fault and "
                f"{relief:.1f} ms with the remedy, instead of {before:.1f} ms."
            )
    return said


def _told(journal: Journal) -> list[str]:
    """When guest_watch told of the fault, beside what the API of Proxmox VE showed; where it was there."""
    effect, recover = journal.marks.get("effect"), journal.marks.get("recover")
    if not journal.watched or effect is None:
        return []
    watch, api = journal.metrics.get(WATCHED), journal.metrics.get("blind_s")
    time = f" in the {seconds(recover - effect)} until the repair began" if recover is not None else ""
    told = f"said nothing{time}" if watch is None else f"told {_when(watch)}"
    showed = "nothing" if api is None else f"it {_when(api)}"
    return [f"guest_watch {told}; the API of Proxmox VE showed {showed}."]


def _outside(journal: Journal) -> list[str]:
    """What whoever looked from outside saw of the host, and of those who were asked from there."""
    seen = journal.vantage
    if seen is None:
        return []
    said = [
        f"Seen from {seen.name}, nothing of the host answered for {seconds(away.s)}."
        if away.s is not None
        else f"Seen from {seen.name}, nothing of the host answered any more while somebody looked."
        for away in seen.away
    ]
    known = [probe for probe in seen.probes if probe.answered]
    out = [f"{probe.name} for {seconds(probe.lasted(probe.silences))}" for probe in known if probe.silences]
    calm = [probe.name for probe in known if not probe.outages]
    if out:
        said.append(f"Seen from {seen.name}, there was no answer from {joined(out)}.")
    said += [f"Seen from {seen.name}, {_late(probe, journal.marks.get('inject'))}." for probe in known if probe.delays]
    if calm:
        said.append(f"Seen from {seen.name}, {joined(calm)} answered all the time.")
    return said


def _late(probe: ProbeResult, inject: float | None) -> str:
    """How often its answers were late; what was so before the fault is not the fault's doing."""
    count, lasted = len(probe.delays), seconds(probe.lasted(probe.delays))
    before = [out for out in probe.delays if inject is not None and out.to is not None and out.to <= inject]
    those = "all of it" if len(before) == count else f"{seconds(probe.lasted(tuple(before)))} of it"
    which = f", {those} before the fault" if before else ""
    return f"answers of {probe.name} were late {many(count, 'time')}, by {lasted} in all{which}"


def _when(after: float) -> str:
    """A pool that fills is told of before anything stands still."""
    return f"after {seconds(after)}" if after >= 0 else f"{seconds(-after)} before the first effect"


def _data(guests: tuple[GuestResult, ...]) -> list[str]:
    """What became of acknowledged writes. A disk that was not read back proves nothing."""
    read = [guest.canary for guest in guests if guest.canary is not None and guest.canary.checked]
    unread = [guest.called for guest in guests if guest.canary is not None and not guest.canary.checked]
    said = []
    if read:
        acked = [canary.acked for canary in read]
        known = sum(a for a in acked if a is not None)
        lost, bad = (sum(len(n) for n in which) for which in zip(*((c.lost, c.corrupt) for c in read), strict=True))
        of = f"Of {many(known, 'acknowledged write')}" if None not in acked else "Of the acknowledged writes"
        said.append(f"{of}, {lost or 'none'} {'was' if lost < 2 else 'were'} lost and {bad or 'none'} damaged.")
    if unread:
        said.append(f"The disk of {joined(unread)} was not read back, so nothing is known of lost writes there.")
    if unknown := [guest.called for guest in guests if guest.probe == "echo"]:
        said.append(f"Nobody has numbered the writes of {joined(unknown)}: whether any is lost is not known.")
    return said


def _coarse(guests: tuple[GuestResult, ...]) -> list[str]:
    """How short an outage may be and not be seen, where that is no tenth of a second."""
    return [
        f"Guest {guest.called} was heard at most {seconds(guest.resolution_s)} apart: a shorter outage is not seen."
        for guest in guests
        if guest.resolution_s is not None
    ]
