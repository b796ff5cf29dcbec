# SPDX-License-Identifier: GPL-3.0-or-later
"""/access: tickets, realms, passwords, roles, permissions (pve-access-control, API2/AccessControl.pm and Role.pm)."""

from __future__ import annotations

from typing import Any

from labnode.access import permissions as perms
from labnode.auth import REALMS
from labnode.errors import ApiError, AuthError, ParamError
from labnode.privileges import ROLES
from labnode.route import Ctx, route
from labnode.schema.formats import split_list

DOMAINS = {
    "pve": {"type": "pve", "comment": "Proxmox VE authentication server"},
    "pam": {"type": "pam", "comment": "Linux PAM standard authentication"},
}


@route("GET", "/access")
async def access_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    names = ("users", "groups", "roles", "acl", "domains", "ticket", "password", "permissions", "tfa")
    return [{"subdir": name} for name in names]


@route("GET", "/access/ticket")
async def ticket_form(ctx: Ctx) -> None:
    """Only there for login pages; answers nothing."""


@route("POST", "/access/ticket")
async def create_ticket(ctx: Ctx) -> dict[str, Any]:
    """Log in. A valid ticket in place of the password gives a fresh one."""
    params = ctx.params
    user = params["username"]
    if "realm" in params and not user.endswith(f"@{params['realm']}"):
        user = f"{user}@{params['realm']}"
    challenge = params.get("tfa-challenge")
    answer = await ctx.node.auth.login(user, params["password"], params.get("otp"), challenge)
    if "path" in params:
        privs = split_list(params.get("privs", ""))
        if not ctx.node.auth.may(user, params["path"], privs):
            raise AuthError("permission denied - invalid ticket path")
    return {**answer, "clustername": ctx.node.name} if ctx.node.store.exists("etc/corosync.conf") else answer


@route("GET", "/access/domains")
async def domains(ctx: Ctx) -> list[dict[str, Any]]:
    """The two built-in realms."""
    return [{"realm": realm, **info} for realm, info in DOMAINS.items()]


@route("GET", "/access/domains/{realm}")
async def domain(ctx: Ctx) -> dict[str, Any]:
    """One realm."""
    realm = ctx.params["realm"]
    if realm not in REALMS:
        raise ApiError(f"domain '{realm}' does not exist")
    return {**DOMAINS[realm], "digest": ctx.node.store.digest(ctx.node.store.read("etc/domains.cfg"))}


@route("PUT", "/access/password")
async def change_password(ctx: Ctx) -> None:
    """Set a user's password; the caller proves who it is with its own, except root@pam."""
    auth, userid = ctx.node.auth, ctx.params["userid"]
    if userid not in auth.cfg.users:
        raise ApiError(f"no such user ('{userid}')")
    if not ctx.is_root:
        await auth.verify_password(ctx.user, ctx.params.get("confirmation-password", ""))
    auth.set_password(userid, ctx.params["password"])


@route("GET", "/access/permissions")
async def show_permissions(ctx: Ctx) -> dict[str, dict[str, int]]:
    """Effective privileges of the caller, of one of its tokens, or (with Sys.Audit) of anyone."""
    userid = ctx.params.get("userid", ctx.user)
    if ctx.user not in (userid, perms.split_token(userid)[0]):
        ctx.check("/access", ["Sys.Audit"])
    cfg = ctx.node.auth.cfg
    path = ctx.params.get("path")
    if path is None:
        return perms.effective(cfg, userid)
    found = perms.permissions(cfg, userid, perms.normalize_path(path))
    return {path: {priv: int(flag) for priv, flag in sorted(found.items())}}


@route("GET", "/access/roles")
async def roles(ctx: Ctx) -> list[dict[str, Any]]:
    """Built-in and custom roles."""
    known = {**ROLES, **ctx.node.auth.cfg.roles}
    return [{"roleid": n, "privs": ",".join(sorted(p)), "special": int(n in ROLES)} for n, p in sorted(known.items())]


def _privs(text: str) -> frozenset[str]:
    return frozenset(split_list(text))


@route("POST", "/access/roles")
async def create_role(ctx: Ctx) -> None:
    """A custom role."""
    auth, role = ctx.node.auth, ctx.params["roleid"]
    if role.startswith("PVE"):
        raise ParamError({"roleid": "role ID starting with the (case-insensitive) 'PVE' namespace is not allowed"})
    if auth.cfg.role(role) is not None:
        raise ApiError(f"create role failed: role '{role}' already exists")
    auth.cfg.roles[role] = _privs(ctx.params.get("privs", ""))
    auth.save()


def _custom(ctx: Ctx, verb: str) -> str:
    role: str = ctx.params["roleid"]
    if role in ROLES:
        raise ApiError(f"auto-generated role '{role}' cannot be {verb}")
    if role not in ctx.node.auth.cfg.roles:
        action = "update" if verb == "modified" else "delete"
        raise ApiError(f"{action} role failed: role '{role}' does not exist")
    return role


@route("PUT", "/access/roles/{roleid}")
async def update_role(ctx: Ctx) -> None:
    """Replace the privileges of a custom role, or add to them with ``append``."""
    auth, role = ctx.node.auth, _custom(ctx, "modified")
    privs = _privs(ctx.params.get("privs", ""))
    auth.cfg.roles[role] = auth.cfg.roles[role] | privs if ctx.params.get("append") else privs
    auth.save()


@route("GET", "/access/roles/{roleid}")
async def read_role(ctx: Ctx) -> dict[str, int]:
    """Privileges of a role."""
    privs = ctx.node.auth.cfg.role(ctx.params["roleid"])
    if privs is None:
        raise ApiError(f"role '{ctx.params['roleid']}' does not exist")
    return dict.fromkeys(sorted(privs), 1)


@route("DELETE", "/access/roles/{roleid}")
async def delete_role(ctx: Ctx) -> None:
    """Remove a custom role and everything granted with it."""
    auth, role = ctx.node.auth, _custom(ctx, "deleted")
    del auth.cfg.roles[role]
    auth.cfg.acl = {key: flag for key, flag in auth.cfg.acl.items() if key.role != role}
    auth.save()
