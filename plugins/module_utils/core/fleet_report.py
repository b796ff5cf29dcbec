# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of many guests, for people: a line for each, one sentence for all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .reconcile import Outcome
from .steps import Failure

_DONE = {"create": "created", "update": "changed", "delete": "removed", "none": "as it was"}
# How many errors the one message holds; all of them are in the results of the guests.
_ERRORS = 20


@dataclass
class Told:
    """What became of one guest. ``outcome`` is missing where it failed, ``done`` are the steps carried out then.

    ``undone``: the guest was made by this run and removed again.
    """

    name: str
    vmid: int | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None
    planned: Outcome | None = None
    done: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    undone: bool = False

    @property
    def changed(self) -> bool:
        """True when the guest is (in check mode: would be) not as it was."""
        if self.undone:
            return False
        return bool(self.done) or bool(self.outcome and self.outcome.changed)

    @property
    def error(self) -> str:
        """Why it failed, as a sentence, or ""."""
        return str(self.failure.result()["msg"]) if self.failure else ""

    def result(self) -> dict[str, Any]:
        """One entry of the result: name, vmid, action, changed, object, steps and diff; error where there is one."""
        outcome = self.outcome
        shown: dict[str, Any] = {
            "name": self.name,
            "vmid": self.vmid,
            "action": outcome.action if outcome and not self.undone else "none",
            "changed": self.changed,
            "object": outcome.object if outcome and not self.undone else None,
            "steps": outcome.steps if outcome else self.done,
            "diff": outcome.diff if outcome and not self.undone else {},
        }
        if self.undone:
            shown["rolled_back"] = True
        if self.failure:
            evidence = self.failure.result()
            shown |= {"error": evidence.pop("msg"), "steps": evidence.pop("done") or self.done}
            shown |= {key: evidence[key] for key in ("status", "request", "task_log", "errors") if key in evidence}
        return shown

    def line(self) -> str:
        """ "web1 (104): changed cores, memory" """
        called = f"{self.name} ({self.vmid})" if self.vmid and str(self.vmid) != self.name else self.name
        if self.failure:
            also = " It was removed again." if self.undone else ""
            return f"{called}: failed. {self.error}{also}"
        if self.undone:
            return f"{called}: created, and removed again"
        outcome = self.outcome
        if outcome is None:
            return f"{called}: not begun"
        keys = _keys(outcome) if outcome.action == "update" else []
        return f"{called}: {_DONE[outcome.action]} {', '.join(keys)}".rstrip()


def ended(told: Sequence[Told], *, interrupted: bool) -> dict[str, Any]:
    """The result of a run that is over. Raises Partly when something failed or was not begun."""
    if interrupted:
        raise Partly(told, ["The run was interrupted. Run it again for the rest."])
    if any(t.failure for t in told):
        raise Partly(told)
    return report(told)


def warnings(told: Iterable[Told]) -> list[str]:
    """Each with the guest that it is about."""
    return [w if t.name in w else f"guest {t.name}: {w}" for t in told for w in dict.fromkeys(t.warnings)]


def _keys(outcome: Outcome) -> list[str]:
    return sorted({**(outcome.diff.get("before") or {}), **(outcome.diff.get("after") or {})})


def report(told: Sequence[Told]) -> dict[str, Any]:
    """The result of the module: changed, msg, lines, guests, and a diff for each guest that differs."""
    return {
        "changed": any(t.changed for t in told),
        "msg": summary(told),
        "lines": [t.line() for t in told],
        "guests": [t.result() for t in told],
        "diff": [t.outcome.diff for t in told if t.outcome and t.outcome.diff and not t.undone],
    }


def summary(told: Iterable[Told]) -> str:
    """ "5 guests: 2 created, 3 as they were." """
    counts: dict[str, int] = {}
    for one in told:
        word = one.line().partition(": ")[2] if one.undone and not one.failure else ""
        if one.failure:
            word = "failed"
        elif not word:
            word = _DONE[one.outcome.action] if one.outcome else "not begun"
        counts[word] = counts.get(word, 0) + 1
    total = sum(counts.values())
    parts = [f"{n} {'as they were' if word == 'as it was' and n > 1 else word}" for word, n in counts.items()]
    return f"{total} guest{'' if total == 1 else 's'}: {', '.join(parts)}." if total else "No guests are listed."


def failed(told: Sequence[Told]) -> str:
    """The message of a run in which some failed: how many, and why each."""
    errors = [t.error for t in told if t.failure]
    more = f" And {len(errors) - _ERRORS} more, see lines." if len(errors) > _ERRORS else ""
    count = f"{len(errors)} of {len(told)} guests failed" if len(told) > 1 else "the guest failed"
    return f"{count}: {' '.join(errors[:_ERRORS])}{more}"


class Partly(Failure):
    """Some guests failed. The result holds all that a success would hold."""

    def __init__(self, told: Sequence[Told], notes: Sequence[str] = ()) -> None:
        super().__init__(" ".join([failed(told), *notes]))
        self.told = told
        self.done = [step for t in told if t.changed for step in t.result()["steps"]]

    def result(self) -> dict[str, Any]:
        """The arguments of ``fail_json``."""
        return {**report(self.told), "msg": self.msg, "done": self.done}
