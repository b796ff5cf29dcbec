# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill is to do, as the role wrote it: one JSON file, read once."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .shell import Trouble

# From the smallest to the greatest: what a drill can do harm to, if all goes wrong.
CLASSES = ("file", "guest", "storage", "bridge", "host", "node-reboot")


@dataclass(frozen=True)
class Limits:
    """How long each state may last, in seconds, when the host undoes the fault by itself, for how long the node may
    think about an answer, and for how long the recorder may see nothing before what it has seen proves nothing."""

    baseline_s: float = 10.0
    observe_s: float = 60.0
    hold_s: float = 10.0
    recover_s: float = 120.0
    verify_s: float = 120.0
    undo_after_s: float = 300.0
    answer_s: float = 10.0
    blind_s: float = 2.0


@dataclass(frozen=True)
class Guards:
    """What the inventory allows. ``confirm`` names the node where a class above ``ceiling`` is meant."""

    allow: bool = False
    ceiling: str = "storage"
    confirm: str = ""
    tag: str = "drill-ok"
    min_available_mib: int = 64


@dataclass(frozen=True)
class Plan:
    """One run. ``places`` are paths with ``{vmid}``; ``reach`` are pairs of a guest and an address that it reaches."""

    run: str
    drill: Mapping[str, Any]
    kind: str
    options: Mapping[str, Any]
    node: str
    api: Mapping[str, Any]
    victims: tuple[int, ...]
    bystanders: tuple[int, ...]
    places: Mapping[str, str]
    limits: Limits = field(default_factory=Limits)
    guards: Guards = field(default_factory=Guards)
    reach: tuple[Mapping[str, Any], ...] = ()
    directory: Path = Path("/var/lib/pvelab/drills")
    program: str = "/usr/local/lib/pvelab/drill.pyz"

    @property
    def home(self) -> Path:
        """Where this run keeps all that it writes."""
        return self.directory / self.run

    @property
    def listed(self) -> tuple[int, ...]:
        return (*self.victims, *self.bystanders)

    def place(self, name: str, vmid: int) -> Path:
        """A path of one guest."""
        return Path(self.places[name].format(vmid=vmid))

    def option(self, name: str) -> Any:
        """An option of the fault. Raises Trouble where it is missing."""
        if self.options.get(name) is None:
            raise Trouble(f"the fault {self.kind} of drill {self.drill['name']} needs the option {name}")
        return self.options[name]

    def restore(self, *vmids: int) -> str:
        """A line of shell that has guests run again, whatever holds them; it does nothing to one that runs."""
        words = ["/usr/bin/python3", self.program, "restore", str(self.home / "plan.json")]
        return shlex.join([*words, *map(str, vmids)])


def read(path: Path) -> Plan:
    """The plan in a file, or for ``-`` from standard input. Raises Trouble where it is none."""
    handed_over = path == Path("-")
    try:
        data = json.loads(sys.stdin.read() if handed_over else path.read_text(encoding="utf-8"))
        return from_json(data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = "standard input" if handed_over else path
        raise Trouble(f"{what} is no plan of a drill: {type(error).__name__} {error}") from error


def from_json(data: Mapping[str, Any]) -> Plan:
    """A plan from what a file holds. Raises KeyError, TypeError or Trouble where something is missing or unknown."""
    drill, fault = data["drill"], data["fault"]
    guards = Guards(**(data.get("guards") or {}))
    for what, value in (("its blast_radius", drill["blast_radius"]), ("the ceiling", guards.ceiling)):
        if value not in CLASSES:
            raise Trouble(f"drill {drill['name']}: {what} {value} is none of {', '.join(CLASSES)}")
    return Plan(
        run=str(data["run"]),
        drill=drill,
        kind=str(fault["kind"]),
        options=fault.get("options") or {},
        node=str(data["node"]),
        api=data["api"],
        victims=tuple(int(vmid) for vmid in data["victims"]),
        bystanders=tuple(int(vmid) for vmid in data["bystanders"]),
        places=data["places"],
        limits=Limits(**{name: float(value) for name, value in (data.get("limits") or {}).items()}),
        guards=guards,
        reach=tuple(data.get("reach") or ()),
        directory=Path(data["directory"]),
        program=str(data["program"]),
    )
