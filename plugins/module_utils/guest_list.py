# SPDX-License-Identifier: GPL-3.0-or-later
"""Many virtual machines at once: which there are, how they run, what they are. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from .core.guest_codec import parse_config
from .core.reconcile import Params
from .core.state import unflatten
from .core.steps import Failure
from .guest_read import pending, run_state


def list_vms(api: Any, params: Params) -> dict[str, Any]:
    """``{"vms": [...]}``: the guests that all given filters fit, by id. Raises Failure."""
    found = [g for g in _everywhere(api, params) if _fits(g, params)]
    return {"vms": [_told(api, g, params) for g in sorted(found, key=lambda g: int(g["vmid"]))]}


def _everywhere(api: Any, params: Params) -> Iterator[dict[str, Any]]:
    """Guests as their nodes tell, which read names and tags from the configuration; of a node that is down, as the
    cluster remembers them."""
    cluster = {int(r["vmid"]): r for r in api.get("/cluster/resources", type="vm") if r.get("type") == "qemu"}
    for node in api.get("/nodes"):
        name = str(node["node"])
        if params.get("node") not in (None, name):
            continue
        if node.get("status", "online") == "online":
            for guest in api.get(f"/nodes/{quote(name, safe='')}/qemu"):
                known = cluster.get(int(guest["vmid"]), {})
                yield {"pool": known.get("pool", ""), **guest, "node": name, "online": True}
        else:
            yield from ({**r, "online": False, "status": "unknown"} for r in cluster.values() if r["node"] == name)


def _fits(guest: Mapping[str, Any], params: Params) -> bool:
    tags = {t.lower() for t in str(guest.get("tags") or "").replace(",", ";").split(";")}
    wanted = params.get("status")
    return all(
        (
            params.get("vmid") in (None, int(guest["vmid"])),
            params.get("name") in (None, guest.get("name")),
            params.get("pool") in (None, guest.get("pool")),
            params.get("tag") is None or str(params["tag"]).lower() in tags,
            # Whether a running guest is paused is known only when it is asked itself.
            wanted is None or (guest.get("status") == "stopped") == (wanted == "stopped"),
        )
    )


def _told(api: Any, guest: Mapping[str, Any], params: Params) -> dict[str, Any]:
    tags = [t for t in str(guest.get("tags") or "").replace(",", ";").split(";") if t]
    told: dict[str, Any] = {
        "vmid": int(guest["vmid"]),
        "name": str(guest.get("name") or ""),
        "node": str(guest["node"]),
        "pool": str(guest.get("pool") or ""),
        "tags": sorted(tags),
        "template": bool(int(guest.get("template") or 0)),
        "lock": str(guest.get("lock") or ""),
        "status": str(guest.get("status")),
        "online": bool(guest["online"]),
    }
    if not told["online"]:
        return told
    path = f"/nodes/{quote(told['node'], safe='')}/qemu/{told['vmid']}"
    now = api.get(f"{path}/status/current")
    told |= {
        "status": run_state(now),
        "qmpstatus": str(now.get("qmpstatus", now["status"])),
        "uptime_s": int(now.get("uptime") or 0),
        "cpus": now.get("cpus"),
        "memory_bytes": now.get("maxmem"),
        "lock": str(now.get("lock") or ""),
    }
    return told | _details(api, path, now, params)


def _details(api: Any, path: str, now: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """What costs another read each, and only where it was asked for."""
    details: dict[str, Any] = {}
    running = now["status"] == "running"
    if params["config"]:
        details["config"] = unflatten(parse_config(api.get(f"{path}/config")))
        details["pending"] = pending(api.get(f"{path}/pending")) if running else []
    if params["snapshots"]:
        details["snapshots"] = [
            {k: s[k] for k in ("name", "description", "snaptime", "parent", "vmstate") if k in s}
            for s in api.get(f"{path}/snapshot")
            if s["name"] != "current"
        ]
    if params["addresses"]:
        details |= _addresses(api, path) if running and now.get("agent") else {"addresses": [], "agent": "not asked"}
    return details


def _addresses(api: Any, path: str) -> dict[str, Any]:
    """What the guest agent says. One that does not answer is no error: Proxmox VE gives up after a few seconds."""
    try:
        answer = api.get(f"{path}/agent/network-get-interfaces")
    except Failure as failure:
        return {"addresses": [], "agent": failure.msg}
    found = [
        {
            "interface": card.get("name", ""),
            "mac": str(card.get("hardware-address", "")).upper(),
            "address": entry["ip-address"],
            "prefix": entry.get("prefix"),
            "family": entry.get("ip-address-type", ""),
        }
        for card in answer.get("result") or []
        if card.get("name") != "lo"
        for entry in card.get("ip-addresses") or []
    ]
    return {"addresses": found, "agent": "running"}
