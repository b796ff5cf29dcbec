# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a drill's report on who answered whom: the host's own probes, and whoever looked from outside."""

from __future__ import annotations

from .drill_blocks import Block, Cell, Table, Text
from .drill_journal import Journal, Vantage
from .drill_probes import ProbeResult, Silence, weight
from .drill_words import many, seconds, since

SHOWN = 5
KINDS = {"tcp": "a connection", "banner": "first words", "ping": "an echo", "https": "an answer to a request"}


def outside(journal: Journal) -> tuple[Block, ...]:
    """Nothing of a drill that broke nothing."""
    seen = journal.vantage
    if journal.marks.get("inject") is None and seen is None:
        return ()
    rows = [_row(journal, probe, "the host") for probe in journal.probes]
    rows += [_row(journal, probe, seen.name) for probe in seen.probes] if seen else []
    head = ("Who was asked", "From where", "What counts", "Answers", "Usually after", "Silent", "Late", "When")
    return (
        *(_seen(journal, seen) if seen else [Text(_NOBODY)]),
        *([Table(head, tuple(rows))] if rows else []),
    )


_NOBODY = "Nobody looked from outside: whatever is told here, the host has seen itself, as far as it could."


def _seen(journal: Journal, seen: Vantage) -> list[Block]:
    error = None if seen.error_s is None else f"{seen.error_s * 1000:.0f} ms"
    known = (
        f"Its clock was held against the host's in {many(seen.exchanges, 'answer')}, so its times are right to {error}"
        if error
        else "The clocks could not be held against each other, so its times are as right as both machines' wall clocks"
    )
    moved = 0.0 if seen.drift_s is None or seen.error_s is None else abs(seen.drift_s)
    told = moved > 2 * (seen.error_s or 0.0)
    drift = f"; after the fault the clocks had drifted apart by {moved * 1000:.0f} ms" if told else ""
    blocks: list[Block] = [Text(f"{seen.name[:1].upper()}{seen.name[1:]} looked from outside. {known}{drift}.")]
    for away in seen.away:
        lasted = f"for {seconds(away.s)}" if away.s is not None else "and that was not over in the end"
        own = " Its own recorder saw nothing either." if _blind(journal, away.from_, away.to) else ""
        blocks.append(
            Text(f"Nothing of the host answered from {since(journal, away.from_)} on, {lasted}.{own}", "warn")
        )
    if seen.gaps:
        missed = seconds(sum(gap.to - gap.from_ for gap in seen.gaps))
        blocks.append(Text(f"For {missed} it could not look itself, and what happened then is not known.", "warn"))
    return blocks


def _blind(journal: Journal, since_s: float, until_s: float | None) -> bool:
    """Whether the host's own recorder has a gap in that time."""
    gaps = journal.recorder.gaps if journal.recorder else ()
    return any((until_s is None or gap.from_ < until_s) and (gap.to is None or gap.to > since_s) for gap in gaps)


def _row(journal: Journal, probe: ProbeResult, where: str) -> tuple[Cell | str, ...]:
    asked = f"{probe.name}, {probe.address}"
    counts = f"{KINDS[probe.kind]}, every {probe.every_s:.1f} s"
    answers = f"{probe.answered} of {probe.tried}"
    if not probe.answered:
        return (asked, where, counts, answers, "", Cell("never reached from there", "warn"), "", "")
    silent = Cell(seconds(probe.lasted(probe.silences)), "warn") if probe.silences else "never"
    late = f"{many(len(probe.delays), 'time')}, {seconds(probe.lasted(probe.delays))}" if probe.delays else "never"
    inject = journal.marks.get("inject")
    shown = sorted(probe.outages, key=lambda out: weight(out.why, out.to, inject))[:SHOWN]
    told = [_silence(journal, out) for out in sorted(shown, key=lambda out: out.from_)]
    more = len(probe.outages) - SHOWN
    told += [f"and {many(more, 'more time')}"] if more > 0 else []
    usual = "" if probe.usual_ms is None else f"{probe.usual_ms:.1f} ms"
    return (asked, where, counts, answers, usual, silent, late, "; ".join(told))


def _silence(journal: Journal, out: Silence) -> str:
    lasted = f"for {seconds(out.s)}" if out.s is not None else "and not over"
    return f"{since(journal, out.from_)}, {lasted} ({out.why})"
