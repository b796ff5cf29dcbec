# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that several modules ask the Proxmox VE API. Each only reads, through anything that has ``get``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from .core.steps import Failure, Missing

VMID_MIN, VMID_MAX = 100, 999_999_999


class Reader(Protocol):
    """The reading half of the API seam."""

    def get(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET. Raises Failure."""


@dataclass(frozen=True)
class GuestRef:
    """Where a guest is. ``kind`` is "qemu" or "lxc"; ``name`` is "" where the cluster does not know it yet.

    ``status`` is what QEMU says of itself ("running", "paused", "io-error"), or "stopped", in the cluster's list up to
    10 s old; "unknown" or "" where the cluster cannot tell.
    """

    vmid: int
    node: str
    name: str
    kind: str = "qemu"
    template: bool = False
    status: str = field(default="", compare=False)

    @property
    def path(self) -> str:
        """The guest's API path, without a trailing slash."""
        return f"/nodes/{quote(self.node, safe='')}/{self.kind}/{self.vmid}"

    def __str__(self) -> str:
        return f"{self.vmid} ({self.name})" if self.name else str(self.vmid)


class _Index:
    """A list of the cluster, by the ids of its guests, and by the names of its VMs ("" where one is not known). What is
    no guest is in ``others``."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.by_id: dict[int, Mapping[str, Any]] = {}
        self.by_name: dict[str, list[Mapping[str, Any]]] = {}
        self.others: list[Mapping[str, Any]] = []
        for row in rows:
            if row.get("type") in ("qemu", "lxc"):
                self.by_id[int(row["vmid"])] = row
            else:
                self.others.append(row)
            if row.get("type") == "qemu":
                self.by_name.setdefault(str(row.get("name") or ""), []).append(row)


# Hundreds of guests are looked for in one and the same list, each by a Look of its own.
_latest: list[_Index] = []


def _indexed(rows: Any) -> _Index:
    known = _latest[:1]
    if not known or known[0].rows is not rows:
        _latest[:] = known = [_Index(rows)]
    return known[0]


class Look:
    """One look at a cluster: nothing is asked twice, and one list of the cluster serves for what it holds.

    For the time in which nothing is written.
    """

    def __init__(self, api: Any) -> None:
        self.warnings: list[str] = api.warnings
        self._api = api
        self._known: dict[Any, Any] = {}

    def get(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET. Raises Failure."""
        key = (path, tuple(sorted(params.items())))
        if key not in self._known:
            listed = self._listed(path, params)
            self._known[key] = self._api.get(path, **params) if listed is None else listed
        return self._known[key]

    def _listed(self, path: str, params: Mapping[str, Any]) -> list[Any] | None:
        """The answer, where the list of the cluster has it."""
        if path == "/cluster/resources" and params == {"type": "vm"}:
            return [row for row in self.get(path) if row.get("type") in ("qemu", "lxc")]
        if path == "/nodes":
            return [row for row in self.get("/cluster/resources") if row.get("type") == "node"] or None
        return None

    def find(self, path: str, /, **params: Any) -> Any:
        """The ``data`` of one GET, or None when there is no such object. Raises Failure."""
        return self._api.find(path, **params)

    def wait(self, task: str) -> None:
        """Wait for a task of somebody else; what was seen before is old then. Raises Failure."""
        self._known.clear()
        self._api.wait(task)

    def listed(self, kind: str, key: str, node: str | None = None) -> set[str]:
        """Names of the storages of a node, or of pools, as far as the user may see them in the list of the cluster."""
        rows = _indexed(self.get("/cluster/resources")).others
        return {str(r[key]) for r in rows if r.get("type") == kind and node in (None, r.get("node"))}

    def probably(self, name: str, node: str | None) -> GuestRef | None:
        """The one VM of this name, by the list of the cluster, whose names may be 10 s old; None when it cannot tell.

        A guest of which the cluster knows no name yet may have any.
        """
        index = _indexed(self.get("/cluster/resources"))
        fitting = [r for r in index.by_name.get(name, ()) if node in (None, r["node"])]
        return _ref(fitting[0]) if len(fitting) == 1 and "" not in index.by_name else None

    def by_id(self, vmid: int) -> GuestRef | None:
        """The guest that has this id, whatever its kind, or None."""
        found = _indexed(self.get("/cluster/resources")).by_id.get(vmid)
        return None if found is None else _ref(found)


def node_names(api: Reader) -> list[str]:
    """All nodes of the cluster, online or not, by name."""
    return sorted(str(n["node"]) for n in api.get("/nodes"))


def online_nodes(api: Reader) -> list[str]:
    """The nodes that the cluster sees, by name: one that is down must not be the end of looking at the others."""
    return sorted(str(n["node"]) for n in api.get("/nodes") if n.get("status", "online") == "online")


def choose_node(api: Reader, wanted: str | None) -> str:
    """The node to work on: ``wanted`` if the cluster has it, or the only one there is. Raises Failure.

    A wrong name has to be caught here: Proxmox VE takes it for a host to proxy to and answers with
    "596 certificate verify failed" or a time-out.
    """
    known = node_names(api)
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None:
        raise Failure(
            f"the cluster has {len(known)} nodes ({', '.join(known)}). Name one of them with the option node."
        )
    if wanted not in known:
        raise Failure(
            f"there is no node '{wanted}'; the cluster has {', '.join(known)}. "
            "Use the node's short name, not its domain name or address."
        )
    return wanted


def all_guests(api: Reader) -> list[GuestRef]:
    """Every guest of the cluster. Ids and nodes are exact, names up to 10 s old: pvestatd reports them."""
    return [_ref(r) for r in api.get("/cluster/resources", type="vm")]


def find_vmid(api: Reader, vmid: int) -> GuestRef | None:
    """The guest that has this id, whatever its kind, or None."""
    return next((_ref(r) for r in api.get("/cluster/resources", type="vm") if int(r["vmid"]) == vmid), None)


def find_name(
    api: Reader, name: str, node: str | None = None, nodes: Sequence[Mapping[str, Any]] | None = None
) -> GuestRef | None:
    """The VM of this name (on ``node`` if given), or None. Raises Failure when several have it: names are not unique.

    ``nodes`` are those of the cluster, as it lists them, where they are known already.

    Names come from the nodes themselves, which read them from the configuration, because those in
    /cluster/resources are missing for the first seconds of a guest's life and late after a renaming.
    """
    found: list[GuestRef] = []
    for entry in api.get("/nodes") if nodes is None else nodes:
        owner = str(entry["node"])
        if node not in (None, owner):
            continue
        if entry.get("status", "online") == "online":
            listed = api.get(f"/nodes/{quote(owner, safe='')}/qemu")
            found += [_ref({**g, "node": owner}) for g in listed if g.get("name") == name]
        else:
            found += [g for g in all_guests(api) if (g.node, g.name, g.kind) == (owner, name, "qemu")]
    if len(found) > 1:
        where = ", ".join(f"{g.vmid} on {g.node}" for g in sorted(found, key=lambda g: g.vmid))
        raise Failure(f"several guests are called '{name}': {where}. Say which one with vmid.")
    return found[0] if found else None


def require_vm(api: Reader, vmid: int | None, name: str | None, node: str | None = None) -> GuestRef:
    """The VM with this id or, without an id, of this name. Raises Missing when there is none."""
    ref = find_vmid(api, vmid) if vmid is not None else find_name(api, name or "", node)
    if ref is None:
        called = f"with id {vmid}" if vmid is not None else f"called '{name}'"
        raise Missing(f"there is no guest {called}. Look at the list with pvelab.proxmox.vm_info.")
    if ref.kind != "qemu":
        raise Failure(f"{ref} is a container; this module works on virtual machines.")
    return ref


def free_vmid(api: Reader, first: int | None = None, last: int | None = None) -> int:
    """An id that is free now; nothing reserves it. Without a range the cluster's own next one. Raises Failure."""
    if first is None and last is None:
        return int(api.get("/cluster/nextid"))
    low, high = first or VMID_MIN, last or VMID_MAX
    taken = {g.vmid for g in all_guests(api)}
    free = next((i for i in range(low, high + 1) if i not in taken), None)
    if free is None:
        raise Failure(f"every id from {low} to {high} is taken. Widen the range or remove guests.")
    return free


def _ref(entry: Mapping[str, Any]) -> GuestRef:
    return GuestRef(
        vmid=int(entry["vmid"]),
        node=str(entry["node"]),
        name=str(entry.get("name") or ""),
        kind=str(entry.get("type") or "qemu"),
        template=bool(int(entry.get("template") or 0)),
        status=str(entry.get("status") or ""),
    )


def find_guest(api: Reader, params: Mapping[str, Any]) -> GuestRef | None:
    """The VM that the options vmid, name and node mean (core/options.py GUEST).

    None when there is none and ``state`` is absent: what belongs to it is then absent, too. Else raises Missing.
    """
    try:
        return require_vm(api, params["vmid"], params["name"], params["node"])
    except Missing:
        if params.get("state") == "absent":
            return None
        raise
