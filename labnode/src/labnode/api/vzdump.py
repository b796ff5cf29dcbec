# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/vzdump and prunebackups: make backups, and thin them out (pve-manager, API2/VZDump.pm)."""

from __future__ import annotations

from typing import Any

from labnode.api.backup_jobs import included
from labnode.api.storage import known_storage
from labnode.backup import restore
from labnode.backup.dump import Job, dump
from labnode.backup.prune import marks
from labnode.errors import ApiError, ParamError
from labnode.node import Node
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.tasks import Task

_ROOT_ONLY = ("tmpdir", "dumpdir", "script", "job-id")


@route("POST", "/nodes/{node}/vzdump")
async def vzdump(ctx: Ctx) -> str:
    """Back guests up, as one task; it fails when one of them failed, after trying them all."""
    params = ctx.params
    given = [key for key in ("vmid", "all", "pool") if params.get(key)]
    if len(given) != 1:
        raise ApiError("No guests selected" if not given else f"option conflict: {' and '.join(given)}")
    for key in _ROOT_ONLY:
        if key in params and not ctx.is_root:
            raise ParamError({key: "Only root may set this option."})
    if params.get("dumpdir") or params.get("script"):
        raise ApiError("labnode writes backups to storages only and runs no hook scripts; name a storage instead")
    storeid = params.get("storage", "local")
    ctx.check(f"/storage/{storeid}", ["Datastore.AllocateSpace"])
    ctx.node.storage.check(storeid, "backup")
    vmids = _chosen(ctx)
    job = Job(
        storeid,
        params.get("mode", "snapshot"),
        params.get("compress", "0"),
        params.get("notes-template", ""),
        bool(params.get("protected")),
        params.get("stopwait", 10) * 60,
    )
    keep = _rules(params.get("prune-backups", ""))
    words = " ".join(f"--{k} {v}" for k, v in params.items() if k not in ("vmid",))

    async def worker(task: Task) -> None:
        task.log(f"INFO: starting new backup job: vzdump {' '.join(map(str, vmids))} {words}".rstrip())
        await _run(ctx.node, vmids, job, keep, task)

    return ctx.start_task("vzdump", str(vmids[0]) if len(vmids) == 1 else "", worker)


def _chosen(ctx: Ctx) -> list[int]:
    """The guests of the request; one that does not exist or may not be backed up is an error only when it is named."""
    named = [int(v) for v in split_list(ctx.params.get("vmid", ""))]
    for vmid in named:
        ctx.check(f"/vms/{vmid}", ["VM.Backup"])
        if not ctx.node.guests.exists(vmid):
            raise ApiError(f"unable to find VM '{vmid}'")
    found = named or included(ctx, ctx.params)
    left_out = {int(v) for v in split_list(ctx.params.get("exclude", ""))}
    chosen = [v for v in found if v not in left_out and ctx.may(f"/vms/{v}", ["VM.Backup"])]
    if not chosen:
        raise ApiError("No guests selected")
    return chosen


async def _run(node: Node, vmids: list[int], job: Job, keep: dict[str, int], task: Task) -> None:
    failed = False
    for vmid in vmids:
        try:
            await dump(node.guests, vmid, job, task)
            if keep:
                await _prune(node, job.storeid, keep, vmid, task)
        except ApiError as error:
            failed = True
            task.log(f"ERROR: Backup of VM {vmid} failed - {error.message}")
    task.log(f"INFO: Backup {'job finished with errors' if failed else 'job finished successfully'}")
    if failed:
        raise ApiError("job errors")


@route("GET", "/nodes/{node}/vzdump/defaults")
async def defaults(ctx: Ctx) -> dict[str, Any]:
    """What a backup does when nothing is said."""
    storeid = ctx.params.get("storage", "local")
    definition = ctx.node.storage.definition(storeid)
    shown: dict[str, Any] = {"storage": storeid, "mode": "snapshot", "compress": "0", "stopwait": 10, "remove": 1}
    keep = _rules(definition.options.get("prune-backups", ""))
    return {**shown, "prune-backups": keep} if keep else shown


@route("GET", "/nodes/{node}/vzdump/extractconfig")
async def extract_config(ctx: Ctx) -> str:
    """The configuration in a backup, as text."""
    service, volid = ctx.node.storage, ctx.params["volume"]
    volume = service.parse(volid)
    if volume.kind != "backup":
        raise ApiError(f"'{volid}' is no backup")
    ctx.check(f"/storage/{volume.storeid}", ["Datastore.AllocateSpace"])
    if volume.vmid is not None:
        ctx.check(f"/vms/{volume.vmid}", ["VM.Backup"])
    await service.info(volid)
    return restore.config_of(restore.read_config(service.path(volid)))


def _rules(text: str) -> dict[str, int]:
    return {k: int(v) for k, _, v in (part.partition("=") for part in split_list(text)) if v.isdecimal()}


@route("GET", "/nodes/{node}/storage/{storage}/prunebackups")
async def prune_plan(ctx: Ctx) -> list[dict[str, Any]]:
    """What a retention would keep and remove, without doing it."""
    rules = _rules_for(ctx)
    return await _marked(ctx.node, known_storage(ctx), rules, ctx.params.get("vmid"), ctx.params.get("type"))


@route("DELETE", "/nodes/{node}/storage/{storage}/prunebackups")
async def prune(ctx: Ctx) -> str:
    """Remove backups that a retention does not keep."""
    storeid, rules, vmid = known_storage(ctx), _rules_for(ctx), ctx.params.get("vmid")
    if not ctx.may(f"/storage/{storeid}", ["Datastore.Allocate"]):
        ctx.check(f"/storage/{storeid}", ["Datastore.AllocateSpace"])
        ctx.check(f"/vms/{vmid or 0}", ["VM.Backup"])

    async def worker(task: Task) -> None:
        await _prune(ctx.node, storeid, rules, vmid, task)

    return ctx.start_task("prunebackups", f"{vmid}@{storeid}" if vmid else f"@{storeid}", worker)


def _rules_for(ctx: Ctx) -> dict[str, int]:
    given = ctx.params.get("prune-backups")
    text = given or ctx.node.storage.definition(known_storage(ctx)).options.get("prune-backups", "")
    return _rules(text)


async def _marked(
    node: Node, storeid: str, rules: dict[str, int], vmid: int | None, kind: str | None = None
) -> list[dict[str, Any]]:
    rows = await node.storage.list(storeid, "backup", vmid)
    by_guest: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        if kind in (None, row.get("subtype")):
            by_guest.setdefault((row.get("subtype"), row.get("vmid")), []).append(row)
    marked = []
    for (subtype, owner), own in by_guest.items():
        times, safe = [int(r["ctime"]) for r in own], [bool(r.get("protected")) for r in own]
        for row, mark in zip(own, marks(times, safe, rules) if owner else ["renamed"] * len(own), strict=True):
            whose = {"vmid": owner} if owner else {}
            marked.append(
                {"volid": row["volid"], "ctime": row["ctime"], "mark": mark, "type": subtype or "qemu", **whose}
            )
    return marked


async def _prune(node: Node, storeid: str, rules: dict[str, int], vmid: int | None, task: Task) -> None:
    for row in await _marked(node, storeid, rules, vmid):
        if row["mark"] == "remove":
            task.log(f"INFO: removing backup '{row['volid']}'")
            await node.storage.free(row["volid"], log=task.log)
