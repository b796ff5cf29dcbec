# SPDX-License-Identifier: GPL-3.0-or-later
"""From findings to what people are told: when it begins, changes, lasts and ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .findings import Finding


@dataclass
class Alert:
    """One finding over time; times are seconds since 1970. ``told`` is 0 until people have been told of it."""

    key: str
    severity: str
    text: str
    since: float
    told: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """What people are told: ``event`` is raised, changed, reminder or cleared; it has lasted ``seconds``."""

    event: str
    key: str
    severity: str
    text: str
    since: float
    at: float
    seconds: float
    labels: dict[str, str] = field(default_factory=dict)


class Book:
    """The alerts that are open, and what to tell of them. ``remind_s``: 0 for never."""

    def __init__(self, alerts: Iterable[Alert] = (), *, remind_s: float = 0.0) -> None:
        self.alerts = {alert.key: alert for alert in alerts}
        self.remind_s = remind_s

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]], *, remind_s: float = 0.0) -> Book:
        """The book as ``to_json`` has left it. Raises TypeError for anything else."""
        return cls([Alert(**row) for row in rows], remind_s=remind_s)

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(alert) for alert in self.alerts.values()]

    @property
    def raised(self) -> set[str]:
        """The keys of those that people know of."""
        return {key for key, alert in self.alerts.items() if alert.told}

    def update(self, findings: Iterable[Finding], now: float, unknown: Sequence[str] = ()) -> list[Event]:
        """Take in one look. Of kinds that are ``unknown``, nothing could be seen: what is open of them stays open."""
        events: list[Event] = []
        current = {finding.key: finding for finding in findings}
        for key, finding in current.items():
            events += self._hold(key, finding, now)
        for key, alert in list(self.alerts.items()):
            if key in current or key.split("/")[0] in unknown:
                continue
            del self.alerts[key]
            if alert.told:
                events.append(_event("cleared", alert, now))
        return events

    def _hold(self, key: str, finding: Finding, now: float) -> list[Event]:
        alert = self.alerts.get(key)
        if alert is None:
            alert = self.alerts[key] = Alert(key, finding.severity, finding.text, now, labels=dict(finding.labels))
        # A clock that was set back does not keep people from being told.
        alert.since = min(alert.since, now)
        worse = alert.severity != finding.severity
        alert.severity, alert.text = finding.severity, finding.text
        if not alert.told:
            what = "raised" if now - alert.since >= finding.grace_s else ""
        elif worse:
            what = "changed"
        else:
            what = "reminder" if self.remind_s and now - alert.told >= self.remind_s else ""
        if not what:
            return []
        alert.told = now
        return [_event(what, alert, now)]


def _event(what: str, alert: Alert, now: float) -> Event:
    seconds = round(now - alert.since, 1)
    return Event(what, alert.key, alert.severity, alert.text, alert.since, now, seconds, dict(alert.labels))
