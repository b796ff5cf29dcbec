# SPDX-License-Identifier: GPL-3.0-or-later
"""/access/groups and /access/acl (pve-access-control, API2/Group.pm and ACL.pm)."""

from __future__ import annotations

from typing import Any

from labnode.access.permissions import is_acl_path, normalize_path, split_token
from labnode.access.usercfg import AclKey, Group
from labnode.dispatch import check_perm_modify
from labnode.errors import ApiError, Forbidden, ParamError
from labnode.route import Ctx, route
from labnode.schema.formats import split_list


def _group(ctx: Ctx, prefix: str = "") -> Group:
    name = ctx.params["groupid"]
    if name not in ctx.node.auth.cfg.groups:
        raise ApiError(f"{prefix}group '{name}' does not exist")
    return ctx.node.auth.cfg.groups[name]


@route("GET", "/access/groups")
async def groups(ctx: Ctx) -> list[dict[str, Any]]:
    """Groups the caller may see."""
    privs = ("User.Modify", "Sys.Audit", "Group.Allocate")
    rows = []
    for name, group in sorted(ctx.node.auth.cfg.groups.items()):
        if ctx.may(f"/access/groups/{name}", privs, any_of=True):
            row = {"groupid": name, "users": ",".join(sorted(group.users))}
            rows.append({**row, "comment": group.comment} if group.comment else row)
    return rows


@route("POST", "/access/groups")
async def create_group(ctx: Ctx) -> None:
    """A group without members."""
    auth, name = ctx.node.auth, ctx.params["groupid"]
    if name in auth.cfg.groups:
        raise ApiError(f"create group failed: group '{name}' already exists")
    auth.cfg.groups[name] = Group(comment=ctx.params.get("comment", ""))
    auth.save()


@route("GET", "/access/groups/{groupid}")
async def read_group(ctx: Ctx) -> dict[str, Any]:
    """Members and comment of a group."""
    group = _group(ctx)
    members: dict[str, Any] = {"members": sorted(group.users)}
    return {**members, "comment": group.comment} if group.comment else members


@route("PUT", "/access/groups/{groupid}")
async def update_group(ctx: Ctx) -> None:
    """Change the comment."""
    group = _group(ctx, "update group failed: ")
    group.comment = ctx.params.get("comment", group.comment)
    ctx.node.auth.save()


@route("DELETE", "/access/groups/{groupid}")
async def delete_group(ctx: Ctx) -> None:
    """Remove a group and what was granted to it."""
    _group(ctx, "delete group failed: ")
    cfg = ctx.node.auth.cfg
    del cfg.groups[ctx.params["groupid"]]
    cfg.drop_acl("group", ctx.params["groupid"])
    ctx.node.auth.save()


@route("GET", "/access/acl")
async def read_acl(ctx: Ctx) -> list[dict[str, Any]]:
    """Grants on paths the caller may audit or change."""
    audit = ctx.may("/access", ["Sys.Audit"])
    kinds = ("user", "group", "token")
    acl = sorted(
        ctx.node.auth.cfg.acl.items(), key=lambda item: (item[0].path, kinds.index(item[0].kind), item[0].ugid)
    )
    return [
        {"path": key.path, "type": key.kind, "ugid": key.ugid, "roleid": key.role, "propagate": int(flag)}
        for key, flag in acl
        if audit or _may_modify(ctx, key.path)
    ]


def _may_modify(ctx: Ctx, path: str) -> bool:
    try:
        check_perm_modify(ctx, path)
    except Forbidden:
        return False
    return True


@route("PUT", "/access/acl")
async def update_acl(ctx: Ctx) -> None:
    """Grant roles on a path to users, groups and tokens, or take them away with ``delete``."""
    params = ctx.params
    who = {kind: split_list(params.get(f"{kind}s", "")) for kind in ("user", "group", "token")}
    if not any(who.values()):
        raise ParamError(
            dict.fromkeys(("users", "groups", "tokens"), "either 'users', 'groups' or 'tokens' is required.")
        )
    path = normalize_path(params["path"])
    if not is_acl_path(path):
        raise ParamError({"path": f"invalid ACL path '{params['path']}'"})
    cfg = ctx.node.auth.cfg
    roles = split_list(params["roles"])
    for role in roles:
        if cfg.role(role) is None:
            raise ApiError(f"ACL update failed: role '{role}' does not exist")
    _not_beyond_own_rights(ctx, path, roles)
    keys = [AclKey(path, kind, name, role) for kind, names in who.items() for name in names for role in roles]
    for key in keys:
        _check_exists(ctx, key)
    for key in keys:
        if params.get("delete"):
            cfg.acl.pop(key, None)
        else:
            cfg.acl[key] = params.get("propagate", True)
    ctx.node.auth.save()


def _not_beyond_own_rights(ctx: Ctx, path: str, roles: list[str]) -> None:
    """Without Permissions.Modify one can only hand on roles whose privileges one holds oneself."""
    held = ctx.node.auth.permissions(ctx.user, path)
    if "Permissions.Modify" in held:
        return
    for role in roles:
        missing = sorted((ctx.node.auth.cfg.role(role) or frozenset()) - set(held))
        if missing:
            raise Forbidden(f"Permission check failed ({path}, {missing[0]})")


def _check_exists(ctx: Ctx, key: AclKey) -> None:
    cfg = ctx.node.auth.cfg
    user, token = split_token(key.ugid)
    known = {
        "group": key.ugid in cfg.groups,
        "user": key.ugid in cfg.users,
        "token": user in cfg.users and token in cfg.users[user].tokens,
    }
    if not known[key.kind]:
        text = (
            f"no such token '{token}' for user '{user}'"
            if key.kind == "token"
            else f"{key.kind} '{key.ugid}' does not exist"
        )
        raise ApiError(f"ACL update failed: {text}")
