# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill could leave behind: the host before, the host after, and the difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from . import shell, site
from .deadman import DeadMan
from .faults.storage import FILLER
from .plan import Plan
from .shell import Trouble

State = dict[str, list[str]]
LIMITS = ("memory.max", "memory.high", "memory.swap.max", "cpu.max", "io.max")


def state(plan: Plan, more: Mapping[str, Callable[[], list[str]]] | None = None) -> State:
    """What is looked at, each as sorted lines without anything that a restart of a guest may change; ``more`` is what
    the plan's fault looks at besides."""
    found = {name: sorted(look(plan)) for name, look in LOOKS.items()}
    return {**found, **{name: sorted(look()) for name, look in (more or {}).items()}}


def left(before: State, after: State) -> list[str]:
    """What differs, one line each."""
    found = []
    for name in {**before, **after}:
        was, now = before.get(name, []), after.get(name, [])
        found += [f"{name}: {line} (was not there)" for line in now if line not in was]
        found += [f"{name}: {line} (is gone)" for line in was if line not in now]
    return found


def _units(plan: Plan) -> list[str]:
    return DeadMan(plan, "").left()


def _services(plan: Plan) -> list[str]:
    if plan.supervisor != "systemd":
        return []
    names = ("pvestatd", "pvedaemon", "pveproxy", "pvescheduler")
    found = []
    for name in names:
        seen = shell.unit(name, "LoadState", "ActiveState")
        if seen.get("LoadState") == "loaded":
            found.append(f"{name} {seen['ActiveState']}")
    return found


def _queues(plan: Plan) -> list[str]:
    rows = json.loads(_try(["tc", "-j", "qdisc", "show"]) or "[]")
    mine = {tap for vmid in plan.listed for tap in site.taps(vmid)}
    return [f"{row['dev']} {row['kind']}" for row in rows if row.get("root") and row.get("dev") in mine]


def _ports(plan: Plan) -> list[str]:
    found = []
    for tap in [tap for vmid in plan.listed for tap in site.taps(vmid)]:
        master = site.NET / tap / "master"
        found.append(f"{tap} on {master.resolve().name if master.exists() else 'nothing'}")
        vlans = [f"{row['vlan']}{' '.join(sorted(row.get('flags', [])))}" for row in site.vlans(tap)]
        found.append(f"{tap} VLANs {', '.join(vlans)}")
    return found


def _limits(plan: Plan) -> list[str]:
    found = []
    for vmid in plan.listed:
        if site.pid(plan, vmid) is None:
            continue
        try:
            group = site.cgroup(plan, vmid)
        except Trouble:
            continue
        for name in LIMITS:
            text = (group / name).read_text(encoding="ascii").strip() if (group / name).exists() else ""
            # A controller may be there or not; only what it limits is a difference.
            found += [f"{vmid} {name} {line}" for line in text.splitlines()]
    return found


def _processes(plan: Plan) -> list[str]:
    found = []
    for vmid in plan.listed:
        number = site.pid(plan, vmid)
        held = number is not None and site.state(number) == "T"
        found.append(f"guest {vmid} {'held' if held else 'runs' if number else 'stopped'}")
    return found


def _fillers(plan: Plan) -> list[str]:
    found = [str(path) for path in Path(str(plan.options["path"])).glob(f"{FILLER}*")] if "path" in plan.options else []
    found += [line.strip() for line in _try(["zfs", "list", "-H", "-o", "name"]).splitlines() if FILLER in line]
    found += [line.strip() for line in _try(["lvs", "--noheadings", "-o", "full_name"]).splitlines() if FILLER in line]
    return found


def _pools(_plan: Plan) -> list[str]:
    return [line.replace("\t", " ") for line in _try(["zpool", "list", "-H", "-o", "name,health"]).splitlines()]


def _try(argv: list[str]) -> str:
    """Output of a command that not every host has."""
    try:
        code, out, _err = shell.attempt(argv)
    except Trouble:
        return ""
    return "" if code else out


LOOKS: dict[str, Callable[[Plan], list[str]]] = {
    "units": _units,
    "services": _services,
    "queues": _queues,
    "ports": _ports,
    "limits": _limits,
    "processes": _processes,
    "fillers": _fillers,
    "pools": _pools,
}
