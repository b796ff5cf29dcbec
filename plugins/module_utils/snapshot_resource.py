# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot of one guest as a declaration: the modules snapshot and snapshots share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .core.options import GUEST, ONE_GUEST, guest, moment
from .core.reconcile import Params, Plan, Resource
from .core.snapshots import Listing, remove
from .core.state import State
from .core.steps import Call, Failure
from .snapshot_reads import survey

OPTIONS: dict[str, Any] = {
    "snapname": {"type": "str"},
    "description": {"type": "str"},
    "vmstate": {"type": "bool"},
    "retention": {
        "type": "dict",
        "options": {"keep": {"type": "int", "required": True}, "pattern": {"type": "str", "required": True}},
    },
    "force": {"type": "bool", "default": False},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def name(params: Params) -> str:
    what = params["snapname"] or f"series {(params['retention'] or {}).get('pattern')}"
    return f"{what} of guest {guest(params)}"


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    kept, before = params["retention"], params.get("_before", Listing((), False, ""))
    series = before.retained(kept["pattern"], kept["keep"], params["snapname"]) if kept else None
    if params["snapname"] is None:
        return {"series": series}
    text = params["description"]
    told = None if text is None else text.rstrip("\n")
    return {"description": told, "vmstate": params["vmstate"], "snapstate": "", "series": series}


def read(api: Any, params: Params) -> State | None:
    if params["_guest"] is None:
        return None
    now = Listing.of(api.get(f"{params['_guest'].path}/snapshot"))
    series = {"series": sorted(now.matching(params["retention"]["pattern"]))} if params["retention"] else {}
    if params["snapname"] is None:
        return series
    found = now.get(params["snapname"])
    if found is None:
        return None
    told = {"description": found.description, "vmstate": found.ram, "parent": found.parent, "snapstate": found.half}
    return {"snapname": found.name, "taken": moment(found.time), **told, **series}


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    ref, before, asked = params["_guest"], params["_before"], params["snapname"]
    found, calls, kept = before.get(asked), [], params["retention"]
    if plan.action == "delete":
        return remove(ref, found, params)
    if found and found.half:
        calls += remove(ref, found, params)
    if plan.action == "create" or (plan.action == "update" and found and found.half):
        sent = {"snapname": asked, "description": params["description"] or None}
        sent["vmstate"] = None if params["vmstate"] is None else int(params["vmstate"])
        calls.append(Call("POST", f"{ref.path}/snapshot", sent, label=f"take snapshot {asked} of guest {ref}"))
    elif "vmstate" in plan.changes:
        has = "holds" if found.ram else "does not hold"
        raise Failure(f"it {has} the guest's RAM, and that cannot be changed. Remove it and take it again.")
    elif "description" in plan.changes:
        sent = {"description": plan.changes["description"].after}
        calls.append(Call("PUT", f"{ref.path}/snapshot/{asked}/config", sent, label=f"describe snapshot {asked}"))
    surplus = before.surplus(kept["pattern"], kept["keep"], asked) if kept else []
    return [
        *calls,
        *(Call("DELETE", f"{ref.path}/snapshot/{n}", label=f"remove snapshot {before.get(n)}") for n in surplus),
    ]


RESOURCE = Resource(
    noun="snapshot",
    options={**GUEST, **OPTIONS},
    want=want,
    resolve=survey,
    read=read,
    steps=steps,
    name=name,
    constraints={"required_one_of": [("snapname", "retention"), *ONE_GUEST["required_one_of"]]},
)
