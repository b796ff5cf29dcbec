# SPDX-License-Identifier: GPL-3.0-or-later
"""All guests of a cluster as an inventory needs them, in one pass of concurrent reads. Only reads.

Agents are asked last: a node answers with few processes at once, and one that waits for an agent answers nobody else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .core import complaints
from .core.inventory import agent_enabled, interfaces, settled, tags
from .core.options import listed
from .core.steps import Failure

Guest = dict[str, Any]


@dataclass(frozen=True)
class Wants:
    """What to read. ``agent_timeout_s`` is for one agent, ``agents_timeout_s`` for all of them together."""

    config: bool = True
    qmpstatus: bool = False
    addresses: bool = True
    templates: bool = False
    parallel: int = 8
    agent_timeout_s: float = 5.0
    agents_timeout_s: float = 30.0


def survey(
    api: Any, wants: Wants, warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> list[Guest]:
    """The guests by id, as core/inventory.py says. Raises Failure when the cluster itself cannot be asked."""
    known = {int(r["vmid"]): r for r in api.get("/cluster/resources", type="vm")}
    online = {str(n["node"]) for n in api.get("/nodes") if n.get("status", "online") == "online"}
    everywhere = sorted(_everywhere(api, known, online, wants.parallel), key=lambda guest: int(guest["vmid"]))
    guests = [g for g in everywhere if wants.templates or not g["template"]]
    reachable = [g for g in guests if g["status"] != "unknown"]
    if wants.config or wants.qmpstatus:
        looked = api.each(lambda guest: _look(api, guest, wants), reachable, parallel=wants.parallel)
        _tell_trouble(looked, warn)
        guests = [g for g in guests if not g.pop("gone", False)]
    if wants.addresses:
        _ask_agents(api, [g for g in guests if g["status"] == "running"], wants, warn, clock)
    return guests


def path_of(guest: Mapping[str, Any]) -> str:
    """A guest's API path, without a trailing slash."""
    return f"/nodes/{quote(str(guest['node']), safe='')}/{guest['kind']}/{guest['vmid']}"


def _everywhere(api: Any, known: Mapping[int, Mapping[str, Any]], online: set[str], parallel: int) -> list[Guest]:
    """Guests as their nodes tell, which know names, tags and states at once; the cluster's own list has names and
    states up to 10 s late. Of a node that is down, as the cluster remembers them."""
    lists = sorted({(str(r["node"]), str(r["type"])) for r in known.values() if r["node"] in online})

    def read(place: tuple[str, str]) -> list[Guest]:
        node, kind = place
        entries = api.get(f"/nodes/{quote(node, safe='')}/{kind}")
        return [_guest({**known.get(int(e["vmid"]), {}), **e}, node, kind) for e in entries]

    told = [g for guests in api.each(read, lists, parallel=parallel) for g in guests]
    away = [r for r in known.values() if r["node"] not in online]
    return [*told, *(_guest({**r, "status": "unknown"}, str(r["node"]), str(r["type"])) for r in away)]


def _guest(entry: Mapping[str, Any], node: str, kind: str) -> Guest:
    return {
        "vmid": int(entry["vmid"]),
        "kind": kind,
        "name": str(entry.get("name") or ""),
        "node": node,
        "status": str(entry.get("status") or "unknown"),
        "tags": tags(entry.get("tags")),
        "pool": str(entry.get("pool") or ""),
        "template": bool(int(entry.get("template") or 0)),
        "lock": str(entry.get("lock") or ""),
    }


def _look(api: Any, guest: Guest, wants: Wants) -> str | None:
    """Add what costs a read for each guest. What went wrong, or None; a guest that is no more is marked as gone."""
    try:
        if wants.config:
            guest["config"] = settled(guest["kind"], api.get(f"{path_of(guest)}/config"))
        if wants.qmpstatus and guest["kind"] == "qemu" and guest["status"] == "running":
            guest["qmpstatus"] = str(api.get(f"{path_of(guest)}/status/current").get("qmpstatus", "running"))
    except Failure as failure:
        if complaints.is_missing(failure):
            guest["gone"] = True
            return None
        return f"guest {guest['vmid']} ({guest['name']}) cannot be looked at: {failure.msg}"
    return None


def _tell_trouble(told: list[str | None], warn: Callable[[str], None]) -> None:
    trouble = [text for text in told if text]
    if trouble:
        more = f" So it is with {len(trouble) - 1} more." if len(trouble) > 1 else ""
        warn(f"{trouble[0]}{more}")


def _ask_agents(
    api: Any, running: list[Guest], wants: Wants, warn: Callable[[str], None], clock: Callable[[], float]
) -> None:
    """Add ``agent`` and ``agent_interfaces`` to guests that run. No agent is waited for longer than is wanted."""
    deadline = clock() + wants.agents_timeout_s
    asked = [g for g in running if g["kind"] == "lxc" or agent_enabled(g)]
    for guest in running:
        guest.update(agent="not asked", agent_interfaces=[])

    def ask(guest: Guest) -> int | None:
        left = deadline - clock()
        if left <= 0:
            guest["agent"] = "no time was left to ask it"
            return None
        what = "interfaces" if guest["kind"] == "lxc" else "agent/network-get-interfaces"
        try:
            answer = api.hurried(min(left, wants.agent_timeout_s)).get(f"{path_of(guest)}/{what}")
        except Failure as failure:
            guest["agent"] = failure.msg
            return failure.status
        guest.update(agent="running", agent_interfaces=interfaces(answer))
        return None

    refused = [s for s in api.each(ask, asked, parallel=wants.parallel) if s == 403]
    if refused:
        denied = next(g["agent"] for g in asked if g["agent"] not in ("running", "not asked"))
        warn(f"the agents of {len(refused)} guests may not be asked: {denied}")
    late = [str(g["vmid"]) for g in asked if g["agent"] == "no time was left to ask it"]
    if late:
        warn(
            f"the {wants.agents_timeout_s:g} seconds for guest agents were over before {listed(late[:5])} "
            f"{'and others ' if len(late) > 5 else ''}could be asked. Agents that do not answer take that time; "
            "give more with agents_timeout_s, or switch them off in the guests' options."
        )
