# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that guests share because they are the same (KSM): without it before a fault, and with it as a relief."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import shell
from ..plan import Plan
from .hogs import put_back

KSM = Path("/sys/kernel/mm/ksm")
TUNER = "ksmtuned"
KNOBS = ("run", "pages_to_scan", "sleep_millisecs")


@dataclass(frozen=True)
class Sharing:
    """The kernel's knobs as they were, whether somebody else turns them, and what is shared now, in KiB."""

    knobs: Mapping[str, str]
    tuned: bool
    pages: int
    pause_ms: int
    shared_kib: int

    @classmethod
    def found(cls, plan: Plan) -> Sharing | None:
        """None where this kernel cannot do it."""
        if not (KSM / "run").exists():
            return None
        # A kernel that finds its own pace takes none from outside.
        advised = (KSM / "advisor_mode").exists() and "[none]" not in _read("advisor_mode")
        names = [name for name in KNOBS if not (advised and name == "pages_to_scan")]
        tuned = shell.unit(TUNER, "ActiveState").get("ActiveState") == "active"
        speed = int(plan.options.get("pages_to_scan") or 5000), int(plan.options.get("sleep_millisecs") or 20)
        return cls({name: _read(name) for name in names}, tuned, *speed, int(_read("pages_sharing")) * 4)

    @property
    def apart(self) -> list[str]:
        """Shell: each guest has all of its pages to itself, so that what sharing brings can be seen."""
        stop = [f"systemctl stop {TUNER}"] if self.tuned else []
        return [*stop, f"echo 2 > {KSM}/run"]

    @property
    def relief(self) -> list[str]:
        """Shell: share, and look for what is the same as fast as that goes."""
        wanted = {"pages_to_scan": self.pages, "sleep_millisecs": self.pause_ms, "run": 1}
        return [f"echo {value} > {KSM / name}" for name, value in wanted.items() if name in self.knobs]

    @property
    def undo(self) -> list[str]:
        """Shell: as it was."""
        start = [f"systemctl start {TUNER}"] if self.tuned else []
        return [*(put_back(KSM / name, value) for name, value in [*self.knobs.items()][::-1]), *start]

    def look(self) -> list[str]:
        """For the residue. What a tuner turns is its own affair."""
        names = ["sleep_millisecs"] if self.tuned else list(self.knobs)
        state = [f"{TUNER} {shell.unit(TUNER, 'ActiveState').get('ActiveState')}"] if self.tuned else []
        return [*(f"{name} {_read(name)}" for name in names), *state]


def _read(name: str) -> str:
    return (KSM / name).read_text(encoding="ascii").strip()
