# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/storage/{storage}/content: the volumes on a storage (pve-storage, API2/Storage/Content.pm)."""

from __future__ import annotations

from typing import Any

from labnode.access.volumes import check_removal, check_volume, may_see
from labnode.api.storage import known_storage
from labnode.errors import ApiError, ParamError
from labnode.route import Ctx, route
from labnode.tasks import Task

_UNITS = {"": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@route("GET", "/nodes/{node}/storage/{storage}/content")
async def volumes(ctx: Ctx) -> list[dict[str, Any]]:
    """Volumes of one kind of content, or of one guest, or all the caller may see."""
    storeid = known_storage(ctx)
    rows = await ctx.node.storage.list(storeid, ctx.params.get("content"), ctx.params.get("vmid"))
    return [row for row in rows if may_see(ctx, ctx.node.storage.parse(row["volid"]))]


@route("POST", "/nodes/{node}/storage/{storage}/content")
async def allocate(ctx: Ctx) -> str:
    """Make an empty disk image for a guest; the volume id. ``size`` is KiB, or a number with M or G."""
    storeid, name = known_storage(ctx), ctx.params["filename"]
    fmt = ctx.params.get("format")
    suffix = next((f for f in ("raw", "qcow2", "vmdk") if name.endswith(f".{f}")), None)
    if fmt and suffix and fmt != suffix:
        raise ParamError({"format": f"different storage formats ({fmt} != {suffix})"})
    volid = await ctx.node.storage.alloc(
        storeid, ctx.params["vmid"], fmt or suffix, _size(ctx.params["size"]), name=name
    )
    ctx.node.storage.keep(volid)
    return volid


def _size(text: Any) -> int:
    digits = str(text).rstrip("MG")
    return int(digits) * _UNITS[str(text)[len(digits) :]]


def _volid(ctx: Ctx) -> str:
    volume: str = ctx.params["volume"]
    storeid = known_storage(ctx)
    if ":" not in volume:
        return f"{storeid}:{volume}"
    if not volume.startswith(f"{storeid}:"):
        other = volume.partition(":")[0]
        raise ParamError({"storage": f"storage ID missmatch ({other} != {storeid})"})
    return volume


@route("GET", "/nodes/{node}/storage/{storage}/content/{volume}")
async def attributes(ctx: Ctx) -> dict[str, Any]:
    """Path, format, virtual size and bytes used of one volume; notes and protection of a backup."""
    volid = _volid(ctx)
    service = ctx.node.storage
    volume = service.parse(volid)
    check_volume(ctx, volume)
    await service.activate(volume.storeid)
    info = await service.info(volid)
    shown = {"path": str(service.path(volid)), "size": info.size, "used": info.used, "format": info.format}
    if volume.kind == "backup":
        rows = await service.list(volume.storeid, "backup")
        entry = next((row for row in rows if row["volid"] == volid), {})
        shown |= {key: entry[key] for key in ("notes", "protected") if key in entry}
    return shown


@route("PUT", "/nodes/{node}/storage/{storage}/content/{volume}")
async def annotate(ctx: Ctx) -> None:
    """Notes and protection of a backup."""
    volid = _volid(ctx)
    service = ctx.node.storage
    volume = service.parse(volid)
    if volume.kind != "backup":
        raise ApiError(f"volume '{volid}' is no backup; only backups have notes and protection")
    check_volume(ctx, volume)
    await service.info(volid)
    path = service.path(volid)
    if "notes" in ctx.params:
        notes = path.with_name(path.name + ".notes")
        if ctx.params["notes"]:
            notes.write_text(ctx.params["notes"], encoding="utf-8")
        else:
            notes.unlink(missing_ok=True)
    if "protected" in ctx.params:
        mark = path.with_name(path.name + ".protected")
        if ctx.params["protected"]:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)


@route("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}")
async def remove(ctx: Ctx) -> str:
    """Remove a volume, as a task. Nothing checks whether a guest still uses it (neither does Proxmox VE for root)."""
    volid = _volid(ctx)
    service = ctx.node.storage
    volume = service.parse(volid)
    check_removal(ctx, volume)
    path = service.path(volid)
    if volume.kind == "backup" and path.with_name(path.name + ".protected").exists():
        raise ApiError(f"cannot remove protected archive '{volid}'")
    owner = f"{volume.vmid}@{volume.storeid}" if volume.vmid is not None else f"@{volume.storeid}"

    async def worker(task: Task) -> None:
        await service.activate(volume.storeid)
        if not await service.exists(volid):
            raise ApiError(f"unable to remove '{volid}' - volume does not exist")
        await service.free(volid, log=task.log)
        task.log(f"Removed volume '{volid}'")

    return ctx.start_task("imgdel", owner, worker)
