# SPDX-License-Identifier: GPL-3.0-or-later
"""From a method, a path and raw parameters to a handler's result: the order of checks is that of Proxmox VE.

Exists at all (501), parameters in conflict (400), token allowed and permission (403), right node, parameters valid
(400), and then the handler. Facts from pve-manager (HTTPServer.pm ``rest_handler``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labnode.access import permissions as perms
from labnode.body import Upload
from labnode.errors import ApiError, Forbidden, NotImplementedHere, ParamError
from labnode.route import ROUTES, Ctx
from labnode.schema.formats import check_named, split_list
from labnode.schema.table import Method, table
from labnode.schema.validate import check_params


@dataclass(frozen=True)
class Caller:
    """Who asks: ``user`` is None before login; ``kind`` is ticket, token or none."""

    user: str | None
    kind: str
    address: str


# Methods anyone may call without a ticket (pve-manager, HTTPServer.pm ``auth_handler``).
OPEN = {("GET", "/access/domains"), ("GET", "/access/ticket"), ("POST", "/access/ticket")}


async def call(ctx: Ctx, raw: Mapping[str, Any]) -> Any:
    """Run one API call. ``ctx.params`` is filled in here; raises ApiError for every refusal."""
    method, values = _find(ctx.method, ctx.path)
    for name, value in raw.items():
        if name in values and values[name] != value:
            raise ParamError({name: "duplicate parameter (already defined in URI) with conflicting values!"})
    values = {**raw, **values}
    if ctx.auth_kind == "token" and not method.token:
        raise Forbidden(f"Permission check failed (URI '{ctx.path}' not available with API token, need proper ticket.)")
    route = ROUTES.get((method.method, method.path))
    if not (route and route.perm):
        check_permission(ctx, method.perm, values)
    if method.node and values.get("node") not in (None, ctx.node.name, "localhost"):
        raise _no_such_node(str(values["node"]))
    if route is None or method.params is None:
        raise NotImplementedHere(
            f"Method '{ctx.method} {ctx.path}' not implemented by labnode, though Proxmox VE has it"
        )
    # The schema knows the paths of Proxmox VE's own upload directory only.
    ours = {k: v for k, v in values.items() if isinstance(v, Upload)}
    ctx.params = {**check_params(method.params, {k: v for k, v in values.items() if k not in ours}), **ours}
    if route.perm:
        route.perm(ctx)
    return await route.handler(ctx)


def _find(verb: str, path: str) -> tuple[Method, dict[str, Any]]:
    found = table().find(path)
    method = table().method(verb, found[0]) if found else None
    if found is None or method is None:
        raise NotImplementedHere(f"Method '{verb} {path}' not implemented")
    return method, dict(found[1])


def _no_such_node(name: str) -> ApiError:
    if check_named("pve-node", name):
        return ParamError({"node": "invalid format - value does not look like a valid node name\n"})
    # A node that is not in the cluster is looked up in DNS; labnode has no other nodes and asks no name server.
    cause = f"failed to get address info for: {name}: Temporary failure in name resolution"
    return ApiError(f"hostname lookup '{name}' failed - {cause}")


def check_permission(ctx: Ctx, perm: Any, values: Mapping[str, Any]) -> None:
    """Raises Forbidden unless the caller fulfils a permission entry of the schema (pve-access-control,
    RPCEnvironment.pm)."""
    if perm == "world":
        return
    if not ctx.user:
        raise Forbidden("Permission check failed (user != null)")
    if ctx.is_root or perm == "all":
        return
    if perm is None:
        raise Forbidden("Permission check failed (user != root@pam)")
    _run_check(ctx, perm, values)


def _run_check(ctx: Ctx, check: list[Any], values: Mapping[str, Any]) -> None:
    kind = check[0]
    if kind == "and":
        for part in check[1:]:
            _run_check(ctx, part, values)
    elif kind == "or":
        _any_check(ctx, check[1:], values)
    elif kind == "perm":
        _perm_check(ctx, check, values)
    elif kind == "perm-modify":
        check_perm_modify(ctx, str(check[1]).format_map(_Blank(values)))
    elif kind == "userid-param":
        _userid_param(ctx, check[1], str(values.get("userid", "")))
    elif kind == "userid-group":
        _userid_group(ctx, check, values)
    else:
        raise ApiError(f"internal error: unknown permission test '{kind}' in the schema table")


class _Blank(dict[str, Any]):
    """Template values; a parameter that was not given is empty, as in Proxmox VE."""

    def __missing__(self, key: str) -> str:
        return ""


def _any_check(ctx: Ctx, parts: list[Any], values: Mapping[str, Any]) -> None:
    for part in parts:
        try:
            _run_check(ctx, part, values)
        except Forbidden:
            continue
        return
    raise Forbidden("Permission check failed")


def _perm_check(ctx: Ctx, check: list[Any], values: Mapping[str, Any]) -> None:
    template, privs = check[1], check[2]
    options = dict(zip(check[3::2], check[4::2], strict=True))
    needed = options.get("require_param")
    if needed and needed not in values:
        raise Forbidden("Permission check failed")
    path = perms.normalize_path(str(template).format_map(_Blank(values)))
    ctx.check(path, privs, any_of=bool(options.get("any")))


def check_perm_modify(ctx: Ctx, path: str) -> None:
    """Raises Forbidden unless the caller may change the ACLs of a path."""
    wanted = ["Permissions.Modify"]
    extra = {"storage": "Datastore.Allocate", "vms": "VM.Allocate", "pool": "Pool.Allocate"}
    area, _, name = path.strip("/").partition("/")
    if name and area in extra:
        wanted.append(extra[area])
    ctx.check(perms.normalize_path(path) if path else "/access", wanted, any_of=True)


def _userid_param(ctx: Ctx, test: str, userid: str) -> None:
    if test == "self":
        if ctx.user != userid:
            raise Forbidden("Permission check failed")
    else:
        ctx.check(f"/access/realm/{userid.rpartition('@')[2]}", [test])


def _userid_group(ctx: Ctx, check: list[Any], values: Mapping[str, Any]) -> None:
    privs = check[1]
    options = dict(zip(check[2::2], check[3::2], strict=True))
    cfg = ctx.node.auth.cfg
    if ctx.may("/access/groups", privs, any_of=True):
        return
    mine = {name for name in cfg.groups if ctx.may(f"/access/groups/{name}", privs, any_of=True)}
    text = "|".join(privs)
    if options.get("groups_param"):
        asked = split_list(str(values.get("groups", "")))
        refused = "/access/groups" if not asked else next((f"/access/groups/{g}" for g in asked if g not in mine), None)
        if refused:
            raise Forbidden(f"Permission check failed ({refused}, {text})")
    if options.get("groups_param") != "create" and not mine.intersection(cfg.groups_of(str(values.get("userid", "")))):
        raise Forbidden("Permission check failed")
