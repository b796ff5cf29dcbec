# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine as it is: configuration, what waits for a reboot, whether it runs. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .core import complaints
from .core.guest_steps import Entries, Seen, Situation
from .core.guest_want import as_seen
from .core.reconcile import Params, plan
from .core.state import State
from .core.steps import MASK, Failure
from .reads import find_name

_SECRET = ("cipassword",)


def read_vm(api: Any, params: Params) -> State | None:
    """The state of the guest of a Situation, or None where there is none. Raises Failure."""
    at: Situation = params["_guest"]
    first = bool(at.handed)
    seen = at.handed.pop() if first else look(api, at.path)
    if seen is None:
        return None
    if first and at.leftover:
        lock = seen.config["lock"]
        return {"vmid": at.vmid, "node": at.node, "lock": lock, "leftover": at.leftover, "status": "stopped"}
    if not first and not at.exists and params.get("name") and not params.get("vmid"):
        # Two runs may have made a guest of this name at the same moment; ids are unique, names are not.
        find_name(api, str(params["name"]), nodes=at.nodes or None)
    state = {**seen.state, **_pool(api, at, params)}
    known = _listed(at, params, state, seen.entries) if first else _made_stopped(at, params)
    state |= _still(at, known) if known else _running(api, at, seen.entries)
    if params["state"] == "absent":
        listed = api.get(f"{at.path}/snapshot")
        return {**state, "snapshots": [str(s["name"]) for s in listed if s["name"] != "current"]}
    _tell_pending(api, at, params, state)
    return as_seen(at.want, state)


def look(api: Any, path: str) -> Seen | None:
    """The configuration of a guest, with what waits for a restart; None where there is none. Raises Failure.

    …/pending tells all that …/config does, the digest included (a recording of Proxmox VE 9.1 shows it).
    """
    try:
        entries: Entries = api.get(f"{path}/pending")
    except Failure as failure:
        if complaints.is_missing(failure):
            return None
        raise
    return Seen(applied(entries), entries)


def applied(entries: Entries) -> dict[str, Any]:
    """The answer of …/pending → that of …/config: as it will be when all that waits has taken effect."""
    return {str(e["key"]): e.get("pending", e.get("value")) for e in entries if not int(e.get("delete") or 0)}


def _made_stopped(at: Situation, params: Params) -> str:
    """ "stopped" for a guest that this run has made and not started, else ""."""
    made = not at.exists and params["state"] != "absent" and params.get("status") in (None, "stopped")
    return "stopped" if made else ""


def _listed(at: Situation, params: Params, state: State, entries: Entries) -> str:
    """ "stopped" or "running" as the cluster lists a guest of which the task neither says nor changes anything.

    Nothing depends on whether that is still so. Else "": for a guest that is listed otherwise (paused, io-error: the
    list has the word of QEMU; pve-manager pvestatd.pm and API2Tools.pm), or for which something waits.
    """
    asked = params["state"] == "absent" or params.get("status") is not None
    if at.listed not in ("stopped", "running") or asked or pending(entries):
        return ""
    whole = {**at.want, **{k: params[k] for k in ("name", "pool") if params.get(k)}}
    return at.listed if plan(whole, as_seen(at.want, state)).empty else ""


def _still(at: Situation, status: str) -> State:
    """The part of a state that tells where a guest is and how it runs, for one for which nothing waits."""
    state: State = {"vmid": at.vmid, "node": at.node, "qmpstatus": status, "status": status}
    return {**state, "pending": []} if status == "running" else state


def _running(api: Any, at: Situation, entries: Entries) -> State:
    """Where it is and how it runs. ``qmpstatus`` tells of a guest that hangs, of which ``status`` says running."""
    now = api.get(f"{at.path}/status/current")
    monitor = str(now.get("qmpstatus", now["status"]))
    state: State = {"vmid": at.vmid, "node": at.node, "qmpstatus": monitor, "status": run_state(now)}
    if monitor == "io-error":
        _once(api, f"guest {at} runs, but it is halted by an error of its storage (io-error). Is the storage full?")
    if now["status"] == "running":
        state["pending"] = pending(entries)
    return state


def run_state(now: Mapping[str, Any]) -> str:
    """The answer of …/status/current → stopped, running or paused."""
    if now["status"] != "running":
        return "stopped"
    return "paused" if now.get("qmpstatus") in ("paused", "prelaunch") else "running"


def pending(entries: Any) -> list[dict[str, Any]]:
    """The answer of …/pending → what waits for a restart: [{key, value, pending}] or [{key, value, delete: true}]."""
    waiting: list[dict[str, Any]] = []
    for entry in sorted(entries, key=lambda e: str(e["key"])):
        shown = {k: MASK if entry["key"] in _SECRET else entry[k] for k in ("value", "pending") if k in entry}
        if int(entry.get("delete") or 0):
            waiting.append({"key": entry["key"], **shown, "delete": True})
        elif "pending" in entry:
            waiting.append({"key": entry["key"], **shown})
    return waiting


def _pool(api: Any, at: Situation, params: Params) -> State:
    """The pool, where the task says anything about it."""
    if not params.get("pool") and "pool" not in (params.get("unset") or []):
        return {}
    entries = api.get("/cluster/resources", type="vm")
    pool = next((g.get("pool") for g in entries if int(g["vmid"]) == at.vmid), None)
    return {"pool": str(pool)} if pool else {}


def _tell_pending(api: Any, at: Situation, params: Params, state: State) -> None:
    waiting = [str(p["key"]) for p in state.get("pending") or []]
    if waiting and params["apply_pending"] == "report":
        _once(
            api,
            f"guest {at} has changes that take effect when it is shut down and started: {', '.join(waiting)}. "
            "Set apply_pending: reboot to have that done.",
        )


def _once(api: Any, text: str) -> None:
    if text not in api.warnings:
        api.warnings.append(text)
