# SPDX-License-Identifier: GPL-3.0-or-later
"""/storage and /nodes/{node}/storage: definitions and their state (pve-storage, Storage/Config.pm and Status.pm)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.node import Node
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.storage.definitions import LOCK, changed_definition, new_definition
from labnode.storage.kinds import KINDS
from labnode.storage.model import Definition, StorageStatus
from labnode.storage.service import contents

_SEE = ["Datastore.Audit", "Datastore.AllocateSpace"]
_CONTROL = {"storage", "type", "delete", "digest"}


@route("GET", "/storage")
async def definitions(ctx: Ctx) -> list[dict[str, Any]]:
    """Definitions the caller may see, of one type if asked."""
    service = ctx.node.storage
    kind = ctx.params.get("type")
    return [
        service.config.shown(item)
        for item in service.definitions().values()
        if kind in (None, item.type) and ctx.may(f"/storage/{item.storeid}", _SEE, any_of=True)
    ]


@route("GET", "/storage/{storage}")
async def definition(ctx: Ctx) -> dict[str, Any]:
    """One definition."""
    service = ctx.node.storage
    return service.config.shown(service.definition(ctx.params["storage"]))


@route("POST", "/storage")
async def create(ctx: Ctx) -> dict[str, Any]:
    """Define a storage; one that this node cannot use is refused, unless it is disabled or for other nodes."""
    storeid, kind = ctx.params["storage"], ctx.params["type"]
    try:
        async with ctx.node.store.lock(LOCK):
            service = ctx.node.storage
            known = service.definitions()
            if storeid in known:
                raise ApiError(f"storage ID '{storeid}' already defined")
            item = new_definition(storeid, kind, _settings(ctx.params))
            if item.enabled and service.here(item):
                await service.activate_definition(item)
            public = _keep_secrets(ctx.node, item)
            service.config.write({**known, storeid: public})
    except ParamError:
        raise
    except ApiError as error:
        raise ApiError(f"create storage failed: {error.message}") from error
    return {"storage": storeid, "type": kind}


@route("PUT", "/storage/{storage}")
async def update(ctx: Ctx) -> dict[str, Any]:
    """Change a definition; `delete` unsets, `digest` refuses a change made on an old reading."""
    storeid = ctx.params["storage"]
    async with ctx.node.store.lock(LOCK):
        config = ctx.node.storage.config
        old = config.one(storeid)
        given = ctx.params.get("digest")
        if given and given != ctx.node.store.digest(config.text()):
            raise ApiError("detected modified configuration - file changed by other user? Try again.")
        delete = split_list(ctx.params.get("delete", ""))
        item = changed_definition(old, _settings(ctx.params), delete)
        for key in set(delete) & set(KINDS[old.type].secret):
            ctx.node.store.remove(_secret_file(storeid, key))
        config.write({**config.all(), storeid: _keep_secrets(ctx.node, item)})
    return {"storage": storeid, "type": old.type}


@route("DELETE", "/storage/{storage}")
async def remove(ctx: Ctx) -> None:
    """Remove the definition; what is on the storage stays."""
    storeid = ctx.params["storage"]
    async with ctx.node.store.lock(LOCK):
        config = ctx.node.storage.config
        known = config.all()
        if storeid not in known:
            raise ApiError(f"delete storage failed: storage '{storeid}' does not exist")
        if any(i.options.get("base", "").startswith(f"{storeid}:") for i in known.values()):
            raise ApiError("delete storage failed: can't remove storage - storage is used as base of another storage")
        for key in KINDS[known.pop(storeid).type].secret:
            ctx.node.store.remove(_secret_file(storeid, key))
        config.write(known)


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in params.items() if k not in _CONTROL}


def _keep_secrets(node: Node, item: Definition) -> Definition:
    """Write secret options to files of their own and return the definition without them."""
    secret = KINDS[item.type].secret
    for key in secret:
        if key in item.options:
            node.store.write(_secret_file(item.storeid, key), item.options[key] + "\n", 0o600)
    return Definition(item.storeid, item.type, {k: v for k, v in item.options.items() if k not in secret})


def _secret_file(storeid: str, key: str) -> str:
    return f"etc/priv/storage/{storeid}.{key}"


@route("GET", "/nodes/{node}/storage")
async def on_node(ctx: Ctx) -> list[dict[str, Any]]:
    """Storages of this node with their usage in bytes; filtered by content, name and `enabled`."""
    wanted = split_list(ctx.params.get("content", ""))
    rows = []
    for item in ctx.node.storage.definitions().values():
        fits = ctx.params.get("storage") in (None, item.storeid) and ctx.node.storage.here(item)
        fits = fits and (not wanted or bool(set(wanted) & set(contents(item))))
        fits = fits and (item.enabled or not ctx.params.get("enabled"))
        if fits and ctx.may(f"/storage/{item.storeid}", _SEE, any_of=True):
            status = await ctx.node.storage.status(item.storeid)
            row = {"storage": item.storeid, **_shown(status)}
            if status.total:
                row["used_fraction"] = status.used / status.total
            rows.append({**row, **_formats(ctx, item)} if ctx.params.get("format") else row)
    return rows


def _formats(ctx: Ctx, item: Definition) -> dict[str, Any]:
    backend = ctx.node.storage.backend(item)
    return {"formats": {"default": backend.default_format(), "supported": backend.formats()}}


def _shown(status: StorageStatus) -> dict[str, Any]:
    return {
        "type": status.type,
        "content": status.content,
        "enabled": int(status.enabled),
        "active": int(status.active),
        "shared": int(status.shared),
        "total": status.total,
        "used": status.used,
        "avail": status.avail,
    }


def known_storage(ctx: Ctx) -> str:
    """The storage in the path; 400 where there is none of that name."""
    storeid: str = ctx.params["storage"]
    if storeid not in ctx.node.storage.definitions():
        raise ParamError({"storage": "No such storage."})
    return storeid


@route("GET", "/nodes/{node}/storage/{storage}")
async def index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    known_storage(ctx)
    return [{"subdir": n} for n in ("content", "download-url", "prunebackups", "status", "upload")]


@route("GET", "/nodes/{node}/storage/{storage}/status")
async def status(ctx: Ctx) -> dict[str, Any]:
    """Usage of one storage, in bytes; what cannot be used is not active."""
    return _shown(await ctx.node.storage.status(known_storage(ctx)))
