# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/qemu: create, configure and destroy guests, and what is done with their disks."""

from __future__ import annotations

from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.guests import access, cloudinit, create, destroy, move, pending, restore, snapshot, update
from labnode.guests.out import QUIET
from labnode.route import Ctx, route
from labnode.tasks import Task

GUEST = "/nodes/{node}/qemu/{vmid}"
SUBDIRS = (
    "config cloudinit pending status unlink vncproxy termproxy migrate resize move rrd rrddata monitor agent snapshot "
    "spiceproxy sendkey firewall mtunnel remote_migrate"
)


@route("POST", "/nodes/{node}/qemu")
async def create_guest(ctx: Ctx) -> str:
    """Create a guest, or restore one from a backup."""
    g = ctx.node.guests
    req = create.plan(g, ctx, ctx.params)
    work = restore.work if req.archive else create.work
    await create.reserve(g, req)

    async def worker(task: Task) -> None:
        await work(g, req, task)

    return ctx.start_task("qmrestore" if req.archive else "qmcreate", str(req.vmid), worker)


@route("GET", GUEST)
async def index(_ctx: Ctx) -> list[dict[str, str]]:
    """What there is below a guest."""
    return [{"subdir": name} for name in SUBDIRS.split()]


@route("DELETE", GUEST)
async def destroy_guest(ctx: Ctx) -> str:
    """Destroy a guest with its volumes."""
    g, p = ctx.node.guests, ctx.params
    vmid, purge = p["vmid"], bool(p.get("purge"))
    access.root_only(ctx, "skiplock", p.get("skiplock"))
    destroy.check(g, vmid, purge=purge)

    async def worker(task: Task) -> None:
        unreferenced = bool(p.get("destroy-unreferenced-disks"))
        await destroy.work(g, vmid, task, purge=purge, unreferenced=unreferenced, skiplock=bool(p.get("skiplock")))

    return ctx.start_task("qmdestroy", str(vmid), worker)


@route("GET", f"{GUEST}/config")
async def read_config(ctx: Ctx) -> dict[str, Any]:
    """The configuration with pending changes applied, as it is now (``current``), or of a snapshot."""
    p = ctx.params
    if p.get("snapshot") and p.get("current"):
        text = "cannot use 'snapshot' parameter with 'current'"
        raise ParamError({"snapshot": text, "current": text})
    conf = ctx.node.guests.load(p["vmid"])
    if p.get("snapshot"):
        return pending.shown(snapshot.find(conf, p["snapshot"]), conf.digest)
    return pending.shown(dict(conf.main) if p.get("current") else pending.merged(conf), conf.digest)


@route("GET", f"{GUEST}/pending")
async def read_pending(ctx: Ctx) -> list[dict[str, Any]]:
    """Present and pending values side by side."""
    return pending.listing(ctx.node.guests.load(ctx.params["vmid"]))


@route("PUT", f"{GUEST}/config")
async def update_sync(ctx: Ctx) -> None:
    """Change options and wait for it."""
    g = ctx.node.guests
    await update.work(g, update.plan(g, ctx, ctx.params), QUIET)


@route("POST", f"{GUEST}/config")
async def update_async(ctx: Ctx) -> str | None:
    """Change options in a task; null when it ends well within ``background_delay`` seconds."""
    g, delay = ctx.node.guests, ctx.params.get("background_delay")
    req = update.plan(g, ctx, ctx.params)

    async def worker(task: Task) -> None:
        await update.work(g, req, task)

    upid = ctx.start_task("qmconfig", str(req.vmid), worker)
    status = await ctx.node.tasks.wait(upid, float(delay)) if delay else None
    if status is None:
        return upid
    if status == "OK" or status.startswith("WARNINGS"):
        return None
    raise ApiError(f"failed to update VM {req.vmid}: {status}")


@route("PUT", f"{GUEST}/unlink")
async def unlink(ctx: Ctx) -> None:
    """Detach disks, or with ``force`` destroy them."""
    p = dict(ctx.params)
    p["delete"] = p.pop("idlist")
    g = ctx.node.guests
    await update.work(g, update.plan(g, ctx, p), QUIET)


@route("PUT", f"{GUEST}/resize")
async def resize(ctx: Ctx) -> str:
    """Grow a disk."""
    access.root_only(ctx, "skiplock", ctx.params.get("skiplock"))
    g, p = ctx.node.guests, dict(ctx.params)

    async def worker(task: Task) -> None:
        await move.resize(g, ctx, p, task)

    return ctx.start_task("resize", str(p["vmid"]), worker)


@route("POST", f"{GUEST}/move_disk")
async def move_disk(ctx: Ctx) -> str:
    """Move a disk to another storage, or give it to another guest."""
    storage, target = ctx.params.get("storage"), ctx.params.get("target-vmid")
    if storage and target:
        text = "either set 'storage' or 'target-vmid', but not both"
        raise ParamError({"target-vmid": text, "storage": text})
    if target:
        return _reassign(ctx)
    if not storage:
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        raise ParamError({"target-vmid": text, "storage": text})
    return _move(ctx)


def _move(ctx: Ctx) -> str:
    g, p = ctx.node.guests, ctx.params
    ctx.check(f"/storage/{p['storage']}", ["Datastore.AllocateSpace"])
    req = move.Move(
        vmid=p["vmid"],
        key=p["disk"],
        who=ctx,
        storage=p["storage"],
        fmt=p.get("format"),
        delete=bool(p.get("delete")),
        digest=p.get("digest", ""),
    )
    move.check_move(g, req)

    async def worker(task: Task) -> None:
        await move.move(g, req, task)

    return ctx.start_task("qmmove", str(req.vmid), worker)


def _reassign(ctx: Ctx) -> str:
    g, p = ctx.node.guests, ctx.params
    req = move.Reassign(
        vmid=p["vmid"],
        key=p["disk"],
        who=ctx,
        target=p["target-vmid"],
        target_key=p.get("target-disk", p["disk"]),
        digest=p.get("digest", ""),
        target_digest=p.get("target-digest", ""),
    )
    access.vm_check(ctx, req.target, ["VM.Config.Disk"])
    if req.vmid == req.target:
        raise ParamError({"target-vmid": "must be different than source VMID to reassign disk"})
    drive = move.check_reassign(g, req)[2]
    ctx.check(f"/storage/{drive.storeid}", ["Datastore.AllocateSpace"])

    async def worker(task: Task) -> None:
        await move.reassign(g, req, task)

    return ctx.start_task("qmmove", f"{req.vmid}-{req.key}>{req.target}-{req.target_key}", worker)


@route("GET", f"{GUEST}/cloudinit")
async def read_cloudinit(ctx: Ctx) -> list[dict[str, Any]]:
    """Cloud-init options as on the drive and as they would be."""
    return cloudinit.listing(ctx.node.guests.load(ctx.params["vmid"]))


@route("PUT", f"{GUEST}/cloudinit")
async def write_cloudinit(ctx: Ctx) -> None:
    """Make the cloud-init drive anew."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    async with g.locked(vmid):
        conf = g.load(vmid)
        g.check_lock(conf)
        await cloudinit.regenerate(g, vmid, conf)


@route("GET", f"{GUEST}/cloudinit/dump")
async def dump_cloudinit(ctx: Ctx) -> str:
    """The generated user, network or meta data."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    main = dict(pending.merged(g.load(vmid)))
    if "cipassword" in main and not ctx.may(f"/vms/{vmid}", ["VM.Config.Cloudinit"]):
        main["cipassword"] = pending.MASK
    return g.machines.cloudinit_files(vmid, main)[ctx.params["type"]]
