# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a run: one JSON file, written anew after each state, so that a run that is cut off has left one."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import clock, shell
from .plan import Plan, Pulse

SCHEMA = "pvelab-drill-journal/1"
STATES = ("preflight", "baseline", "arm", "inject", "observe", "relieve", "recover", "verify", "disarm", "report")
MARKS = ("inject", "effect", "detected", "api", "relief", "recover", "restored", "verified")


class Journal:
    """What is known so far. ``data`` is what the file holds (docs/drills/journal.schema.json)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.path = plan.home / "journal.json"
        self.data: dict[str, Any] = {}

    def begin(self) -> None:
        """What is known before anything is looked at."""
        plan = self.plan
        self.data = {
            "schema": SCHEMA,
            "run": plan.run,
            "began_utc": _utc(),
            "ended_utc": None,
            "clock": {"monotonic": round(clock.now(), 3), "utc": _utc()},
            "drill": {
                name: plan.drill.get(name)
                for name in ("name", "title", "hypothesis", "blast_radius", "learn", "remedy")
            },
            "host": _host(plan),
            "plan": {
                "fault": {"kind": plan.kind, "options": dict(plan.options)},
                "targets": [],
                "victims": list(plan.victims),
                "bystanders": list(plan.bystanders),
                **_canaries(plan),
                "inject": "",
                "relief": "",
                "undo": "",
                "limits": dict(vars(plan.limits)),
            },
            "guards": [],
            "states": [],
            "events": [],
            "marks": dict.fromkeys(MARKS),
            "metrics": dict.fromkeys(("time_to_detect_s", "blind_s", "time_to_recover_s", "outage_s")),
            "guests": [],
            "probes": [],
            # Whoever looked from outside is not known here; it is put in afterwards.
            "vantage": None,
            "signature": [],
            "undo": {"unit": "", "rehearsed": False, "armed": None, "fired": False, "due": None},
            "residue": {"checked": [], "left": []},
            "recorder": None,
            "verdict": None,
            "because": None,
            "evidence": [],
        }

    def mark(self, name: str, at: float | None) -> None:
        """Note a time, once."""
        if self.data["marks"][name] is None and at is not None:
            self.data["marks"][name] = round(at, 3)

    def state(self, name: str, began: float, ok: bool, text: str = "") -> None:
        """A state has ended; the file says so before the next begins."""
        row = {"name": name, "began": round(began, 3), "ended": round(clock.now(), 3), "ok": ok, "text": text}
        self.data["states"].append(row)
        self.save()

    def measure(self) -> None:
        """What follows from the marks."""
        marks = self.data["marks"]

        def between(later: str, earlier: str) -> float | None:
            pair = (marks[later], marks[earlier])
            return None if None in pair else round(pair[0] - pair[1], 3)

        self.data["metrics"] = {
            "time_to_detect_s": between("detected", "effect"),
            "blind_s": between("api", "effect"),
            # What came back by itself needed no repair.
            "time_to_recover_s": None if (repair := between("restored", "recover")) is None else max(0.0, repair),
            "outage_s": between("restored", "effect"),
        }
        # Only where guest_watch was there: that it said nothing is something else than that nobody could have.
        if "watch" in marks:
            self.data["metrics"]["watch_s"] = between("watch", "effect")

    def end(self, verdict: str, because: str) -> None:
        """The run is over; the evidence is counted and sealed."""
        self.data.update(verdict=verdict, because=because, ended_utc=_utc())
        self.data["host"]["boot_id_after"] = _line("/proc/sys/kernel/random/boot_id")
        self.data["evidence"] = [_sealed(path) for path in sorted(self.plan.home.iterdir()) if path.suffix in SEALED]
        self.save()

    def save(self) -> None:
        """Have it on the disk."""
        shell.write(self.path, json.dumps(self.data, indent=2) + "\n", 0o644)


SEALED = (".jsonl", ".log", ".sh", ".txt")


def _sealed(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"name": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _canaries(plan: Plan) -> dict[str, Any]:
    """By what those guests are known that no canary on a serial port tells of, as the role is told it."""
    known = {str(vmid): _said(plan.pulse(vmid)) for vmid in plan.known_by("agent", "opaque")}
    return {"canaries": known} if known else {}


def _said(pulse: Pulse) -> dict[str, Any]:
    mine = ("by", "every_s", "directory") if pulse.by == "agent" else ("by", "every_s", "address", "port")
    return {name: value for name in mine if (value := getattr(pulse, name)) is not None}


def _host(plan: Plan) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    boot = _line("/proc/sys/kernel/random/boot_id")
    return {
        "name": plan.node,
        "machine_id": _line("/etc/machine-id"),
        "boot_id_before": boot,
        "boot_id_after": boot,
        "kernel": platform.release(),
        "qemu": None,
        "pve": None,
        "cpus": os.cpu_count() or 1,
        "memory_mib": memory >> 20,
    }


def _line(path: str) -> str | None:
    """What a file of one line says; a container may have no machine id."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
