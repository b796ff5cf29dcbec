# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the virtual machine that a task means, or the place for a new one. Only reads."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import quote

from . import guest_debris
from .core.guest_codec import parse_config
from .core.guest_steps import Seen, Situation, Source
from .core.guest_want import as_seen, since, wanted
from .core.options import listed
from .core.reconcile import Params
from .core.state import State, is_cleared
from .core.steps import Failure, Missing
from .guest_read import look
from .reads import GuestRef, Look, Reader, choose_node, find_name, free_vmid


def situate(cluster: Any, params: Params) -> dict[str, Any]:
    """``{"_guest": Situation}`` of a task. Raises Failure; Missing for what the task refers to and is not there."""
    api = Look(cluster)
    ref, seen = _found(api, params)
    if ref is not None and ref.kind != "qemu":
        raise Failure(f"id {ref.vmid} is taken by a container ({ref.name}). Nothing was changed. Use another vmid.")
    if ref is not None and guest_debris.waited(api, ref, seen.config if seen else None):
        return situate(cluster, params)
    present = params["state"] == "present"
    want = wanted(params) if present else {}
    copied_to = (params.get("clone") or {}).get("storage")
    ref, seen, left = _left(api, params, ref, seen)
    fresh = seen is None or left is not None
    have = seen.state if seen and not fresh else None
    source = _source(api, params) if fresh and present else None
    node = ref.node if ref else _node(api, params, source)
    if present:
        also = {"clone.storage": copied_to} if fresh and copied_to else {}
        _require(api, node, {**want, **also}, have)
    if present and params.get("pool"):
        _require_pool(api, params, fresh)
    vmid = ref.vmid if ref else int(params.get("vmid") or _free(api, params, present))
    situation = Situation(
        vmid=vmid,
        node=node,
        name=str(params.get("name") or (ref.name if ref else "")),
        path=f"/nodes/{quote(node, safe='')}/qemu/{vmid}",
        exists=seen is not None,
        source=source,
        version=_version(api, want, have or {}),
        listed=ref.status if ref else "",
        leftover=left.what if left else "",
        debris=left.volumes if left else (),
        want=want,
        handed=[seen],
        nodes=() if ref or not present else tuple(api.get("/nodes")),
    )
    return {"_guest": situation}


def _found(api: Look, params: Params) -> tuple[GuestRef | None, Seen | None]:
    """By id, which goes before the name; else by name, first on the node that the task names. With what it holds."""
    if params.get("vmid"):
        return _with_config(api, api.by_id(int(params["vmid"])))
    name, node = str(params["name"]), params.get("node")
    ref, seen = _with_config(api, api.probably(name, node))
    if seen is None or seen.config.get("name") != name:
        ref, seen = _with_config(api, (find_name(api, name, node) if node else None) or find_name(api, name))
    return ref, seen


def _left(
    api: Look, params: Params, ref: GuestRef | None, seen: Seen | None
) -> tuple[GuestRef | None, Seen | None, guest_debris.Debris | None]:
    """The same with what an earlier run may have left: of this guest, or of one whose place this one can take."""
    left = guest_debris.look(api, params, ref, seen.config if seen else None) if ref else None
    if seen is not None or params["state"] == "absent" or params.get("vmid"):
        return ref, seen, left
    ref, config, left = guest_debris.adoptable(api, params)
    return ref, None if config is None else Seen(config), left


def _with_config(api: Look, ref: GuestRef | None) -> tuple[GuestRef | None, Seen | None]:
    return ref, look(api, ref.path) if ref and ref.kind == "qemu" else None


def _free(api: Reader, params: Params, present: bool) -> int:
    if not present:
        return 0
    span = params.get("vmid_range") or [None, None]
    if len(span) != 2:
        raise Failure(f"vmid_range has {len(span)} numbers; it takes the first and the last id, such as [200, 299].")
    choose = params.get("_choose_vmid") or partial(free_vmid, api)
    return int(choose(*span))


def _node(api: Reader, params: Params, source: Source | None) -> str:
    if params["state"] == "absent":
        return str(params.get("node") or "")
    if source is not None and not params.get("node"):
        return source.node
    return choose_node(api, params.get("node"))


def _source(api: Look, params: Params) -> Source | None:
    """The guest to clone, with its configuration: now, or that of one of its snapshots."""
    clone = params.get("clone")
    if not clone:
        return None
    wanted_ = str(clone["source"])
    ref = api.by_id(int(wanted_)) if wanted_.isdecimal() else find_name(api, wanted_)
    if ref is None:
        raise Missing(f"there is no guest {wanted_} to clone. Make it first, or name another one in clone.source.")
    if ref.kind != "qemu":
        raise Failure(f"{ref} is a container, which cannot be cloned to a virtual machine. Name another clone.source.")
    snapshot = clone.get("snapname")
    below = f"snapshot/{quote(snapshot, safe='')}/config" if snapshot else "config"
    return Source(ref.path, str(ref), ref.node, parse_config(api.get(f"{ref.path}/{below}")), ref.template)


def _require(api: Look, node: str, want: State, have: State | None) -> None:
    """Raise Missing for storages and bridges that are new to the guest and that the node does not have.

    Proxmox VE itself takes a bridge that does not exist and fails when the guest starts.
    """
    at = f"/nodes/{quote(node, safe='')}"
    new = {k: str(v) for k, v in want.items() if not is_cleared(v) and (have or {}).get(k) != v}
    storages = {v for k, v in new.items() if k.endswith(".storage")}
    bridges = {v for k, v in new.items() if k.startswith("net") and k.endswith(".bridge")}
    unseen = storages - api.listed("storage", "storage", node)
    # A user who may only allocate on a storage does not see it in the list of the cluster.
    gone = [f"storage '{s}'" for s in sorted(unseen - _names(api, f"{at}/storage", "storage"))] if unseen else []
    if bridges:
        known = _names(api, f"{at}/network", "iface", type="any_bridge")
        gone += [f"bridge '{b}'" for b in sorted(bridges - known)] if known else []
    if gone:
        there = None if have is None else as_seen(want, have)
        raise Missing(f"node {node} has no {listed(gone)}. Create what is missing, or name what is there.", have=there)


def _require_pool(api: Look, params: Params, fresh: bool) -> None:
    """Raises Missing for a pool that a new guest is to join and that is not there.

    Of an old guest it is asked whether any pool shows: whoever may see none does not see which one it is in.
    """
    pool, shown = params["pool"], api.listed("pool", "pool")
    if pool in shown or (shown and not fresh):
        return
    if pool not in _names(api, "/pools", "poolid") and fresh:
        raise Missing(f"there is no pool '{pool}'. Create it with pvelab.proxmox.pool, or name one that is there.")


def _names(api: Any, path: str, key: str, **params: Any) -> set[str]:
    return {str(entry[key]) for entry in api.get(path, **params)}


def _version(api: Any, want: State, have: State) -> tuple[int, ...]:
    """Asked for only when the task brings something new that not every supported version knows."""
    if not any(since(key) for key, value in want.items() if have.get(key) != value):
        return ()
    text = str(api.get("/version")["version"]).partition("~")[0]
    return tuple(int(n) for n in text.replace("-", ".").split(".")[:2] if n.isdecimal())
