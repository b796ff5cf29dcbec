# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill has measured, in sentences; only what the journal says, and what it does not say named as such."""

from __future__ import annotations

from .drill_journal import GuestResult, Journal
from .drill_words import joined, many, seconds


def measured(journal: Journal) -> list[str]:
    """Sentences on guests, on their data, and on the signs of the fault."""
    said = [_outage(guest) for guest in journal.guests if guest.role == "victim"]
    said += _bystanders([guest for guest in journal.guests if guest.role == "bystander"])
    said += _data(journal.guests)
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
    return said
