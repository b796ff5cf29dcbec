# SPDX-License-Identifier: GPL-3.0-or-later
"""/pools, in the new form (poolid as a parameter) and the old one (in the path) (pve-manager, API2/Pool.pm)."""

from __future__ import annotations

import re
from typing import Any

from labnode.access.usercfg import Pool, UserCfg
from labnode.dispatch import check_perm_modify
from labnode.errors import ApiError
from labnode.resources import guest_rows, storage_rows
from labnode.route import Ctx, route
from labnode.schema.formats import split_list


async def _details(ctx: Ctx) -> dict[str, Any]:
    poolid = ctx.params["poolid"]
    pool = ctx.node.auth.cfg.pools.get(poolid)
    if pool is None:
        raise ApiError(f"pool '{poolid}' does not exist")
    kind = ctx.params.get("type")
    members: list[dict[str, Any]] = []
    if kind in (None, "qemu"):
        members += [row for row in await guest_rows(ctx.node) if row["vmid"] in pool.vms]
    if kind in (None, "storage"):
        members += [row for row in await storage_rows(ctx.node) if row["storage"] in pool.storages]
    for row in members:
        row.pop("pool", None)
    shown: dict[str, Any] = {"poolid": poolid, "members": members}
    return {**shown, "comment": pool.comment} if pool.comment else shown


@route("GET", "/pools")
async def pools(ctx: Ctx) -> list[dict[str, Any]]:
    """Pools the caller may audit, or one pool with its members."""
    if "poolid" in ctx.params:
        ctx.check(f"/pool/{ctx.params['poolid']}", ["Pool.Audit"])
        return [await _details(ctx)]
    rows = []
    for name, pool in sorted(ctx.node.auth.cfg.pools.items()):
        if ctx.may(f"/pool/{name}", ["Pool.Audit"]):
            rows.append({"poolid": name, "comment": pool.comment} if pool.comment else {"poolid": name})
    return rows


@route("GET", "/pools/{poolid}")
async def read_pool(ctx: Ctx) -> dict[str, Any]:
    """One pool with its members."""
    return await _details(ctx)


@route("POST", "/pools")
async def create_pool(ctx: Ctx) -> None:
    """An empty pool; ``parent/child`` nests up to three levels."""
    name = ctx.params["poolid"]
    with ctx.node.auth.editing() as cfg:
        if name in cfg.pools:
            raise ApiError(f"create pool failed: pool '{name}' already exists")
        parent, _, leaf = name.rpartition("/")
        if parent and parent not in cfg.pools:
            raise ApiError(f"create pool failed: parent '{parent}' of pool '{name}' does not exist")
        if not re.match(r"[A-Za-z]", leaf):
            raise ApiError("create pool failed: pool name must start with a letter")
        cfg.pools[name] = Pool(ctx.params.get("comment", ""))


@route("PUT", "/pools")
async def update_pool(ctx: Ctx) -> None:
    """Change the comment; add guests and storages, or take them out with ``delete``."""
    _update(ctx)


@route("PUT", "/pools/{poolid}")
async def update_pool_by_path(ctx: Ctx) -> None:
    """The old form of the same."""
    _update(ctx)


def _update(ctx: Ctx) -> None:
    params = ctx.params
    with ctx.node.auth.editing() as cfg:
        pool = cfg.pools.get(params["poolid"])
        if pool is None:
            raise ApiError(f"update pools failed: pool '{params['poolid']}' does not exist")
        pool.comment = params.get("comment", pool.comment)
        for text in split_list(params.get("vms", "")):
            check_perm_modify(ctx, f"/vms/{text}")
            (_take_guest if params.get("delete") else _add_guest)(ctx, cfg, pool, int(text))
        for storeid in split_list(params.get("storage", "")):
            check_perm_modify(ctx, f"/storage/{storeid}")
            _change_storage(pool, storeid, bool(params.get("delete")))


def _take_guest(_ctx: Ctx, _cfg: UserCfg, pool: Pool, vmid: int) -> None:
    if vmid not in pool.vms:
        raise ApiError(f"update pools failed: VM {vmid} is not a pool member")
    pool.vms.discard(vmid)


def _add_guest(ctx: Ctx, cfg: UserCfg, pool: Pool, vmid: int) -> None:
    if vmid in pool.vms:
        raise ApiError(f"update pools failed: VM {vmid} is already a pool member")
    other = cfg.pool_of(vmid)
    if other:
        if not ctx.params.get("allow-move"):
            text = f"VM {vmid} belongs already to pool '{other}' and 'allow-move' is not set"
            raise ApiError(f"update pools failed: {text}")
        ctx.check(f"/pool/{other}", ["Pool.Allocate"])
        cfg.pools[other].vms.discard(vmid)
    pool.vms.add(vmid)


def _change_storage(pool: Pool, storeid: str, remove: bool) -> None:
    if remove and storeid not in pool.storages:
        raise ApiError(f"update pools failed: Storage '{storeid}' is not a pool member")
    if not remove and storeid in pool.storages:
        raise ApiError(f"update pools failed: Storage '{storeid}' is already a pool member")
    (pool.storages.discard if remove else pool.storages.add)(storeid)


@route("DELETE", "/pools")
async def delete_pool(ctx: Ctx) -> None:
    """Remove an empty pool."""
    _delete(ctx)


@route("DELETE", "/pools/{poolid}")
async def delete_pool_by_path(ctx: Ctx) -> None:
    """The old form of the same."""
    _delete(ctx)


def _delete(ctx: Ctx) -> None:
    name = ctx.params["poolid"]
    with ctx.node.auth.editing() as cfg:
        pool = cfg.pools.get(name)
        if pool is None:
            raise ApiError(f"delete pool failed: pool '{name}' does not exist")
        inside = next((f"pool {child}" for child in sorted(cfg.pools) if child.startswith(f"{name}/")), None)
        inside = inside or next((f"VM {vmid}" for vmid in sorted(pool.vms)), None)
        inside = inside or next((f"storage '{storeid}'" for storeid in sorted(pool.storages)), None)
        if inside:
            raise ApiError(f"delete pool failed: pool '{name}' is not empty (contains {inside})")
        del cfg.pools[name]
        cfg.acl = {key: flag for key, flag in cfg.acl.items() if key.path != f"/pool/{name}"}
