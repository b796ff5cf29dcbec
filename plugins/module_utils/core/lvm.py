# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps that make, grow and remove volume groups and thin pools. Pure; see lvm(8), lvmthin(7) and lvm.conf(5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .disks import SETTLE, Disks, size
from .options import listed
from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Missing, Run, Step, Write

GIB = 1024**3
MIB = 1024**2


def group_steps(plan: Plan, params: Params) -> list[Step]:
    """Steps for a volume group. ``_disks``: Disks; ``_allocated``: physical volume → extents in use. Raises Failure."""
    disks: Disks = params["_disks"]
    name, have = params["name"], plan.have or {}
    if plan.action == "delete":
        return _dissolved(name, have, disks)
    wanted = plan.changes["devices"].after if "devices" in plan.changes else have.get("devices", [])
    if not wanted:
        raise Failure("a volume group needs at least one device. Name them in devices.")
    called = {disks.path(d): d for d in params["devices"] or []}
    come = [d for d in wanted if d not in have.get("devices", [])]
    leave = [d for d in have.get("devices", []) if d not in wanted]
    steps: list[Step] = []
    for device in come:
        steps += _physical(called[device], disks)
    if plan.action == "create":
        extent = ("--physicalextentsize", f"{params['extent_mib']}m") if params["extent_mib"] else ()
        return [*steps, Run(("vgcreate", *extent, name, *come), label=f"make volume group {name}"), SETTLE]
    if come:
        steps.append(Run(("vgextend", name, *come), label=f"extend volume group {name}"))
    for device in leave:
        if params["_allocated"].get(device):
            raise Failure(f"{device} holds data of its volumes. Move it away first: pvmove {device}.")
        steps.append(Run(("vgreduce", name, device), label=f"take {device} out of volume group {name}"))
        steps.append(Run(("pvremove", device), label=f"clear {device}"))
    return [*steps, SETTLE]


def _physical(called: str, disks: Disks) -> list[Step]:
    """A physical volume that belongs to no group is taken as it is: an earlier run may have been cut off there."""
    device = disks.find(called)
    if device.fstype == "LVM2_member" and disks.groups.get(device.path) == "":
        return []
    return [*disks.clearing(called), Run(("pvcreate", device.path), label=f"make {device.path} a physical volume")]


def _dissolved(name: str, have: State, disks: Disks) -> list[Step]:
    held = list(disks.volumes.get(name, ()))
    lost = None
    if held:
        lost = f"the logical volumes {listed(held)} of volume group {name} on {listed(have['devices'])}"
    busy = sorted({m for d in have["devices"] for p in disks.find(d).tree() for m in p.mounts})
    if busy:
        raise Failure(f"its volumes are mounted on {listed(busy)}. Take them out of use first.")
    gone = Run(("vgremove", "--yes", name), label=f"remove volume group {name}", destroys=lost)
    return [gone, Run(("pvremove", *have["devices"]), label="clear its devices"), SETTLE]


def profile_path(params: Params) -> str:
    """The file of the profile that carries a pool's thresholds; LVM finds profiles there by name."""
    return f"/etc/lvm/profile/{profile_name(params)}.profile"


def profile_name(params: Params) -> str:
    """The name of a pool's profile."""
    return f"pvelab-{params['vg']}-{params['name']}"


def profile_text(threshold: int, percent: int) -> str:
    """A metadata profile (lvm.conf(5)) with the two settings that rule when and by how much a pool grows by itself."""
    return (
        "# Managed by pvelab.proxmox.thin_pool\nactivation {\n"
        f"\tthin_pool_autoextend_threshold={threshold}\n\tthin_pool_autoextend_percent={percent}\n}}\n"
    )


def pool_want(params: Params) -> State | None:
    """The wanted state of a thin pool. Sizes are least sizes in bytes, rounded up to whole extents."""
    if params["state"] == "absent":
        return None
    group, have = params.get("_group") or {"extent": 1, "free": 0}, params.get("_have") or {}
    least = {"size": params["size_gib"] and params["size_gib"] * GIB}
    least["metadata_size"] = params["metadata_mib"] and params["metadata_mib"] * MIB
    if params["free_percent"] is not None and not have:
        least["size"] = group["free"] * params["free_percent"] // 100 // group["extent"] * group["extent"]
    wanted: State = {
        key: None if value is None else max(-(-int(value) // group["extent"]) * group["extent"], have.get(key, 0))
        for key, value in least.items()
    }
    wanted |= {key: params[key] for key in ("chunk_kib", "discards", "error_when_full")}
    threshold, percent = params["autoextend_threshold"], params["autoextend_percent"]
    if threshold is not None:
        wanted["profile_text"] = profile_text(threshold, percent)
        wanted |= {"profile": profile_name(params), "monitored": True}
    return wanted


def pool_steps(plan: Plan, params: Params) -> list[Step]:
    """Steps for a thin pool. ``_group``: {extent, free} in bytes; ``_thin``: its thin volumes, name → open."""
    called, changes = f"{params['vg']}/{params['name']}", {k: c.after for k, c in plan.changes.items()}
    if plan.action == "delete":
        return _pool_removed(called, params)
    steps: list[Step] = []
    if "profile_text" in changes:
        # LVM reads the profile when it is attached, so the file comes first.
        steps.append(Write(profile_path(params), changes["profile_text"], label=f"thresholds of thin pool {called}"))
    if plan.action == "create":
        steps.append(_pool_made(changes, params))
    else:
        steps += _pool_grown(plan, changes, called, params)
    changed = {"--discards": changes.get("discards") if plan.action != "create" else None}
    if "error_when_full" in changes:
        changed["--errorwhenfull"] = "y" if changes["error_when_full"] else "n"
    steps += [Run(("lvchange", k, v, called), label=f"change thin pool {called}") for k, v in changed.items() if v]
    if "profile" in changes:
        argv = ("lvchange", "--metadataprofile", changes["profile"], called)
        steps.append(Run(argv, label=f"attach the thresholds to {called}"))
    if changes.get("monitored") or "profile_text" in changes:
        # dmeventd keeps the thresholds that it started with, so it has to look again when they change.
        again = [] if plan.action == "create" or "monitored" in changes else ["n"]
        for flag in [*again, "y"]:
            steps.append(Run(("lvchange", "--monitor", flag, called), label=f"watch thin pool {called}"))
    return steps


def _pool_made(changes: Mapping[str, Any], params: Params) -> Step:
    if not changes.get("size"):
        raise Failure("a new thin pool needs a size. Give size_gib or free_percent.")
    _enough(changes["size"] + changes.get("metadata_size", 0), params)
    argv = ["lvcreate", "--type", "thin-pool", "--yes", "--name", params["name"], "--size", f"{changes['size']}b"]
    if "metadata_size" in changes:
        argv += ["--poolmetadatasize", f"{changes['metadata_size']}b"]
    if "chunk_kib" in changes:
        argv += ["--chunksize", f"{changes['chunk_kib']}k"]
    if "discards" in changes:
        argv += ["--discards", changes["discards"]]
    return Run((*argv, params["vg"]), label=f"make thin pool {params['vg']}/{params['name']}", timeout_s=600.0)


def _pool_grown(plan: Plan, changes: Mapping[str, Any], called: str, params: Params) -> list[Step]:
    steps: list[Step] = []
    more = sum(changes[k] - (plan.have or {})[k] for k in ("size", "metadata_size") if k in changes)
    _enough(more, params)
    if "metadata_size" in changes:
        argv = ("lvextend", "--poolmetadatasize", f"{changes['metadata_size']}b", called)
        steps.append(Run(argv, label=f"give thin pool {called} more room for metadata"))
    if "size" in changes:
        steps.append(Run(("lvextend", "--size", f"{changes['size']}b", called), label=f"grow thin pool {called}"))
    return steps


def _enough(count: int, params: Params) -> None:
    free = params["_group"]["free"]
    if count > free:
        raise Missing(
            f"it needs {size(count)}, and volume group {params['vg']} has {size(free)} left. "
            "Ask for less, or give the group another device."
        )


def _pool_removed(called: str, params: Params) -> list[Step]:
    thin: Mapping[str, bool] = params["_thin"]
    if busy := [name for name, is_open in thin.items() if is_open]:
        raise Failure(f"its volumes {listed(busy)} are in use. Stop what uses them first.")
    held = f" with the volumes {listed(list(thin))}" if thin else ""
    lost = f"thin pool {called}{held}"
    steps: list[Step] = [Run(("lvremove", "--yes", called), label=f"remove {called}", destroys=lost, timeout_s=600.0)]
    if params["_profile"] is not None:
        steps.append(Write(profile_path(params), None, label="remove its thresholds", backup=False))
    return steps
