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

from . import probes
from .shell import Trouble

PYTHON = "/usr/bin/python3"
SUPERVISORS = ("systemd", "process")
# Where Proxmox VE has its own monitors, of which each serves one client.
OWN = "qemu-server"
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


# By what a guest may be known: its canary, its agent, or nothing but an address. And how often it is asked, in seconds.
WAYS = {"serial": 0.0, "agent": 1.0, "opaque": 0.2}


@dataclass(frozen=True)
class Pulse:
    """By what one guest is known. ``every_s``: how often it is asked; ``address`` and ``port`` are of an opaque one,
    ``directory`` is where its agent may write in the guest."""

    by: str = "serial"
    address: str = ""
    port: int | None = None
    every_s: float = 0.0
    directory: str = "/var/tmp"


@dataclass(frozen=True)
class Plan:
    """One run. ``places`` are paths with ``{vmid}``; ``reach`` are pairs of a guest and an address that it reaches,
    which may say with how many bytes at once, and ``probes`` what the host itself asks whether it answers.

    ``supervisor`` holds the way back, ``python`` runs the program. With a ``base`` the host's own files (a lock, what
    allows drills, what stops them) lie below it as else below /, so that a user needs no root for them."""

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
    probes: tuple[probes.Probe, ...] = ()
    directory: Path = Path("/var/lib/pvelab/drills")
    program: str = "/usr/local/lib/pvelab/drill.pyz"
    supervisor: str = "systemd"
    base: Path | None = None
    python: str = PYTHON
    pulses: Mapping[int, Pulse] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where this run keeps all that it writes."""
        return self.directory / self.run

    @property
    def file(self) -> Path:
        """The plan itself."""
        return self.home / "plan.json"

    @property
    def undo_script(self) -> Path:
        return self.home / "undo.sh"

    @property
    def armed_file(self) -> Path:
        """It is there as long as the way back is armed."""
        return self.home / "armed"

    def at(self, usual: Path) -> Path:
        """Where a file of the host is that has its usual place below /."""
        return self.base / usual.relative_to("/") if self.base else usual

    @property
    def listed(self) -> tuple[int, ...]:
        return (*self.victims, *self.bystanders)

    def pulse(self, vmid: int) -> Pulse:
        """By what a guest is known: where nobody says otherwise, by the canary on its serial port."""
        return self.pulses.get(vmid, Pulse())

    def known_by(self, *ways: str) -> list[int]:
        """The guests of the plan that are known so."""
        return [vmid for vmid in self.listed if self.pulse(vmid).by in ways]

    def place(self, name: str, vmid: int) -> Path:
        """A path of one guest."""
        return Path(self.places[name].format(vmid=vmid))

    def option(self, name: str) -> Any:
        """An option of the fault. Raises Trouble where it is missing."""
        if self.options.get(name) is None:
            raise Trouble(f"the fault {self.kind} of drill {self.drill['name']} needs the option {name}")
        return self.options[name]

    def ask(self, method: str, path: str, **params: Any) -> str:
        """A line of shell that asks the node for something, waits for the task that it makes of it, and prints what it
        answers; ``{node}`` in the path is this node. It fails where the node refuses."""
        words = [self.python, self.program, "ask", str(self.file), method, path]
        return shlex.join([*words, *(f"{name}={value}" for name, value in params.items())])

    def restore(self, *vmids: int) -> str:
        """A line of shell that has guests run again, whatever holds them; it does nothing to one that runs."""
        words = [self.python, self.program, "restore", str(self.file)]
        return shlex.join([*words, *map(str, vmids)])


def where(pair: Mapping[str, Any]) -> str:
    """What a pair of ``reach`` reaches, in words: an address, and with how much at once where it says so (``size``,
    bytes of a ping)."""
    return f"{pair['to']} with {int(pair['size'])} bytes" if pair.get("size") else str(pair["to"])


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
    if Path(str(data["places"].get("qmp", "/"))).parent.name == OWN:
        raise Trouble(
            f"places.qmp lies in {OWN}, where the node's own tools talk to QEMU; give guests one of their own"
        )
    supervisor = str(data.get("supervisor") or "systemd")
    if supervisor not in SUPERVISORS:
        raise Trouble(f"the supervisor {supervisor} is none of {', '.join(SUPERVISORS)}")
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
        probes=probes.from_json(data.get("probes") or ()),
        directory=Path(data["directory"]),
        program=str(data["program"]),
        supervisor=supervisor,
        base=Path(data["base"]) if data.get("base") else None,
        python=str(data.get("python") or PYTHON),
        pulses={int(vmid): _pulse(int(vmid), how) for vmid, how in (data.get("canaries") or {}).items()},
    )


def _pulse(vmid: int, given: Mapping[str, Any] | str) -> Pulse:
    """By what a guest is known: a word, or that word as ``by`` with what belongs to it."""
    how = {"by": given} if isinstance(given, str) else dict(given)
    by = str(how.get("by"))
    if by not in WAYS:
        raise Trouble(f"guest {vmid} is to be known by {by}, which is none of {', '.join(WAYS)}")
    if by == "opaque" and not how.get("address"):
        raise Trouble(f"guest {vmid} is opaque, so it needs an address at which its host reaches it")
    port = how.get("port")
    every_s = float(how.get("every_s") or WAYS[by])
    if every_s <= 0 and by != "serial":
        raise Trouble(f"guest {vmid}: every_s is {every_s:g}, and has to be more than 0")
    directory = str(how.get("directory") or "/var/tmp")
    return Pulse(by, str(how.get("address") or ""), None if port is None else int(port), every_s, directory)
