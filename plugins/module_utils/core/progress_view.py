# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback ``progress`` shows: the tasks that run, what their modules tell, and both as one line. Pure.

Times are seconds on any clock that only goes forward; they are handed in.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from .progress import Told, plain

# A task that is over before has no need of a bar.
SHOWN_AFTER_S = 1.0
_BAR, _NAMES = 20, 3


@dataclass
class Running:
    """One task on one host. ``quiet``: its task is a secret (no_log), so nothing is shown of what its module tells."""

    name: str
    host: str
    since: float
    quiet: bool = False
    note: str = ""
    items: int = 0


@dataclass
class View:
    """What runs. ``paused`` while a task waits for somebody to type."""

    tasks: dict[Hashable, Running] = field(default_factory=dict)
    tellers: dict[int, Told] = field(default_factory=dict)
    prompts: set[Hashable] = field(default_factory=set)

    def begin(self, key: Hashable, task: Running, *, prompts: bool = False) -> None:
        """A task begins on a host."""
        self.tasks[key] = task
        if prompts:
            self.prompts.add(key)

    def end(self, key: Hashable) -> None:
        """It has ended; after the last one nobody can be telling anything."""
        self.tasks.pop(key, None)
        self.prompts.discard(key)
        if not self.tasks:
            self.tellers.clear()

    def note(self, key: Hashable, text: str) -> None:
        """A task has something to say of itself: how often it has tried."""
        if key in self.tasks:
            self.tasks[key].note = text

    def item(self, key: Hashable) -> None:
        """One item of a loop is done."""
        if key in self.tasks:
            self.tasks[key].items += 1

    def heard(self, pid: int, told: Told | None) -> None:
        """A module has told something, or ended."""
        self.tellers.pop(pid, None)
        if told is not None and self.tasks:
            self.tellers[pid] = told

    def forget(self, alive: set[int]) -> None:
        """Modules whose processes are no more have ended, even if they could not say so."""
        for pid in set(self.tellers) - alive:
            del self.tellers[pid]

    def age(self, now: float) -> float | None:
        """For how long the oldest task has run; None while nothing runs, or somebody is being asked."""
        if not self.tasks or self.prompts:
            return None
        return now - min(task.since for task in self.tasks.values())

    def drawn(self, now: float, width: int) -> str:
        """The line for a terminal, "" where there is nothing to show yet."""
        age = self.age(now)
        if age is None or age < SHOWN_AFTER_S:
            return ""
        counts = self._counts()
        head = [duration(age)]
        if counts.total:
            filled = min(_BAR, _BAR * (counts.done + counts.failed) // counts.total)
            head = [f"[{'#' * filled}{'.' * (_BAR - filled)}]", *head]
        parts = [*self._numbers(counts), self._name(), *self._notes(), self._text()]
        line = f"{' '.join(head)} {'; '.join(filter(None, parts))}"
        return line if len(line) < width else f"{line[: max(0, width - 4)]}..."

    def line(self, now: float) -> str:
        """The line for a log, "" where there is nothing to show."""
        age = self.age(now)
        if age is None:
            return ""
        told = "; ".join(filter(None, [*self._numbers(self._counts()), *self._notes(), self._text()]))
        return f"progress: running for {duration(age)}: {self._name()}{': ' if told else ''}{told}"

    def _counts(self) -> Told:
        """All modules' numbers together."""
        of = self.tellers.values()
        return Told(
            done=sum(t.done for t in of),
            running=sum(t.running for t in of),
            failed=sum(t.failed for t in of),
            total=sum(t.total for t in of),
        )

    @staticmethod
    def _numbers(counts: Told) -> list[str]:
        if not counts.total:
            return []
        return [
            f"{counts.done} of {counts.total} done",
            *([f"{counts.running} running"] if counts.running else []),
            *([f"{counts.failed} failed"] if counts.failed else []),
        ]

    def _name(self) -> str:
        """The oldest task, and where it runs."""
        oldest = min(self.tasks.values(), key=lambda task: task.since)
        hosts = [task.host for task in self.tasks.values() if task.name == oldest.name]
        more = f" and {len(hosts) - _NAMES} more" if len(hosts) > _NAMES else ""
        return f"{plain(oldest.name)} ({', '.join(hosts[:_NAMES])}{more})"

    def _notes(self) -> list[str]:
        items = sum(task.items for task in self.tasks.values())
        notes = [task.note for task in self.tasks.values() if task.note]
        return [*([f"{items} item{'s' if items > 1 else ''} done"] if items else []), *notes[-1:]]

    def _text(self) -> str:
        """What was told last. Which module belongs to which task is not known, so one secret hides all of it."""
        if not self.tellers or any(task.quiet for task in self.tasks.values()):
            return ""
        told = list(self.tellers.values())[-1]
        return ": ".join(filter(None, (told.about, told.text)))


def duration(seconds: float) -> str:
    """65 → "1:05", 3700 → "1:01:40"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# Callbacks whose output people read; AWX makes events of it, and keeps what lies between.
_FOR_PEOPLE = frozenset({"default", "minimal", "oneline", "debug", "dense", "diy", "unixy", "awx_display", "tree"})
_FOR_MACHINES = frozenset({"json", "jsonl", "yaml", "junit", "null"})
# CI is set by GitHub, GitLab, Travis and CircleCI, the others by AWX and ansible-runner, Jenkins and Azure.
_NOT_WATCHED = ("CI", "AWX_PRIVATE_DATA_DIR", "RUNNER_OMIT_EVENTS", "JENKINS_URL", "TF_BUILD")


def choose(wanted: str, callback: str, terminal: bool, environment: Mapping[str, str]) -> str:
    """What to show: "bar", "lines" or "nothing". ``callback`` is the one that prints, by its short or full name."""
    name = callback.rpartition(".")[2]
    if name in _FOR_MACHINES:
        return "nothing"
    if wanted == "bar" and not terminal:
        return "lines"
    if wanted != "auto":
        return wanted
    if name == "awx_display" or any(environment.get(key) for key in _NOT_WATCHED):
        return "lines" if name in _FOR_PEOPLE else "nothing"
    if terminal:
        return "bar"
    return "lines" if name in _FOR_PEOPLE else "nothing"
