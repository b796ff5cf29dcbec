# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has proved. Pure, and never kinder than what was seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What is known at the end. ``missing``: signs that were not seen. ``unharmed``: victims that should have stood
    still and did not. ``disturbed``: guests that should have noticed nothing and did. ``lost`` and ``corrupt`` count
    records of canaries. ``unchecked``: guests whose disk could not be held against their word. ``gap_s``: for how long
    the recorder saw nothing while it mattered, and ``blind_s`` for how long it may."""

    refused: str = ""
    skipped: str = ""
    stopped: str = ""
    missing: tuple[str, ...] = ()
    unharmed: tuple[str, ...] = ()
    disturbed: tuple[str, ...] = ()
    restored: bool = False
    not_restored: str = ""
    lost: int = 0
    corrupt: int = 0
    unchecked: tuple[str, ...] = ()
    residue: tuple[str, ...] = ()
    by_deadman: bool = False
    gap_s: float = 0.0
    blind_s: float = 2.0


def judge(facts: Facts) -> tuple[str, str]:
    """The verdict and one sentence for it; the first that applies, the worst first."""
    for verdict, applies, because in (*_harm(facts), *_doubt(facts)):
        if applies:
            return verdict, because
    return "passed", "The fault was seen, its signs were seen, service came back, and no acknowledged write is missing."


def _harm(facts: Facts) -> tuple[tuple[str, bool, str], ...]:
    """What is wrong with the host or its guests, or was never tried."""
    return (
        ("skipped", bool(facts.skipped), f"It cannot run here: {facts.skipped}"),
        ("not_recovered", bool(facts.residue), f"The drill has left something behind: {'; '.join(facts.residue)}"),
        ("aborted_preflight", bool(facts.refused), f"Nothing was touched: {facts.refused}"),
        ("not_recovered", not facts.restored, f"Not everything is as it was: {facts.not_restored}"),
        (
            "not_recovered",
            bool(facts.lost or facts.corrupt),
            f"{facts.lost} acknowledged records are not on the disk, {facts.corrupt} are damaged.",
        ),
    )


def _doubt(facts: Facts) -> tuple[tuple[str, bool, str], ...]:
    """Everything is as it was: what is there to say against a pass."""
    return (
        (
            "inconclusive",
            bool(facts.stopped),
            f"It was stopped in the middle, and everything is as it was: {facts.stopped}",
        ),
        (
            "recovered_by_deadman",
            facts.by_deadman,
            "Everything is as it was, but only because the host undid it by itself: the meant recovery did not.",
        ),
        (
            "inconclusive",
            facts.gap_s > facts.blind_s,
            f"The recorder saw nothing for {facts.gap_s:.1f} s while it mattered, so nothing is proved.",
        ),
        (
            "fault_not_observed",
            bool(facts.missing),
            f"The fault did not show: {'; '.join(facts.missing)} was not seen.",
        ),
        (
            "fault_not_observed",
            bool(facts.unharmed),
            f"The fault did no harm: {', '.join(facts.unharmed)} went on as if nothing were.",
        ),
        ("hypothesis_refuted", bool(facts.disturbed), f"{'; '.join(facts.disturbed)}, which was not to be."),
        (
            "inconclusive",
            bool(facts.unchecked),
            f"Service is back, but the disk of {', '.join(facts.unchecked)} could not be held against the canary.",
        ),
    )
