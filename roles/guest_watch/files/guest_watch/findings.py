# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong, from what one look has seen and what the look before has left. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WARNING, CRITICAL = "warning", "critical"
# Tasks that end a guest on purpose, or stop it for a while (task types of Proxmox VE).
ENDINGS = frozenset(
    (
        "qmstop",
        "qmshutdown",
        "qmreboot",
        "qmsuspend",
        "qmigrate",
        "qmdestroy",
        "qmrestore",
        "qmrollback",
        "hastop",
        "stopall",
        "vzdump",
    )
)
# What a QEMU that has stopped calls itself where nobody has asked it to, and what to do then.
HALTS = {
    "io-error": "a write has failed; make room or mend the storage of its disks, then resume it (qm resume {vmid})",
    "internal-error": "QEMU met something that it cannot emulate; look into its log, then reset it (qm reset {vmid})",
    "guest-panicked": "its kernel has panicked; look at its console, then reset it (qm reset {vmid})",
}
HELD = ("paused", "prelaunch", "suspended")
# A value that has crossed a limit has to come back by so much, or an alert would flap.
HYSTERESIS = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``labels`` name it for machines; it counts once it has held for ``grace_s`` seconds."""

    kind: str
    name: str
    condition: str
    severity: str
    text: str
    grace_s: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for the same thing in every look."""
        return f"{self.kind}/{self.name}/{self.condition}"


@dataclass(frozen=True)
class Settings:
    """Percentages from which something counts as full, seconds for which a state may last, tags that choose guests."""

    warning_percent: float = 80.0
    critical_percent: float = 95.0
    stall_s: float = 30.0
    paused_s: float = 120.0
    lock_s: float = 300.0
    canary_tags: Sequence[str] = ("canary",)
    ignore_tags: Sequence[str] = ("unwatched",)


@dataclass
class Seen:
    """What the next look has to know of this one. ``running``: vmid → name. ``progress``: vmid → [write operations,
    since when they stand still, in seconds of the clock that ``now`` is of]. ``died``: vmid → name."""

    running: dict[str, str] = field(default_factory=dict)
    progress: dict[str, list[float]] = field(default_factory=dict)
    died: dict[str, str] = field(default_factory=dict)
    at: float = 0.0


def guests(
    rows: Iterable[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]], seen: Seen, now: float, settings: Settings
) -> tuple[list[Finding], Seen]:
    """What is wrong with the guests of ``GET /nodes/NODE/qemu?full=1``, and what to remember of them.

    ``tasks`` are those that run, and those that have ended since the last look.
    """
    found: list[Finding] = []
    after = Seen(at=now)
    busy = {str(task.get("id", "")) for task in tasks if not task.get("endtime")}
    for row in rows:
        vmid, name = str(row["vmid"]), str(row.get("name", ""))
        tags = set(re.split(r"[;,\s]+", str(row.get("tags", ""))))
        if row.get("template") or tags & set(settings.ignore_tags):
            continue
        locked = _locked(row, busy, settings)
        found += [locked] if locked else []
        if row["status"] != "running":
            found += _died(vmid, name, tasks, seen, after)
            continue
        after.running[vmid] = name
        halted = _halted(row, busy, settings)
        found += [halted] if halted else []
        if not halted and tags & set(settings.canary_tags):
            found += _stalled(row, seen, after, now, settings)
    return found, after


def _guest(row: Mapping[str, Any], condition: str, severity: str, says: str, grace_s: float = 0.0) -> Finding:
    vmid, name = str(row["vmid"]), str(row.get("name", ""))
    text = f"guest {vmid} ({name}) {says}"
    return Finding("guest", vmid, condition, severity, text, grace_s, {"vmid": vmid, "name": name})


def _halted(row: Mapping[str, Any], busy: set[str], settings: Settings) -> Finding | None:
    state = str(row.get("qmpstatus", ""))
    if state in HALTS:
        says = f"is called running and stands still ({state}): {HALTS[state].format(vmid=row['vmid'])}."
        return _guest(row, state, CRITICAL, says)
    if state in HELD and not row.get("lock") and str(row["vmid"]) not in busy:
        says = f"is called running and is held ({state}), and no task of the node holds it; qm resume {row['vmid']}."
        return _guest(row, "paused", WARNING, says, settings.paused_s)
    return None


def _locked(row: Mapping[str, Any], busy: set[str], settings: Settings) -> Finding | None:
    if not row.get("lock") or row["lock"] == "suspended" or busy & {str(row["vmid"]), ""}:
        return None
    says = f"is locked ({row['lock']}) and no task of the node works on it; if that is so, qm unlock {row['vmid']}."
    return _guest(row, "locked", WARNING, says, settings.lock_s)


def _died(vmid: str, name: str, tasks: Sequence[Mapping[str, Any]], seen: Seen, after: Seen) -> list[Finding]:
    """A guest that ran and runs no more without a task that has ended it: until it runs again, or is gone."""
    ended = vmid in seen.running and not any(_ends(task, vmid) for task in tasks)
    if ended or vmid in seen.died:
        after.died[vmid] = name
    if vmid not in after.died:
        return []
    says = "is stopped and no task of the node has stopped it: its system shut it down, or its process died"
    row = {"vmid": vmid, "name": name}
    return [_guest(row, "died", CRITICAL, f"{says} (journalctl -k -g oom-kill); nothing starts it again.")]


def _ends(task: Mapping[str, Any], vmid: str) -> bool:
    return task.get("type") in ENDINGS and str(task.get("id", "")) in (vmid, "")


def _stalled(row: Mapping[str, Any], seen: Seen, after: Seen, now: float, settings: Settings) -> list[Finding]:
    """A canary writes all the time; its disks are counted by QEMU, so that nothing in the guest has to answer."""
    vmid = str(row["vmid"])
    count = sum(int(disk.get("wr_operations", 0)) for disk in (row.get("blockstat") or {}).values())
    last, since = seen.progress.get(vmid, [-1.0, now])
    since = since if last == count and since <= now else now
    after.progress[vmid] = [float(count), since]
    if now - since < settings.stall_s:
        return []
    return [_guest(row, "stalled", CRITICAL, f"is a canary and has written nothing for {now - since:.0f} s.")]


def thin_pools(text: str) -> list[dict[str, Any]]:
    """Thin pools in ``dmsetup status --target thin-pool``: name, percentages, the mode and whether it needs a check.

    The fields are those of Documentation/admin-guide/device-mapper/thin-provisioning.rst.
    """
    pools: list[dict[str, Any]] = []
    for line in text.splitlines():
        device, colon, rest = line.partition(": ")
        words = rest.split()
        if not colon or len(words) < 4 or words[2] != "thin-pool":
            continue
        name = re.sub("(?<!-)-(?!-)", "/", device.removesuffix("-tpool"), count=1).replace("--", "-")
        pool: dict[str, Any] = {"name": name, "mode": "fail" if words[3] in ("Fail", "Error") else "unknown"}
        if len(words) > 7:
            pool["metadata_percent"] = _percent(words[4])
            pool["data_percent"] = _percent(words[5])
            pool["mode"] = next((word for word in words[7:] if word in ("rw", "ro", "out_of_data_space")), "unknown")
        pool["needs_check"] = "needs_check" in words
        pools.append(pool)
    return pools


def _percent(used_of_total: str) -> float:
    used, _slash, total = used_of_total.partition("/")
    return round(100.0 * int(used) / max(int(total), 1), 2)


def datasets(text: str) -> list[dict[str, Any]]:
    """Pools in ``zfs list -Hp -d 0 -o name,used,available``: what is available is what a write finds, which the
    capacity that ``zpool list`` shows is not (it counts space that ZFS keeps for itself)."""
    rows = (line.split("\t") for line in text.splitlines() if line)
    return [
        {"name": name, "percent": round(100.0 * int(used) / max(int(used) + int(available), 1), 2)}
        for name, used, available in rows
    ]


@dataclass(frozen=True)
class Level:
    """How full something is: ``what`` names it to people, ``remedy`` says what to do."""

    kind: str
    name: str
    condition: str
    percent: float
    what: str
    remedy: str


def full(level: Level, raised: set[str], settings: Settings) -> list[Finding]:
    """Whether something is as full as a limit; one that has been told stays until it is HYSTERESIS below it."""
    key = f"{level.kind}/{level.name}/{level.condition}"
    slack = HYSTERESIS if key in raised else 0.0
    for limit, severity in ((settings.critical_percent, CRITICAL), (settings.warning_percent, WARNING)):
        if level.percent >= limit - slack:
            text = f"{level.what} is {level.percent:g} % full; {level.remedy}."
            return [Finding(level.kind, level.name, level.condition, severity, text, labels={"name": level.name})]
    return []


def pools(thin: Iterable[Mapping[str, Any]], raised: set[str], settings: Settings) -> list[Finding]:
    """What is wrong with thin pools."""
    found: list[Finding] = []
    for pool in thin:
        name = str(pool["name"])
        if pool["mode"] != "rw" or pool["needs_check"]:
            state = f"{pool['mode']}{', needs_check' if pool['needs_check'] else ''}"
            text = f"thin pool {name} takes no more writes ({state}); grow it (lvextend), then resume its guests."
            found.append(Finding("thin_pool", name, "mode", CRITICAL, text, labels={"name": name}))
        for part, option in (("data", "-L"), ("metadata", "--poolmetadatasize")):
            if f"{part}_percent" in pool:
                what, remedy = f"the {part} of thin pool {name}", f"lvextend {option} +SIZE {name}"
                level = Level("thin_pool", name, part, pool[f"{part}_percent"], what, remedy)
                found += full(level, raised, settings)
    return found


def zfs(
    sizes: Iterable[Mapping[str, Any]], health: Mapping[str, str], raised: set[str], settings: Settings
) -> list[Finding]:
    """What is wrong with ZFS pools; ``health`` is that of ``zpool list -H -o name,health``."""
    found: list[Finding] = []
    for pool in sizes:
        name = str(pool["name"])
        remedy = "destroy snapshots or datasets, or drop a reservation"
        found += full(Level("zpool", name, "space", pool["percent"], f"ZFS pool {name}", remedy), raised, settings)
    for name, state in health.items():
        if state != "ONLINE":
            severity = WARNING if state == "DEGRADED" else CRITICAL
            text = f"ZFS pool {name} is {state}; zpool status -x {name} says why."
            found.append(Finding("zpool", name, "health", severity, text, labels={"name": name}))
    return found
