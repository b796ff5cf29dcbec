# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be so before anything is broken. A guard refuses; it never warns."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import clock, supervisor
from .gauges import available_mib
from .node import Node, Silent
from .plan import CLASSES, Plan
from .shell import STOP_FILE, Trouble

MARKER = Path("/etc/pvelab/drill-host")
MACHINE_ID = Path("/etc/machine-id")
# What names the host where processes hold the way back: they are gone after a boot, and so is the leave to break it.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Where the runs are kept, unless the plan has a place of its own for all that is the host's.
RUNS = Path("/var/lib")
# From this class on other guests than the victims may be hit, so all that run have to be known.
SHARED = CLASSES.index("storage")
FREE_MIB = 200


@dataclass(frozen=True)
class Guard:
    """One thing that was looked at. ``remedy`` says what to do where it is not ok."""

    name: str
    ok: bool
    value: str
    remedy: str


Check = Callable[[Plan, Node], Guard]


def allowed(plan: Plan, _node: Node) -> Guard:
    """The inventory says that this host may be broken."""
    remedy = "set drill_allow: true for this host in the inventory, if it is a lab's"
    return Guard("the inventory allows it", plan.guards.allow, str(plan.guards.allow).lower(), remedy)


def marked(plan: Plan, _node: Node) -> Guard:
    """The host itself says so: a file with its own machine id, so that a copied disk does not."""
    source, marker = MACHINE_ID if plan.supervisor == "systemd" else BOOT_ID, plan.at(MARKER)
    machine = source.read_text(encoding="ascii").strip()
    try:
        found = marker.read_text(encoding="ascii").strip()
    except OSError:
        found = "missing"
    ok = bool(machine) and found == machine
    who = "as root" if plan.base is None else "as the user whose guests these are"
    remedy = f"on the host, {who}: install -D -m 0644 {source} {marker}"
    return Guard("the host allows it", ok, f"{marker} {'names this host' if ok else found}", remedy)


def radius(plan: Plan, _node: Node) -> Guard:
    """The class of what may be hit is not above what is allowed, or the node was named."""
    wanted = str(plan.drill["blast_radius"])
    # A node that is one process of the same user is put back by starting it.
    theirs = wanted == "host" and bool(plan.options.get("pid_file"))
    if plan.supervisor == "process" and CLASSES.index(wanted) >= SHARED and not theirs:
        value, remedy = (
            f"{wanted}, and a user's processes put back no more than that user's guests and node",
            "use a lab machine",
        )
        return Guard("the blast radius is allowed", False, value, remedy)
    within = CLASSES.index(wanted) <= CLASSES.index(plan.guards.ceiling)
    value = f"{wanted}, up to {plan.guards.ceiling} is allowed"
    remedy = f"type the node's name to confirm it: drill_confirm={plan.node}"
    return Guard("the blast radius is allowed", within or plan.guards.confirm == plan.node, value, remedy)


def tagged(plan: Plan, node: Node) -> Guard:
    """Every victim carries the tag."""
    rows = {int(row["vmid"]): row for row in node.get("/nodes/{node}/qemu")}
    missing = [
        vmid
        for vmid in plan.victims
        if plan.guards.tag not in re.split(r"[;,\s]+", str(rows.get(vmid, {}).get("tags", "")))
    ]
    value = f"without {plan.guards.tag}: {_numbers(missing)}" if missing else f"all have {plan.guards.tag}"
    return Guard(
        "the victims are tagged", not missing, value, f"add the tag {plan.guards.tag} to each guest that may suffer"
    )


def runs(plan: Plan, node: Node) -> Guard:
    """Every guest of the plan runs: one that does not cannot show anything.

    A node whose guests are slow to tell it how they are says that it does not know, and is asked again.
    """
    ends = clock.now() + plan.limits.answer_s
    while True:
        found = node.get("/nodes/{node}/qemu", full=1)
        rows = {int(row["vmid"]): str(row.get("qmpstatus") or row["status"]) for row in found}
        if "unknown" not in {rows.get(vmid) for vmid in plan.listed} or clock.now() >= ends:
            break
        time.sleep(0.2)
    other = [f"{vmid} is {rows.get(vmid, 'not there')}" for vmid in plan.listed if rows.get(vmid) != "running"]
    return Guard(
        "the guests run",
        not other,
        ", ".join(other) or _numbers(plan.listed),
        "start them, or leave them out of the drill",
    )


def listed(plan: Plan, node: Node) -> Guard:
    """Where others may be hit, every guest that runs is named in the plan."""
    found = [int(row["vmid"]) for row in node.get("/nodes/{node}/qemu") if row["status"] == "running"]
    try:
        found += [int(row["vmid"]) for row in node.get("/nodes/{node}/lxc") if row["status"] == "running"]
    except Silent as why:
        if "answers 501" not in str(why) and "answers 404" not in str(why):
            raise
    unknown = sorted(set(found) - set(plan.listed))
    shared = CLASSES.index(str(plan.drill["blast_radius"])) >= SHARED
    value = f"not listed: {_numbers(unknown)}" if unknown else "all that run are listed"
    remedy = "stop them, move them away, or list them as bystanders in drill_targets if they may be hit, too"
    return Guard("no unlisted guest runs", not (shared and unknown), value, remedy)


def quiet(plan: Plan, node: Node) -> Guard:
    """No task runs, and no guest of the plan is locked."""
    tasks = [
        f"{row.get('type')} {row.get('id', '')}".strip() for row in node.get("/nodes/{node}/tasks", source="active")
    ]
    rows = {int(row["vmid"]): row for row in node.get("/nodes/{node}/qemu")}
    locks = [f"guest {vmid} is locked ({rows[vmid]['lock']})" for vmid in plan.listed if rows.get(vmid, {}).get("lock")]
    busy = [f"task {task} runs" for task in tasks] + locks
    return Guard("nothing is at work", not busy, ", ".join(busy) or "no task, no lock", "wait until it has ended")


def unfenced(plan: Plan, node: Node) -> Guard:
    """No high availability that would fence this node, or start its guests elsewhere, in the middle."""
    try:
        rows = node.get("/cluster/ha/resources")
    except Silent as why:
        if "answers 501" not in str(why) and "answers 404" not in str(why):
            raise
        rows = []
    mine = {f"vm:{vmid}" for vmid in plan.listed}
    host = CLASSES.index(str(plan.drill["blast_radius"])) >= CLASSES.index("host")
    armed = sorted(str(row["sid"]) for row in rows if host or row["sid"] in mine)
    value = f"managed: {', '.join(armed)}" if armed else "none of it is managed"
    remedy = "take them out of HA, or disarm it (ha-manager crm-command disarm-ha freeze), and arm it again afterwards"
    return Guard("nothing is armed to fence", not armed, value, remedy)


def room(plan: Plan, _node: Node) -> Guard:
    """Enough memory for the runner, and enough space for what it writes."""
    memory, place = available_mib() or 0, plan.base or RUNS
    free = shutil.disk_usage(place).free >> 20
    enough = memory >= plan.guards.min_available_mib and free >= FREE_MIB
    value = f"{memory} MiB of memory, {free} MiB below {place}"
    remedy = f"have {plan.guards.min_available_mib} MiB of memory available and {FREE_MIB} MiB free below {place}"
    return Guard("the host has room", enough, value, remedy)


def tools(plan: Plan, _node: Node) -> Guard:
    """Somebody is there to hold the way back."""
    return Guard(*supervisor.ready(plan))


def go(plan: Plan, _node: Node) -> Guard:
    """Nobody has stopped all drills, on the whole host or below the plan's base."""
    files = dict.fromkeys((STOP_FILE, plan.at(STOP_FILE)))
    found = [str(file) for file in files if file.exists()]
    names = found or [str(file) for file in files]
    return Guard("no emergency stop", not found, ", ".join(names), f"when all is well again: rm {' '.join(names)}")


# Those that need no node come first: where the host is the wrong one, it is not even asked.
CHECKS: tuple[Check, ...] = (allowed, marked, radius, go, tools, room, runs, tagged, listed, quiet, unfenced)
# What may have changed since, looked at again right before the fault.
AGAIN: tuple[Check, ...] = (go, runs, listed, quiet)


def look(plan: Plan, node: Node, checks: tuple[Check, ...] = CHECKS) -> list[dict[str, Any]]:
    """Every guard, in order, up to the first that refuses because of the host itself. Raises Silent."""
    return list(_look(plan, node, checks))


def _look(plan: Plan, node: Node, checks: tuple[Check, ...]) -> Iterator[dict[str, Any]]:
    for check in checks:
        guard = check(plan, node)
        yield asdict(guard)
        if not guard.ok and check in (allowed, marked):
            return


def refusal(found: list[dict[str, Any]]) -> str:
    """One sentence for all that refuse; nothing where none does. What to do is part of it."""
    return "; ".join(f"{row['name']}? no ({row['value']}): {row['remedy']}" for row in found if not row["ok"])


def refuse(found: list[dict[str, Any]]) -> None:
    """Raises Trouble where a guard refuses."""
    if refused := refusal(found):
        raise Trouble(refused)


def _numbers(vmids: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, vmids)) or "none"
