# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of ``/cluster/resources``: the node, its guests and its storages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError
from labnode.ha import states
from labnode.system import System

if TYPE_CHECKING:
    from labnode.node import Node
    from labnode.route import Ctx

_COUNTERS = ("cpu", "disk", "diskread", "diskwrite", "maxdisk", "maxmem", "mem", "memhost", "netin", "netout", "uptime")
_NAMES = ("name", "lock", "tags")


async def guest_rows(node: Node) -> list[dict[str, Any]]:
    """Every guest: identity, state and counters (bytes, seconds, share of CPU)."""
    managed = states(node.store)
    rows = await asyncio.gather(*(_guest_row(node, vmid, managed.get(str(vmid))) for vmid in node.guests.vmids()))
    return [row for row in rows if row]


async def _guest_row(node: Node, vmid: int, ha_state: str | None) -> dict[str, Any] | None:
    try:
        info = await node.guests.status(vmid)
    except ApiError:
        return None  # removed since the list was made
    row: dict[str, Any] = {"id": f"qemu/{vmid}", "type": "qemu", "vmid": vmid, "node": node.name}
    row.update({key: info.get(key) or 0 for key in _COUNTERS})
    row.update({key: info[key] for key in _NAMES if info.get(key)})
    row.setdefault("name", f"VM {vmid}")
    # the word of QEMU, as pvestatd hands it on (pve-manager pvestatd.pm, API2Tools.pm)
    row.update(status=info["qmpstatus"], template=int(bool(info.get("template"))), maxcpu=info.get("cpus", 1))
    pool = node.auth.cfg.pool_of(vmid)
    if pool:
        row["pool"] = pool
    return {**row, "hastate": ha_state} if ha_state else row


async def storage_rows(node: Node) -> list[dict[str, Any]]:
    """Every storage that is not switched off."""
    rows = []
    for storeid in node.storage.definitions():
        status = await node.storage.status(storeid)
        if not status.enabled:
            continue
        rows.append(
            {
                "id": f"storage/{node.name}/{storeid}",
                "type": "storage",
                "node": node.name,
                "storage": storeid,
                "plugintype": status.type,
                "content": status.content,
                "shared": int(status.shared),
                "status": "available" if status.active else "unknown",
                "disk": status.used,
                "maxdisk": status.total,
            }
        )
    return rows


def seen_by(ctx: Ctx, row: dict[str, Any]) -> dict[str, Any]:
    """A row without what this user may not see of it: the numbers of a node, the pool of a guest (pve-manager,
    API2Tools.pm ``extract_node_stats`` and API2/Cluster.pm)."""
    hidden: set[str] = set()
    if row["type"] == "node" and not ctx.may(f"/nodes/{row['node']}", ["Sys.Audit"]):
        hidden = {"cpu", "maxcpu", "mem", "maxmem", "disk", "maxdisk", "uptime"}
    elif row["type"] == "qemu" and "pool" in row and not ctx.may(f"/pool/{row['pool']}", ["Pool.Audit"]):
        hidden = {"pool"}
    return {key: value for key, value in row.items() if key not in hidden}


def node_row(node: Node, system: System) -> dict[str, Any]:
    """The node itself."""
    memory, root = system.memory(), system.disk(node.state_dir)
    return {
        "id": f"node/{node.name}",
        "type": "node",
        "node": node.name,
        "status": "online",
        "level": "",
        "cpu": system.cpu(),
        "maxcpu": system.cpus(),
        "mem": memory["used"],
        "maxmem": memory["total"],
        "disk": root["used"],
        "maxdisk": root["total"],
        "uptime": system.uptime(),
    }
