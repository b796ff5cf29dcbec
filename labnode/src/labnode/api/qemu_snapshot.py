# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/qemu/{vmid}/snapshot."""

from __future__ import annotations

from typing import Any

from labnode.errors import ApiError
from labnode.guests import pending, snapshot
from labnode.route import Ctx, route
from labnode.tasks import Task

SNAPSHOTS = "/nodes/{node}/qemu/{vmid}/snapshot"
ONE = f"{SNAPSHOTS}/{{snapname}}"


@route("GET", SNAPSHOTS)
async def list_snapshots(ctx: Ctx) -> list[dict[str, Any]]:
    """All snapshots and ``current``."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    return snapshot.listing(g.load(vmid), running=g.running(vmid))


@route("POST", SNAPSHOTS)
async def create(ctx: Ctx) -> str:
    """Take a snapshot."""
    g, p = ctx.node.guests, ctx.params
    name, vmid = p["snapname"], p["vmid"]
    if name == "current" or name.lower() == "pending":
        raise ApiError(f"unable to use snapshot name '{name}' (reserved name)")
    g.load(vmid)

    async def worker(task: Task) -> None:
        ram, description = bool(p.get("vmstate")), p.get("description")
        await snapshot.create(g, vmid, name, task, ram=ram, description=description)

    return ctx.start_task("qmsnapshot", str(vmid), worker)


@route("GET", ONE)
async def index(_ctx: Ctx) -> list[dict[str, str]]:
    """What there is below a snapshot."""
    return [{"cmd": "rollback"}, {"cmd": "config"}]


@route("DELETE", ONE)
async def delete(ctx: Ctx) -> str:
    """Delete a snapshot."""
    g, p = ctx.node.guests, ctx.params

    async def worker(task: Task) -> None:
        await snapshot.delete(g, p["vmid"], p["snapname"], task, force=bool(p.get("force")))

    return ctx.start_task("qmdelsnapshot", str(p["vmid"]), worker)


@route("GET", f"{ONE}/config")
async def read_config(ctx: Ctx) -> dict[str, Any]:
    """The configuration at the time of the snapshot."""
    conf = ctx.node.guests.load(ctx.params["vmid"])
    return pending.shown(snapshot.find(conf, ctx.params["snapname"]))


@route("PUT", f"{ONE}/config")
async def describe(ctx: Ctx) -> None:
    """Change the description."""
    p = ctx.params
    if "description" in p:
        await snapshot.describe(ctx.node.guests, p["vmid"], p["snapname"], p["description"])


@route("POST", f"{ONE}/rollback")
async def rollback(ctx: Ctx) -> str:
    """Put the guest back to the snapshot."""
    g, p = ctx.node.guests, ctx.params
    if p.get("start"):
        ctx.check(f"/vms/{p['vmid']}", ["VM.PowerMgmt"])

    async def worker(task: Task) -> None:
        await snapshot.rollback(g, p["vmid"], p["snapname"], task, start=bool(p.get("start")))

    return ctx.start_task("qmrollback", str(p["vmid"]), worker)
