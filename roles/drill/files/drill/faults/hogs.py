# SPDX-License-Identifier: GPL-3.0-or-later
"""What eats a host's processors or memory beside its guests: one transient unit of systemd for each run, which ends by
itself; and what the kernel counts meanwhile."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import join, quote

from .. import shell, site
from ..plan import Plan
from .fault import Skip

PROC = Path("/proc")
# A rate over less than this says nothing.
LEAST_S = 1.0


@dataclass(frozen=True)
class Hog:
    """The unit of one run, in a slice."""

    plan: Plan
    slice: Path

    @property
    def unit(self) -> str:
        return f"pvelab-hog-{self.plan.run}.service"

    @property
    def group(self) -> Path:
        """Its control group, while it runs."""
        return self.slice / self.unit

    def start(self, program: list[str], *properties: str) -> str:
        """A line of shell that starts it; systemd ends it when the host would undo the fault by itself."""
        if self.plan.supervisor != "systemd":
            raise Skip("what eats the host's resources has to be a unit of systemd, and this drill runs without it")
        ends = f"RuntimeMaxSec={self.plan.limits.undo_after_s:g}"
        options = [f"--property={text}" for text in (ends, "TimeoutStopSec=10", *properties)]
        name, about = f"--unit={self.unit}", f"--description=Hog of the drill {self.plan.drill['name']}"
        return join(
            ["systemd-run", "--quiet", "--collect", name, about, f"--slice={self.slice.name}", *options, *program]
        )

    @property
    def stop(self) -> str:
        """A line of shell that ends it; 5 is systemctl's answer where there is none."""
        return f"systemctl stop {self.unit} 2>/dev/null || [ $? -eq 5 ]"

    def processes(self) -> list[int]:
        """Those that run in it."""
        try:
            return [int(line) for line in (self.group / "cgroup.procs").read_text(encoding="ascii").split()]
        except OSError:
            return []

    def look(self) -> list[str]:
        """What is left of it, for the residue."""
        state = shell.unit(self.unit, "ActiveState").get("ActiveState", "inactive")
        found = [f"{self.unit} is {state}"] if state != "inactive" else []
        return found + [f"process {number} of {self.unit}" for number in self.processes()]


def beside(plan: Plan) -> Hog:
    """In the slice of the victims' own control groups, so that it is to them as one more guest would be."""
    groups = [site.cgroup(plan, vmid) for vmid in plan.victims]
    slices = sorted({group.parent for group in groups})
    if len(slices) != 1 or slices[0].suffix != ".slice":
        where = ", ".join(map(str, slices)) or "nowhere: the drill names none"
        raise Skip(f"the victims' control groups are not in one slice of systemd (they are in {where})")
    return Hog(plan, slices[0])


def apart(plan: Plan) -> Hog:
    """In the slice of the host's services."""
    return Hog(plan, site.CGROUPS / "system.slice")


def put_back(path: Path, value: str) -> str:
    """A line of shell that writes to a file of the kernel which may be gone with its guest."""
    return f"[ ! -e {quote(str(path))} ] || echo {quote(value)} > {quote(str(path))}"


def each(*lines: str) -> str:
    """Shell that runs every line, also where an earlier one fails, and fails where any did."""
    return "\n".join(["failed=", *(f"{{ {line}; }} || failed=1" for line in lines), '[ -z "$failed" ]'])


@dataclass(frozen=True)
class Growth:
    """A counter of the kernel that only grows. It is read when the drill looks, noted by the injection right before the
    fault, and read again afterwards; so there are two rates. ``files`` is a pattern below /proc."""

    note: Path
    files: str
    total: Callable[[str], int]
    first: tuple[float, int]

    @classmethod
    def watched(cls, plan: Plan, name: str, files: str, total: Callable[[str], int]) -> Growth:
        return cls(plan.home / f"{name}.txt", files, total, _taken(_text(files), total))

    @property
    def line(self) -> str:
        """A line of shell for the injection. A thread may end while it is read."""
        return f"cat {PROC}/uptime {PROC}/{self.files} > {quote(str(self.note))} 2>/dev/null || true"

    def rates(self) -> tuple[float, float] | None:
        """By how much it grew in a second, before the fault and since; None as long as that cannot be said."""
        try:
            noted = _taken(self.note.read_text(encoding="ascii"), self.total)
            now = _taken(_text(self.files), self.total)
        except (OSError, ValueError):
            return None
        spans = noted[0] - self.first[0], now[0] - noted[0]
        if min(spans) < LEAST_S:
            return None
        # Threads that have ended take what they had waited with them.
        return max(0.0, (noted[1] - self.first[1]) / spans[0]), max(0.0, (now[1] - noted[1]) / spans[1])


def _text(files: str) -> str:
    found = [PROC / "uptime", *sorted(PROC.glob(files))]
    texts = []
    for path in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            texts.append(path.read_text(encoding="ascii"))
    return "".join(texts)


def _taken(text: str, total: Callable[[str], int]) -> tuple[float, int]:
    """When, by the host's uptime, and how much. Raises ValueError where the text does not begin with an uptime."""
    return float(text.partition(" ")[0]), total(text)


def waited_ns(text: str) -> int:
    """What threads have waited for a processor: the second number of each schedstat."""
    return sum(int(number) for number in re.findall(r"^\d+ (\d+) \d+$", text, re.MULTILINE))


def some_us(text: str) -> int:
    """For how long some task had to wait, from a pressure file."""
    found = re.search(r"^some .*total=(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def processors() -> int:
    """How many the host has."""
    return os.cpu_count() or 1
