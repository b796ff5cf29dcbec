# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/qemu/{vmid}/status and its neighbours: power, monitor, keys, history, migration."""

from __future__ import annotations

from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.guests import access, clone, options, power, related, snapshot, status
from labnode.guests.drive import drives
from labnode.guests.monitor import run_command
from labnode.route import Ctx, route
from labnode.tasks import Task

GUEST = "/nodes/{node}/qemu/{vmid}"
STATUS = f"{GUEST}/status"
PAUSED = ("paused", "prelaunch", "suspended", "postmigrate")
VERBS = ("current", "start", "stop", "reset", "shutdown", "suspend", "reboot", "resume")


def _root_params(ctx: Ctx, *names: str) -> None:
    for name in names:
        access.root_only(ctx, name, ctx.params.get(name))


def _ha(ctx: Ctx, kind: str, wish: str, state: str) -> str | None:
    """Where the HA manager has the guest, ask it; None where it has not. On a node alone it acts at once."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    if not related.ha_managed(g, vmid):
        return None

    async def worker(task: Task) -> None:
        task.log(f"Requesting HA {wish} for VM {vmid}")
        related.set_ha(g, vmid, state)
        if state == "started":
            await power.start(g, vmid, task)
        else:
            timeout = ctx.params.get("timeout") if kind == "shutdown" else None
            await power.stop(g, vmid, task, shutdown=kind == "shutdown", force=True, timeout=timeout)

    return ctx.start_task("hastart" if state == "started" else "hastop", str(vmid), worker)


@route("GET", "/nodes/{node}/qemu")
async def list_guests(ctx: Ctx) -> list[dict[str, Any]]:
    """All guests the user may see."""
    g, full = ctx.node.guests, bool(ctx.params.get("full"))
    seen = [vmid for vmid in g.vmids() if ctx.may(f"/vms/{vmid}", ["VM.Audit"])]
    return [await g.status(vmid, full=full) for vmid in seen]


@route("GET", STATUS)
async def index(_ctx: Ctx) -> list[dict[str, str]]:
    """What there is below ``status``."""
    return [{"subdir": name} for name in VERBS]


@route("GET", f"{STATUS}/current")
async def current(ctx: Ctx) -> dict[str, Any]:
    """What the guest is doing."""
    return await status.current(ctx.node.guests, ctx.params["vmid"])


@route("POST", f"{STATUS}/start")
async def start(ctx: Ctx) -> str:
    """Start it."""
    g, p = ctx.node.guests, ctx.params
    _root_params(ctx, "stateuri", "skiplock", "migratedfrom", "migration_type", "migration_network", "targetstorage")
    _root_params(ctx, "force-cpu", "with-conntrack-state", "nets-host-mtu")
    if p.get("stateuri") or p.get("migratedfrom"):
        raise ApiError("incoming migration is not possible: this node is alone, it has no node to migrate from")

    async def worker(task: Task) -> None:
        skip, machine, timeout = bool(p.get("skiplock")), p.get("machine"), p.get("timeout")
        await power.start(g, p["vmid"], task, skiplock=skip, machine=machine, timeout=timeout)

    return _ha(ctx, "start", "start", "started") or ctx.start_task("qmstart", str(p["vmid"]), worker)


@route("POST", f"{STATUS}/stop")
async def stop(ctx: Ctx) -> str:
    """End it at once."""
    g, p = ctx.node.guests, ctx.params
    _root_params(ctx, "skiplock", "keepActive", "migratedfrom")
    if related.ha_managed(g, p["vmid"]) and p.get("overrule-shutdown"):
        raise ParamError({"overrule-shutdown": "Not applicable for HA resources."})

    async def worker(task: Task) -> None:
        if p.get("overrule-shutdown"):
            _overrule(ctx, task)
        await power.stop(g, p["vmid"], task, timeout=p.get("timeout"), skiplock=bool(p.get("skiplock")))

    return _ha(ctx, "stop", "stop", "stopped") or ctx.start_task("qmstop", str(p["vmid"]), worker)


def _overrule(ctx: Ctx, task: Task) -> None:
    """Break off shutdowns of this guest that are waiting."""
    waiting = [e for e in ctx.node.tasks.active() if (e.upid.type, e.upid.id) == ("qmshutdown", task.upid.id)]
    for entry in waiting:
        ctx.node.tasks.cancel(str(entry.upid))
    if waiting:
        task.log("overruled qmshutdown tasks: " + ", ".join(str(entry.upid) for entry in waiting))


@route("POST", f"{STATUS}/shutdown")
async def shutdown(ctx: Ctx) -> str:
    """Ask the guest to power down."""
    g, p = ctx.node.guests, ctx.params
    vmid, force = p["vmid"], bool(p.get("forceStop"))
    _root_params(ctx, "skiplock", "keepActive")
    asks = True
    if g.running(vmid) and await g.machines.status(vmid) in PAUSED:
        if not force:
            raise ApiError("VM is paused - cannot shutdown")
        asks = False

    async def worker(task: Task) -> None:
        if not asks:
            task.log("VM is paused - stop instead of shutdown")
        skip = bool(p.get("skiplock"))
        await power.stop(g, vmid, task, shutdown=asks, force=force, timeout=p.get("timeout"), skiplock=skip)

    return _ha(ctx, "shutdown", "stop", "stopped") or ctx.start_task("qmshutdown", str(vmid), worker)


@route("POST", f"{STATUS}/reboot")
async def reboot(ctx: Ctx) -> str:
    """Shut down and start again with pending changes applied."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    _must_run(ctx)
    if await g.machines.status(vmid) in PAUSED:
        raise ApiError("VM is paused - cannot shutdown")

    async def worker(task: Task) -> None:
        await power.reboot(g, vmid, task, timeout=ctx.params.get("timeout"))

    return ctx.start_task("qmreboot", str(vmid), worker)


def _must_run(ctx: Ctx) -> None:
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    g.load(vmid)
    if not g.running(vmid):
        raise ApiError(f"VM {vmid} not running")


@route("POST", f"{STATUS}/reset")
async def reset(ctx: Ctx) -> str:
    """Press the reset button."""
    _root_params(ctx, "skiplock")
    _must_run(ctx)
    g, vmid = ctx.node.guests, ctx.params["vmid"]

    async def worker(_task: Task) -> None:
        await power.reset(g, vmid, skiplock=bool(ctx.params.get("skiplock")))

    return ctx.start_task("qmreset", str(vmid), worker)


@route("POST", f"{STATUS}/suspend")
async def suspend(ctx: Ctx) -> str:
    """Stop the CPUs, or with ``todisk`` save memory to a volume and end QEMU."""
    g, p = ctx.node.guests, ctx.params
    vmid, todisk, skip = p["vmid"], bool(p.get("todisk")), bool(p.get("skiplock"))
    _root_params(ctx, "skiplock")
    _must_run(ctx)
    storage = p.get("statestorage", "")
    if todisk:
        storage = _check_todisk(ctx, storage)

    async def worker(task: Task) -> None:
        if todisk:
            await power.suspend_to_disk(g, vmid, task, storage, skiplock=skip)
        else:
            await power.pause(g, vmid, skiplock=skip)

    return ctx.start_task("qmsuspend" if todisk else "qmpause", str(vmid), worker)


def _check_todisk(ctx: Ctx, storage: str) -> str:
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    if related.ha_managed(g, vmid):
        raise ApiError("Cannot suspend HA managed VM to disk")
    access.vm_check(ctx, vmid, ["VM.Config.Disk"])
    main = g.load(vmid).main
    if any(options.kind(key) == "hostpci" for key in main):
        raise ApiError(f"cannot suspend VM {vmid} to disk: the state of its passed-through PCI devices cannot be saved")
    storage = storage or power.state_storage(g, main)
    ctx.check(f"/storage/{storage}", ["Datastore.AllocateSpace"])
    g.storage.check(storage)
    return storage


@route("POST", f"{STATUS}/resume")
async def resume(ctx: Ctx) -> str:
    """Let a paused guest run on, or start one suspended to disk."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    _root_params(ctx, "skiplock", "nocheck")
    if not g.running(vmid) and g.load(vmid).lock != "suspended":
        raise ApiError(f"VM {vmid} not running")

    async def worker(task: Task) -> None:
        await power.resume(g, vmid, task, skiplock=bool(ctx.params.get("skiplock")))

    return ctx.start_task("qmresume", str(vmid), worker)


@route("PUT", f"{GUEST}/sendkey")
async def sendkey(ctx: Ctx) -> None:
    """Press keys, in QEMU's names (``ctrl-alt-delete``)."""
    _root_params(ctx, "skiplock")
    _must_run(ctx)
    await ctx.node.machines.sendkey(ctx.params["vmid"], ctx.params["key"])


@route("POST", f"{GUEST}/monitor")
async def monitor(ctx: Ctx) -> str:
    """A line for QEMU's human monitor."""
    return await run_command(ctx.node.guests, ctx, ctx.params["vmid"], ctx.params["command"])


@route("GET", f"{GUEST}/feature")
async def feature(ctx: Ctx) -> dict[str, Any]:
    """Whether the guest's disks can be snapshotted, cloned or copied."""
    g, p = ctx.node.guests, ctx.params
    conf = g.load(p["vmid"])
    snap = p.get("snapname")
    section = snapshot.find(conf, snap) if snap else conf.main
    able = clone.has_feature(g, section, p["feature"], snap=snap, running=g.running(p["vmid"]))
    return {"hasFeature": int(able), "nodes": [ctx.node.name]}


@route("GET", f"{GUEST}/migrate")
async def migrate_precondition(ctx: Ctx) -> dict[str, Any]:
    """What stands in the way of a migration: here, that there is no other node."""
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    main = g.load(vmid).main
    return {
        "running": int(g.running(vmid)),
        "allowed_nodes": [],
        "not_allowed_nodes": {},
        "local_disks": [
            {"volid": d.file, "cdrom": int(d.is_cdrom), "drivename": d.key, "size": d.size or 0, "replicate": 1}
            for d in drives(main)
            if d.storeid and not g.storage.definition(d.storeid).shared
        ],
        "local_resources": [k for k in main if options.kind(k) in ("hostpci", "usb", "serial", "parallel")],
        "mapped-resources": [],
        "mapped-resource-info": {},
        "has-dbus-vmstate": 0,
    }


@route("POST", f"{GUEST}/migrate")
async def migrate(ctx: Ctx) -> str:
    """Always refused, with the reason: this node is alone."""
    target = ctx.params["target"]
    ctx.node.guests.load(ctx.params["vmid"])
    if target in (ctx.node.name, "localhost"):
        raise ParamError({"target": "target is local node."})
    raise ApiError(f"no such cluster node '{target}'")
