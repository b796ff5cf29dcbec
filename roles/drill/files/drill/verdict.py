# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has proved. Pure, and never kinder than what was seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What is known at the end. ``missing``: signs that were not seen. ``unharmed``: victims that should have stood
    still and did not. ``disturbed``: guests that should have noticed nothing and did. ``helped``: whether an operator's
    remedy was tried while the fault was there, ``untried`` why it was not, and ``unhelped`` the signs of its help that
    were not seen. ``lost`` and ``corrupt`` count records of canaries. ``unchecked``: guests whose disk could not be
    held against their word. ``coarse``: guests that are heard too seldom for what the drill is to tell apart,
    ``unseen``: those at which nobody could look while it mattered. ``proven``: how many guests' data was held against
    their word, ``unknown``: those that give none. ``gap_s``: for how long the recorder saw nothing while it mattered,
    and ``blind_s`` for how long it may."""

    refused: str = ""
    skipped: str = ""
    stopped: str = ""
    missing: tuple[str, ...] = ()
    unharmed: tuple[str, ...] = ()
    disturbed: tuple[str, ...] = ()
    helped: bool = False
    unhelped: tuple[str, ...] = ()
    untried: str = ""
    restored: bool = False
    not_restored: str = ""
    lost: int = 0
    corrupt: int = 0
    unchecked: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    proven: int = 0
    unknown: tuple[str, ...] = ()
    residue: tuple[str, ...] = ()
    by_deadman: bool = False
    gap_s: float = 0.0
    blind_s: float = 2.0


def judge(facts: Facts) -> tuple[str, str]:
    """The verdict and one sentence for it; the first that applies, the worst first."""
    for verdict, applies, because in (*_harm(facts), *_doubt(facts), *_otherwise(facts)):
        if applies:
            return verdict, because
    helped = " the remedy helped," if facts.helped else ""
    return ("passed", f"The fault was seen, its signs were seen,{helped} {_data(facts)}")


def _data(facts: Facts) -> str:
    """What is known of data: nothing, where nobody has numbered what was written."""
    unknown = f" Whether {', '.join(facts.unknown)} lost anything is not known." if facts.unknown else ""
    if not facts.proven:
        return f"and service came back.{unknown}"
    of = " of the others" if facts.unknown else ""
    return f"service came back, and no acknowledged write{of} is missing.{unknown}"


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
    """Everything is as it was: why it may not even have been tried as it should."""
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
            "inconclusive",
            bool(facts.coarse),
            f"Too little was heard to tell an outage from none: {'; '.join(facts.coarse)}.",
        ),
        (
            "inconclusive",
            bool(facts.unseen),
            f"Nobody could look while it mattered: {'; '.join(facts.unseen)}.",
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
    )


def _otherwise(facts: Facts) -> tuple[tuple[str, bool, str], ...]:
    """The fault was seen and is gone: what was not as it was expected to be, or is not known."""
    return (
        ("hypothesis_refuted", bool(facts.disturbed), f"{'; '.join(facts.disturbed)}, which was not to be."),
        (
            "inconclusive",
            bool(facts.untried),
            f"The fault was seen, but the remedy was not tried: {facts.untried}",
        ),
        (
            "hypothesis_refuted",
            bool(facts.unhelped),
            f"The remedy did not help: {'; '.join(facts.unhelped)} was not seen.",
        ),
        (
            "inconclusive",
            bool(facts.unchecked),
            f"Service is back, but the disk of {', '.join(facts.unchecked)} could not be held against the canary.",
        ),
    )
