# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pool asks of a cluster before it knows what to do. Reads only, through the given seam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .core.state import State
from .core.steps import Failure, Missing
from .reads import find_name

POOL_AS_PARAMETER = (8, 2)
"""The first version whose every release takes the pool's id as a parameter (pve-manager API2/Pool.pm, end of 2023)."""


def survey(api: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The pool before anything is done, and its members to be. Raises Missing for a member that does not exist.

    Adds ``_by_path`` (the old form of the API), ``_nested`` (pools inside it), ``_had`` (as ``look``) and ``_vms``
    (ids, or None where the task names no guests).
    """
    poolid = params["poolid"]
    by_path = api.version() < POOL_AS_PARAMETER and "/" not in poolid
    if by_path and params["allow_move"]:
        raise Failure("allow_move needs Proxmox VE 8.2 or later. Take the guests out of their pool in a task before.")
    pools = [str(p["poolid"]) for p in api.get("/pools")]
    nested = [p for p in pools if p.startswith(f"{poolid}/")]
    facts = {"_by_path": by_path, "_nested": nested}
    if params["state"] == "absent":
        return facts
    above = poolid.rpartition("/")[0]
    if above and above not in pools:
        raise Missing(f"there is no pool '{above}' to nest it in. Create that one first.")
    vms = None if params["vms"] is None else sorted({_vmid(api, str(m)) for m in params["vms"]})
    _check_guests(api, vms or [], params)
    _check_storages(api, params["storage"] or [])
    return {**facts, "_had": look(api, {**params, **facts}), "_vms": vms}


def look(api: Any, params: Mapping[str, Any]) -> State | None:
    """{comment, vms, storage} of the pool; members are sorted. None when there is no such pool. Raises Failure."""
    poolid = params["poolid"]
    if not any(p["poolid"] == poolid for p in api.get("/pools")):
        return None
    by_path = params["_by_path"]
    pool = api.get(f"/pools/{quote(poolid, safe='')}") if by_path else api.get("/pools", poolid=poolid)[0]
    members = pool.get("members") or []
    return {
        "comment": str(pool.get("comment") or ""),
        "vms": sorted(int(m["vmid"]) for m in members if m.get("vmid")),
        "storage": sorted({str(m["storage"]) for m in members if m.get("type") == "storage"}),
    }


def _vmid(api: Any, member: str) -> int:
    """The id of a member that is named by id or by name. Raises Missing."""
    if member.isdecimal():
        return int(member)
    found = find_name(api, member)
    if found is None:
        raise Missing(f"there is no guest called '{member}'. Look at the list with pvelab.proxmox.vm_info.")
    return found.vmid


def _check_guests(api: Any, vms: list[int], params: Mapping[str, Any]) -> None:
    """Raises Missing for a guest that does not exist, or that is in another pool and is not to be moved."""
    entries = api.get("/cluster/resources", type="vm") if vms else []
    pools = {int(e["vmid"]): str(e.get("pool") or "") for e in entries}
    unknown = [str(v) for v in vms if v not in pools]
    if unknown:
        raise Missing(f"there is no guest with id {', '.join(unknown)}. Look at the list with pvelab.proxmox.vm_info.")
    elsewhere = [f"guest {v} is in pool '{pools[v]}'" for v in vms if pools[v] not in ("", params["poolid"])]
    if elsewhere and not params["allow_move"]:
        raise Missing(
            f"{', '.join(elsewhere)}, and a guest can be in one only. Set allow_move: true to take it from there."
        )


def _check_storages(api: Any, storages: list[str]) -> None:
    """Raises Missing for a storage that is not defined: Proxmox VE takes such a member without a word."""
    defined = {str(s["storage"]) for s in api.get("/storage")} if storages else set()
    absent = sorted(set(storages) - defined)
    if absent:
        raise Missing(f"there is no storage called {', '.join(absent)}. Define it with pvelab.proxmox.storage.")
