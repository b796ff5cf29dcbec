# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is before many guests are worked on: one list of the cluster, one of each node. Only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .core.fleet_entries import Entry, named
from .core.fleet_ids import Ids
from .core.steps import Failure
from .reads import VMID_MAX, VMID_MIN

# So many unlisted guests are removed without being told a limit, and never more than half of those with the tag.
LIMIT = 10


def survey(crew: Any, view: Any) -> list[dict[str, Any]]:
    """Every virtual machine, as its node tells; of a node that is down, as the cluster remembers it.

    Afterwards views know the nodes, the guests with their names, and how each of them runs. Raises Failure.
    """
    began = crew.kept.clock()
    whole = view.get("/cluster/resources")
    guests = [row for row in whole if row.get("type") in ("qemu", "lxc")]
    crew.kept.put("/cluster/resources", guests, began, type="vm")
    nodes = [row for row in whole if row.get("type") == "node"]
    crew.kept.put("/nodes", nodes, began)
    known = {int(row["vmid"]): row for row in guests}
    seen: list[dict[str, Any]] = []
    for node in sorted(str(n["node"]) for n in nodes if n.get("status", "online") == "online"):
        listed = view.get(f"/nodes/{quote(node, safe='')}/qemu", full=1)
        seen += [{**known.get(int(row["vmid"]), {}), **row, "node": node} for row in listed]
    found = {int(row["vmid"]) for row in seen}
    return seen + [row for row in guests if row["type"] == "qemu" and int(row["vmid"]) not in found]


def unlisted(
    wish: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]], made: Sequence[Entry], options: Mapping[str, Any]
) -> list[Entry]:
    """Entries that remove the guests with the tag that no entry means. Raises Failure when they are too many."""
    if not wish:
        return []
    tag = str(wish["tag"]).lower()
    ids = {str(e.params["vmid"]) for e in made if e.params.get("vmid")}
    names = {str(e.params["name"]) for e in made if not e.params.get("vmid")}
    fenced = [row for row in rows if tag in _tags(row)]
    gone = [r for r in fenced if str(r["vmid"]) not in ids and str(r.get("name") or "") not in names]
    limit = int(wish["limit"]) if wish.get("limit") is not None else min(LIMIT, max(1, len(fenced) // 2))
    if len(gone) > limit:
        called = named(f"{r['vmid']} ({r['name']})" if r.get("name") else str(r["vmid"]) for r in gone)
        raise Failure(
            f"{len(gone)} of {len(fenced)} guests with the tag '{tag}' are not listed: {called}. At most {limit} may "
            "be removed at once. Look at the list of guests, or set unlisted.limit if that is what you want."
        )
    own = {key: spec.get("default") for key, spec in options.items()}
    known = {e.called for e in made}
    more = {k: wish[k] for k in ("allow_data_loss", "force_stop", "purge")}
    return [_gone(row, {**own, **more, "state": "absent"}, known) for row in sorted(gone, key=lambda r: int(r["vmid"]))]


def _gone(row: Mapping[str, Any], params: Mapping[str, Any], known: set[str]) -> Entry:
    vmid, name = int(row["vmid"]), str(row.get("name") or "")
    called = name if name and name not in known else str(vmid)
    known.add(called)
    return Entry(called, {**params, "vmid": vmid, "name": name or None})


def _tags(row: Mapping[str, Any]) -> set[str]:
    return {tag for tag in str(row.get("tags") or "").lower().replace(",", ";").replace(" ", ";").split(";") if tag}


def choose_vmid(view: Any, called: str, low: int | None = None, high: int | None = None, *, ids: Ids, lock: Any) -> int:
    """An id for a new guest that neither another guest nor another one of this run has. Raises Failure."""
    taken = {int(r["vmid"]) for r in view.get("/cluster/resources", type="vm")} | view.refused
    if low is None and high is None:
        # Where the cluster has bounds for ids, the first free one lies within them.
        low = int(view.get("/cluster/nextid"))
    with lock:
        return ids.take(called, low or VMID_MIN, high or VMID_MAX, taken)


def free_memory(view: Any, nodes: set[str]) -> dict[str, int]:
    """MiB that each node has free; a node that does not tell is left out."""
    free: dict[str, int] = {}
    for node in sorted(nodes):
        try:
            memory = view.get(f"/nodes/{quote(node, safe='')}/status")["memory"]
        except Failure:
            continue
        free[node] = int(memory.get("available", memory["free"])) // 1024**2
    return free
