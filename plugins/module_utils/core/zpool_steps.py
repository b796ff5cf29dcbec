# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that make, import, export, extend, repair and remove zpools.

Pure; see zpoolconcepts(7), zpoolprops(7) and zpool(8).

A pool's layout is a list of texts, one a vdev: its role and kind before its devices, such as
"data mirror /dev/sdb /dev/sdc". Devices are named by the kernel's paths of whole disks, in sorted order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .disks import SETTLE, Disks
from .options import listed
from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step
from .zpools import Pool

LEAST = {"disk": 1, "mirror": 2, "raidz1": 2, "raidz2": 3, "raidz3": 4}
SCRUBS = ("weekly", "monthly")
_REMOVABLE = frozenset({"log", "cache", "spare"})
_ORDER = ("data", "special", "log", "cache", "spare")


def line(role: str, kind: str, devices: Sequence[str]) -> str:
    """One vdev in canonical form."""
    return " ".join((role, kind, *sorted(devices)))


def observed(pool: Pool, disks: Disks) -> list[str]:
    """The layout of a pool that exists; a device is named by its disk where ZFS has partitioned it."""
    return sorted(line(v.role, v.kind, [disk_of(pool, d, disks) for d in v.devices]) for v in pool.vdevs)


def disk_of(pool: Pool, device: str, disks: Disks) -> str:
    """The disk that a pool was given, out of what ZFS calls it; a partition only if the task names that partition."""
    real = pool.paths.get(device, device)
    path = disks.mapped.get(real, real)
    return path if path in disks.aliases.values() else disks.whole(path)


def zpool_want(params: Params) -> State | None:
    """The wanted state: ``layout``, ``resilvering``, ``imported``, ``scrub``, ``scrub_active`` and ``properties.*``."""
    if params["state"] == "absent":
        return None
    if params["state"] == "exported":
        return {"imported": False}
    path = params["_disks"].path if "_disks" in params else str
    layout = [line(role, kind, [path(d) for d in devices]) for role, kind, devices in groups(params)]
    wanted: State = {"imported": True, "layout": sorted(layout) if params["vdevs"] else None}
    if params["vdevs"] and params["resilver_timeout_s"]:
        wanted["resilvering"] = False
    if params["scrub"]:
        wanted |= {"scrub": params["scrub"], "scrub_active": params["scrub"]}
    named = dict(params["properties"] or {})
    if params["autotrim"] is not None:
        named["autotrim"] = "on" if params["autotrim"] else "off"
    return wanted | {f"properties.{k}": str(v) for k, v in named.items()} | {"ashift": params["ashift"]}


def groups(params: Params) -> list[tuple[str, str, list[str]]]:
    """(role, kind, devices) of everything that a task names. Raises Failure for too few devices."""
    found = []
    for vdev in params["vdevs"] or []:
        kind, devices = vdev["type"], vdev["devices"]
        if len(devices) < LEAST[kind]:
            raise Failure(f"a {kind} needs at least {LEAST[kind]} devices, and {listed(devices)} are fewer. Add some.")
        # Disks without redundancy are vdevs of their own.
        parts = [[d] for d in devices] if kind == "disk" else [devices]
        found += [(vdev["role"], kind, part) for part in parts]
    for role in ("cache", "spare"):
        found += [(role, "disk", [d]) for d in params[role] or []]
    return found


def zpool_steps(plan: Plan, params: Params) -> list[Step]:
    """Steps for a zpool; ``_disks``: Disks, ``_datasets``: names of what is in it. Raises Failure."""
    name, changes = params["name"], {k: c.after for k, c in plan.changes.items()}
    if plan.action == "delete":
        return _destroyed(plan.have or {}, params)
    if "imported" in changes and plan.action == "update":
        # Only an imported pool can be looked at, so the rest waits for the next round.
        verb = "import" if changes["imported"] else "export"
        return [Run(("zpool", verb, name), label=f"{verb} zpool {name}", timeout_s=300.0), SETTLE]
    properties = {k.partition(".")[2]: v for k, v in changes.items() if k.startswith("properties.")}
    steps: list[Step] = []
    if plan.action == "create":
        steps += _created(params, properties)
    else:
        if "layout" in changes:
            steps += _laid_out((plan.have or {})["layout"], changes["layout"], params)
        elif "resilvering" in changes:
            steps.append(_resilvered(params))
        for key, value in properties.items():
            steps.append(Run(("zpool", "set", f"{key}={value}", name), label=f"set {key} of zpool {name}"))
    if "scrub" in changes or "scrub_active" in changes:
        steps += _scrubs((plan.have or {}).get("scrub", "never"), params)
    return steps


def _created(params: Params, properties: Mapping[str, str]) -> list[Step]:
    if not params["vdevs"]:
        raise Failure("a new pool needs devices. Name them in vdevs.")
    disks: Disks = params["_disks"]
    named = groups(params)
    clear: list[Step] = [s for _none, _none, devices in named for d in devices for s in disks.clearing(d)]
    settings = {**({"ashift": params["ashift"]} if params["ashift"] is not None else {}), **properties}
    argv = ["zpool", "create", *(word for k, v in settings.items() for word in ("-o", f"{k}={v}")), params["name"]]
    for role in _ORDER:
        for kind, devices in [(k, d) for r, k, d in named if r == role]:
            argv += _words(role, kind, devices, disks)
    return [*clear, Run(tuple(argv), label=f"make zpool {params['name']}", timeout_s=300.0), SETTLE]


def _words(role: str, kind: str, devices: Sequence[str], disks: Disks) -> list[str]:
    """ZFS remembers the names that it is given, so these are ones that last."""
    heads = [w for w, skip in ((role, "data"), (kind, "disk")) if w != skip]
    return [*heads, *(disks.lasting(d) for d in devices)]


def _laid_out(have: Sequence[str], wanted: Sequence[str], params: Params) -> list[Step]:
    """Attach to mirrors what they lack, replace devices, add vdevs, take out spares, logs and caches; none shrinks."""
    disks, name = params["_disks"], params["name"]
    gone, new = [v for v in have if v not in wanted], [v for v in wanted if v not in have]
    steps: list[Step] = []
    for fits, change in ((_grows, _attached), (_swaps, _replaced)):
        for old in list(gone):
            if found := next((v for v in new if fits(old, v)), None):
                gone.remove(old)
                new.remove(found)
                steps += change(old.split()[2:], found.split()[2:], params)
    if kept := [v for v in gone if v.split()[0] not in _REMOVABLE]:
        raise Failure(
            f"it would lose {listed(kept)}, and a pool cannot shrink. Name these devices, too, or make it anew."
        )
    if mirrored := [v for v in gone if v.split()[1] != "disk"]:
        raise Failure(f"{listed(mirrored)} cannot be taken out in one piece. Use zpool remove by hand.")
    for device in [d for v in gone for d in v.split()[2:]]:
        argv = ("zpool", "remove", name, params["_called"].get(device, device))
        steps.append(Run(argv, label=f"take {device} out of zpool {name}"))
    for role, kind, devices in groups(params):
        if line(role, kind, [disks.path(d) for d in devices]) in new:
            steps += [s for d in devices for s in disks.clearing(d)]
            steps.append(Run(("zpool", "add", name, *_words(role, kind, devices, disks)), label=f"extend zpool {name}"))
    return [*steps, SETTLE]


def _attached(old: Sequence[str], new: Sequence[str], params: Params) -> list[Step]:
    return [s for d in new if d not in old for s in _copied("attach", old[0], d, params)]


def _replaced(old: Sequence[str], new: Sequence[str], params: Params) -> list[Step]:
    gone, come = [d for d in old if d not in new], [d for d in new if d not in old]
    return [s for before, after in zip(gone, come, strict=True) for s in _copied("replace", before, after, params)]


def _copied(verb: str, before: str, after: str, params: Params) -> list[Step]:
    """One device gets a copy of what another has, or of what the others of its group know that it had."""
    disks, name = params["_disks"], params["name"]
    called = next(d for _none, _none, devices in groups(params) for d in devices if disks.path(d) == after)
    argv = ("zpool", verb, name, params["_called"].get(before, before), disks.lasting(called))
    label = f"mirror {before} to {after}" if verb == "attach" else f"replace {before} by {after}"
    steps: list[Step] = [*disks.clearing(called), Run(argv, label=label, timeout_s=300.0)]
    return [*steps, _resilvered(params)] if params["resilver_timeout_s"] else steps


def _resilvered(params: Params) -> Step:
    name = params["name"]
    argv = ("zpool", "wait", "-t", "resilver,replace", name)
    return Run(argv, label=f"wait until zpool {name} has resilvered", timeout_s=float(params["resilver_timeout_s"]))


def _grows(old: str, new: str) -> bool:
    """A disk or mirror becomes a mirror of more devices."""
    role, kind, *members = old.split()
    new_role, new_kind, *more = new.split()
    return role == new_role and kind in ("disk", "mirror") and new_kind == "mirror" and set(members) < set(more)


def _swaps(old: str, new: str) -> bool:
    """A group is the same but for some of its devices; a single disk may be another altogether."""
    role, kind, *members = old.split()
    new_role, new_kind, *others = new.split()
    alike = (role, kind, len(members)) == (new_role, new_kind, len(others))
    return alike and bool(set(members) & set(others) if kind != "disk" else role not in _REMOVABLE)


def _scrubs(before: str, params: Params) -> list[Step]:
    name, wanted = params["name"], params["scrub"]
    steps: list[Step] = []
    for schedule in SCRUBS:
        verb = "enable" if schedule == wanted else "disable"
        if verb == "enable" or before != "never" or wanted == "never":
            argv = ("systemctl", verb, "--now", timer(name, schedule))
            steps.append(Run(argv, label=f"{verb} the {schedule} scrub of zpool {name}"))
    return steps


def timer(name: str, schedule: str) -> str:
    """The timer that Debian's zfsutils-linux has for scrubs."""
    return f"zfs-scrub-{schedule}@{name}.timer"


def _destroyed(have: State, params: Params) -> list[Step]:
    name = params["name"]
    if not have["imported"]:
        raise Failure(f"it is exported, so that nobody can tell what is in it. Import it first: zpool import {name}.")
    held = params["_datasets"]
    inside = f" with {listed(held)}" if held else ""
    on = listed(list(dict.fromkeys(d for v in have["layout"] for d in v.split()[2:])))
    steps = _scrubs(have["scrub"], {**params, "scrub": "never"}) if have["scrub"] != "never" else []
    gone = Run(("zpool", "destroy", name), f"destroy zpool {name}", f"zpool {name}{inside} on {on}", timeout_s=300.0)
    return [*steps, gone, SETTLE]
