# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/qemu/{vmid}/clone and /template."""

from __future__ import annotations

from labnode.guests import clone
from labnode.route import Ctx, route
from labnode.tasks import Task


@route("POST", "/nodes/{node}/qemu/{vmid}/clone")
async def clone_guest(ctx: Ctx) -> str:
    """Copy a guest, in full or linked to a template's disks."""
    g = ctx.node.guests
    req = clone.plan(g, ctx, ctx.params)

    async def worker(task: Task) -> None:
        await clone.work(g, req, task)

    return ctx.start_task("qmclone", str(req.vmid), worker)


@route("POST", "/nodes/{node}/qemu/{vmid}/template")
async def make_template(ctx: Ctx) -> str:
    """Turn a guest into a template."""
    g, vmid, disk = ctx.node.guests, ctx.params["vmid"], ctx.params.get("disk")
    clone.check_template(g, vmid, disk)

    async def worker(_task: Task) -> None:
        await clone.template(g, vmid, disk)

    return ctx.start_task("qmtemplate", str(vmid), worker)
