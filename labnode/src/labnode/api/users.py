# SPDX-License-Identifier: GPL-3.0-or-later
"""/access/users: users and their API tokens (pve-access-control, API2/User.pm)."""

from __future__ import annotations

from typing import Any

from labnode.access.usercfg import Token, User, UserCfg
from labnode.auth import check_realm
from labnode.errors import ApiError, Forbidden, ParamError
from labnode.route import Ctx, route
from labnode.schema.formats import split_list

_NAMES = ("firstname", "lastname", "email", "comment", "keys")


def _realm_type(userid: str) -> str:
    return userid.rpartition("@")[2]


def _shown(userid: str, user: User) -> dict[str, Any]:
    entry: dict[str, Any] = {"userid": userid, "enable": int(user.enable), "realm-type": _realm_type(userid)}
    if user.expire:
        entry["expire"] = user.expire
    entry.update({name: getattr(user, name) for name in _NAMES if getattr(user, name)})
    return entry


def _token(info: Token) -> dict[str, Any]:
    entry: dict[str, Any] = {"expire": info.expire, "privsep": int(info.privsep)}
    return {**entry, "comment": info.comment} if info.comment else entry


def _tokens(user: User) -> dict[str, dict[str, Any]]:
    return {name: _token(info) for name, info in sorted(user.tokens.items())}


def _may_see(ctx: Ctx, cfg: UserCfg, userid: str) -> bool:
    privs = ("User.Modify", "Sys.Audit")
    if ctx.user == userid or ctx.may("/access/groups", privs, any_of=True):
        return True
    return any(ctx.may(f"/access/groups/{group}", privs, any_of=True) for group in cfg.groups_of(userid))


@route("GET", "/access/users")
async def users(ctx: Ctx) -> list[dict[str, Any]]:
    """Users the caller may see."""
    cfg = ctx.node.auth.cfg
    rows = []
    for userid, user in sorted(cfg.users.items()):
        if "enabled" in ctx.params and ctx.params["enabled"] != user.enable:
            continue
        if not _may_see(ctx, cfg, userid):
            continue
        row = _shown(userid, user)
        if ctx.params.get("full"):
            row["groups"] = ",".join(cfg.groups_of(userid))
            row["tokens"] = [{"tokenid": name, **info} for name, info in _tokens(user).items()]
        rows.append(row)
    return rows


def _user(ctx: Ctx, prefix: str = "") -> User:
    user = ctx.node.auth.cfg.users.get(ctx.params["userid"])
    if user is None:
        raise ApiError(f"{prefix}no such user ('{ctx.params['userid']}')")
    return user


def _apply(user: User, params: dict[str, Any]) -> None:
    for name in (*_NAMES, "enable", "expire"):
        if name in params:
            setattr(user, name, params[name])


def _set_groups(cfg: UserCfg, userid: str, groups: list[str], keep: bool, failure: str) -> None:
    for name in groups:
        if name not in cfg.groups:
            raise ApiError(f"{failure}: no such group '{name}'")
    for name, group in cfg.groups.items():
        if name in groups:
            group.users.add(userid)
        elif not keep:
            group.users.discard(userid)


@route("POST", "/access/users")
async def create_user(ctx: Ctx) -> None:
    """A user of realm pam or pve; a password only for pve."""
    auth, userid = ctx.node.auth, ctx.params["userid"]
    check_realm(userid)
    if userid in auth.cfg.users:
        raise ApiError(f"create user failed: user '{userid}' already exists")
    _set_groups(auth.cfg, userid, split_list(ctx.params.get("groups", "")), True, "create user failed")
    if "password" in ctx.params:
        auth.set_password(userid, ctx.params["password"])
    user = User()
    _apply(user, ctx.params)
    auth.cfg.users[userid] = user
    auth.save()


@route("GET", "/access/users/{userid}")
async def read_user(ctx: Ctx) -> dict[str, Any]:
    """One user, with its groups and tokens."""
    user = _user(ctx)
    shown: dict[str, Any] = {"enable": int(user.enable), "expire": user.expire, "email": user.email}
    shown.update({name: getattr(user, name) for name in _NAMES if getattr(user, name)})
    groups = ctx.node.auth.cfg.groups_of(ctx.params["userid"])
    return {**shown, "groups": groups, "tokens": _tokens(user) or None}


@route("PUT", "/access/users/{userid}")
async def update_user(ctx: Ctx) -> None:
    """Change what is given; ``groups`` replaces the memberships unless ``append``."""
    user = _user(ctx, "update user failed: ")
    auth = ctx.node.auth
    if "groups" in ctx.params:
        keep = bool(ctx.params.get("append"))
        _set_groups(auth.cfg, ctx.params["userid"], split_list(ctx.params["groups"]), keep, "update user failed")
    _apply(user, ctx.params)
    auth.save()


@route("DELETE", "/access/users/{userid}")
async def delete_user(ctx: Ctx) -> None:
    """Remove a user with its tokens, memberships and grants. One that is not there is no error."""
    auth, userid = ctx.node.auth, ctx.params["userid"]
    if userid == "root@pam":
        raise ApiError("delete user failed: user 'root@pam' cannot be deleted")
    user = auth.cfg.users.pop(userid, None)
    for name in user.tokens if user else ():
        auth.forget_token(f"{userid}!{name}")
    for group in auth.cfg.groups.values():
        group.users.discard(userid)
    auth.cfg.drop_acl("user", userid)
    auth.save()
    auth.set_password(userid, None)
    auth.set_tfa(userid, [])


# tokens ---------------------------------------------------------------------------------------------------------------


def _own_token(ctx: Ctx) -> tuple[User, Token]:
    user = _user(ctx)
    name = ctx.params["tokenid"]
    if name not in user.tokens:
        raise ApiError(f"no such token '{name}' for user '{ctx.params['userid']}'")
    return user, user.tokens[name]


@route("GET", "/access/users/{userid}/token")
async def tokens(ctx: Ctx) -> list[dict[str, Any]]:
    """A user's tokens."""
    return [{"tokenid": name, **info} for name, info in _tokens(_user(ctx)).items()]


@route("GET", "/access/users/{userid}/token/{tokenid}")
async def read_token(ctx: Ctx) -> dict[str, Any]:
    """One token, without its value."""
    return _token(_own_token(ctx)[1])


@route("POST", "/access/users/{userid}/token/{tokenid}")
async def create_token(ctx: Ctx) -> dict[str, Any]:
    """A token; its value is shown this once."""
    auth, user, name = ctx.node.auth, _user(ctx), ctx.params["tokenid"]
    if name in user.tokens:
        raise ParamError({"tokenid": "Token already exists."})
    _not_beyond_self(ctx)
    info = Token(ctx.params.get("expire", 0), ctx.params.get("privsep", True), ctx.params.get("comment", ""))
    ident = f"{ctx.params['userid']}!{name}"
    value = auth.new_token_value(ident)
    user.tokens[name] = info
    auth.save()
    shown: dict[str, Any] = {"privsep": str(int(info.privsep))}
    if info.comment:
        shown["comment"] = info.comment
    if info.expire:
        shown["expire"] = str(info.expire)
    return {"full-tokenid": ident, "info": shown, "value": value}


def _not_beyond_self(ctx: Ctx) -> None:
    """A token must not make itself a sibling with more rights than it has."""
    if "!" in ctx.user and not ctx.params.get("privsep", True):
        raise Forbidden("Permission check failed (an API token cannot make a token without privilege separation)")


@route("PUT", "/access/users/{userid}/token/{tokenid}")
async def update_token(ctx: Ctx) -> dict[str, Any]:
    """Change comment, expiry or privilege separation; ``delete`` unsets."""
    _, info = _own_token(ctx)
    _not_beyond_self(ctx)
    for name in split_list(ctx.params.get("delete", "")):
        if name != "comment":
            raise ParamError({"delete": f"unknown option '{name}'"})
        info.comment = ""
    for name in ("comment", "expire", "privsep"):
        if name in ctx.params:
            setattr(info, name, ctx.params[name])
    ctx.node.auth.save()
    shown = _token(info)
    if ctx.params.get("regenerate"):
        shown["value"] = ctx.node.auth.new_token_value(f"{ctx.params['userid']}!{ctx.params['tokenid']}")
    return shown


@route("DELETE", "/access/users/{userid}/token/{tokenid}")
async def delete_token(ctx: Ctx) -> None:
    """Remove a token and what was granted to it."""
    user, _ = _own_token(ctx)
    del user.tokens[ctx.params["tokenid"]]
    ctx.node.auth.forget_token(f"{ctx.params['userid']}!{ctx.params['tokenid']}")
    ctx.node.auth.save()
