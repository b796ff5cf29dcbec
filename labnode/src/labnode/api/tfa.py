# SPDX-License-Identifier: GPL-3.0-or-later
"""/access/tfa: second factors of users, of type totp and recovery (pve-access-control, API2/TFA.pm)."""

from __future__ import annotations

import secrets
import time
from typing import Any

from labnode.access.secrets import hash_token, totp_step
from labnode.errors import ApiError, ParamError
from labnode.route import Ctx, route

_PUBLIC = ("id", "type", "description", "created", "enable")
_RECOVERY_KEYS = 10


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _PUBLIC}


def _entry(ctx: Ctx) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    entries = ctx.node.auth.tfa(ctx.params["userid"])
    for entry in entries:
        if entry["id"] == ctx.params["id"]:
            return entries, entry
    raise ApiError(f"no such tfa entry '{ctx.params['id']}' for user '{ctx.params['userid']}'", 404)


def _known_user(ctx: Ctx) -> str:
    userid: str = ctx.params["userid"]
    if userid not in ctx.node.auth.cfg.users:
        raise ApiError(f"no such user ('{userid}')")
    return userid


async def _confirm(ctx: Ctx) -> None:
    """Whoever changes second factors proves its own password, root@pam excepted when it is another user's."""
    if not (ctx.is_root and ctx.params["userid"] != "root@pam"):
        await ctx.node.auth.verify_password(ctx.user, ctx.params.get("password", ""))


@route("GET", "/access/tfa")
async def all_tfa(ctx: Ctx) -> list[dict[str, Any]]:
    """Second factors of every user the caller may see."""
    auth = ctx.node.auth
    seen = [u for u in sorted(auth.cfg.users) if u == ctx.user or ctx.may("/access/groups", ["Sys.Audit"])]
    return [{"userid": user, "entries": [_shown(e) for e in auth.tfa(user)]} for user in seen if auth.tfa(user)]


@route("GET", "/access/tfa/{userid}")
async def user_tfa(ctx: Ctx) -> list[dict[str, Any]]:
    """Second factors of one user."""
    return [_shown(entry) for entry in ctx.node.auth.tfa(_known_user(ctx))]


@route("GET", "/access/users/{userid}/tfa")
async def user_tfa_types(ctx: Ctx) -> dict[str, Any]:
    """Which kinds of second factor a user has."""
    kinds = sorted({entry["type"] for entry in ctx.node.auth.tfa(_known_user(ctx)) if entry["enable"]})
    if ctx.params.get("multiple"):
        return {"types": kinds}
    return {"user": "oath"} if "totp" in kinds else {}


@route("PUT", "/access/users/{userid}/unlock-tfa")
async def unlock_tfa(ctx: Ctx) -> bool:
    """Nothing is ever locked here for wrong codes, so there was nothing to unlock."""
    _known_user(ctx)
    return False


@route("GET", "/access/tfa/{userid}/{id}")
async def read_tfa(ctx: Ctx) -> dict[str, Any]:
    """One second factor, without its secret."""
    return _shown(_entry(ctx)[1])


@route("POST", "/access/tfa/{userid}")
async def add_tfa(ctx: Ctx) -> dict[str, Any]:
    """Add a factor: totp (an otpauth URL and a first code in ``value``) or recovery (keys are shown this once)."""
    userid, kind = _known_user(ctx), ctx.params["type"]
    await _confirm(ctx)
    auth = ctx.node.auth
    entries = auth.tfa(userid)
    entry: dict[str, Any] = {
        "id": secrets.token_hex(8),
        "type": kind,
        "description": ctx.params.get("description", ""),
        "created": int(time.time()),
        "enable": True,
    }
    answer: dict[str, Any] = {"id": entry["id"]}
    if kind == "totp":
        entry["url"] = _checked_url(ctx)
    elif kind == "recovery":
        if any(known["type"] == "recovery" for known in entries):
            raise ApiError(f"user '{userid}' already has recovery keys", 400)
        keys = ["-".join(secrets.token_hex(2) for _ in range(4)) for _ in range(_RECOVERY_KEYS)]
        entry.update(id="recovery", keys=[hash_token(key) for key in keys])
        answer = {"id": "recovery", "recovery": keys}
    else:
        raise ParamError({"type": f"labnode has second factors of type totp and recovery, not '{kind}'"})
    auth.set_tfa(userid, [*entries, entry])
    return answer


def _checked_url(ctx: Ctx) -> str:
    url: str = ctx.params.get("totp", "")
    if not url.startswith("otpauth://totp/"):
        raise ParamError({"totp": "an otpauth://totp/ URL is required for type totp"})
    try:
        good = totp_step(url, ctx.params.get("value", ""), time.time()) is not None
    except ValueError as err:
        raise ParamError({"totp": f"invalid otpauth URL: {err}"}) from err
    if not good:
        raise ApiError("failed to verify TOTP challenge", 400)
    return url


@route("PUT", "/access/tfa/{userid}/{id}")
async def update_tfa(ctx: Ctx) -> None:
    """Change the description, or switch a factor on or off."""
    await _confirm(ctx)
    entries, entry = _entry(ctx)
    for name in ("description", "enable"):
        if name in ctx.params:
            entry[name] = ctx.params[name]
    ctx.node.auth.set_tfa(ctx.params["userid"], entries)


@route("DELETE", "/access/tfa/{userid}/{id}")
async def delete_tfa(ctx: Ctx) -> None:
    """Remove a factor."""
    await _confirm(ctx)
    entries, entry = _entry(ctx)
    ctx.node.auth.set_tfa(ctx.params["userid"], [known for known in entries if known is not entry])
