# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a drill's report: verdicts, moments, metrics, and seconds as people say them."""

from __future__ import annotations

from dataclasses import dataclass

from .drill_journal import Journal


@dataclass(frozen=True)
class Said:
    """A verdict in words. ``tone``: good, warn, bad or calm; ``means`` is a sentence, ``then`` what to do next."""

    headline: str
    tone: str
    sign: str
    means: str
    then: str


VERDICTS = {
    "passed": Said(
        "Passed",
        "good",
        "✓",
        "The fault was real, the lab behaved as expected, and everything came back.",
        "Nothing to repair. Run the drill again after the next change to this host.",
    ),
    "recovered_by_deadman": Said(
        "Recovered, but only by the safety timer",
        "warn",
        "!",
        "The lab is whole again. The planned repair did not do it: the timer that was armed before did.",
        "Find out why the planned repair did not work. On a bad day there is no timer.",
    ),
    "hypothesis_refuted": Said(
        "The hypothesis was wrong",
        "warn",
        "≠",
        "The fault was real and the lab is whole again, but it did not behave as expected.",
        "Compare what was expected with what was measured. Then change the lab, or the expectation.",
    ),
    "fault_not_observed": Said(
        "Nothing broke",
        "warn",
        "?",
        "The fault was injected and no effect was seen. That proves nothing, so it is no pass.",
        "Check that the target is the right one and that the fault is strong enough.",
    ),
    "not_recovered": Said(
        "Not recovered",
        "bad",
        "✗",
        "Not everything is as it was before: something is still broken, lost, or left behind.",
        "Look at the host now. The undo below may be run by hand, and more than once.",
    ),
    "aborted_preflight": Said(
        "Not started",
        "calm",
        "○",
        "A check before the start said no. Nothing was broken.",
        "Do what the refused check asks for, then start the drill again.",
    ),
    "inconclusive": Said(
        "No verdict",
        "warn",
        "?",
        "The drill did not see enough to decide.",
        "Put right what the sentence above names, then run the drill again.",
    ),
    "skipped": Said(
        "Skipped",
        "calm",
        "○",
        "The drill was not run. Nothing was broken, and nothing was proved.",
        "Run it when what it needs is there.",
    ),
}
# A moment: its short label on the timeline, its name, what it means.
MOMENTS = {
    "inject": ("inject", "Fault injected", "the injection began; the undo was to be armed before"),
    "effect": ("effect", "First effect", "the first thing that really went wrong"),
    "detected": ("detected", "Detected", "the drill's own detector named it"),
    "api": ("in the API", "Shown by Proxmox VE", "the API of Proxmox VE showed it for the first time"),
    "watch": ("told", "Told by guest_watch", "guest_watch raised an alert for the first time"),
    "relief": ("remedy", "Remedy tried", "an operator's remedy was begun while the fault was still there"),
    "recover": ("repair", "Repair began", "the planned repair was started"),
    "restored": ("restored", "Service restored", "the guests did their work again"),
    "verified": ("verified", "Verified", "everything was checked, the data too"),
}
# A metric: its name, what it measures, what to say where it is not known.
MEASURES = {
    "time_to_detect_s": ("Time to detect", "from the first effect until the drill's detector named it", "not detected"),
    "blind_s": (
        "Until Proxmox VE shows it",
        "from the first effect until the API of Proxmox VE showed it",
        "never seen",
    ),
    "watch_s": (
        "Until guest_watch told",
        "from the first effect until guest_watch raised an alert",
        "said nothing",
    ),
    "time_to_recover_s": ("Time to recover", "from the start of the repair until the service was back", "not known"),
    "outage_s": ("Effect lasted", "from the first effect until the service was back", "not known"),
}
PHASES = {
    "preflight": "may it begin?",
    "baseline": "measure what is normal",
    "arm": "arm the undo",
    "inject": "break it",
    "observe": "watch",
    "relieve": "what an operator did meanwhile",
    "recover": "repair it",
    "verify": "check everything",
    "disarm": "take the undo away",
    "report": "write it down",
}
PROBES = {
    "canary": "canary (numbered writes, read back from the disk)",
    "agent": "agent (numbered writes through it, read back from the disk)",
    "echo": "answers at its address (nothing is known of its data)",
    "blockstat": "QEMU's own count of writes",
    "none": "not watched",
}
UNKNOWN = "not known"


def seconds(value: float | None) -> str:
    """A duration: "0.4 s", "19.2 s", "2 min 5 s", or "not known"."""
    if value is None:
        return UNKNOWN
    if abs(value) < 99.95:
        return f"{value:.1f} s" if round(abs(value), 1) else "0.0 s"
    minutes, rest = divmod(round(abs(value)), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest)
    return f"{'-' if value < 0 else ''}{' '.join(parts)}"


def metric(journal: Journal, key: str) -> str:
    """A metric as people say it; honest about what was not seen, or could not be."""
    value = journal.metrics.get(key)
    if value is not None:
        return seconds(value)
    if journal.marks.get("effect") is None:
        return UNKNOWN if journal.marks.get("inject") is not None else "not run"
    return MEASURES[key][2]


def since(journal: Journal, at: float | None) -> str:
    """A moment as seconds after the injection: "+7.9 s"."""
    zero = journal.zero
    if at is None or zero is None:
        return UNKNOWN
    return f"{'-' if at < zero else '+'}{seconds(abs(at - zero))}"


def clock_time(journal: Journal, at: float | None) -> str:
    """A moment as the clock showed it in UTC: "02:15:07.9"."""
    found = journal.utc(at)
    return f"{found:%H:%M:%S}.{found.microsecond // 100000}" if found else UNKNOWN


def many(count: int, one: str, more: str = "") -> str:
    """A count with its noun: "1 run", "3 runs"."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def joined(items: list[str]) -> str:
    """Words in a row: "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
