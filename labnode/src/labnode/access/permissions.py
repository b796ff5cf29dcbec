# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds which privilege where: ACLs along a path, groups, pools, tokens. Pure, over a UserCfg.

The rules are those of pve-access-control (AccessControl.pm ``roles``, RPCEnvironment.pm ``permissions``): what is
granted
nearer to the object replaces what comes from above; grants to a user replace those to its groups; NoAccess wins.
"""

from __future__ import annotations

import re

from labnode import privileges
from labnode.access.usercfg import AclKey, UserCfg

TOP_PATHS = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")
_WORD = r"[A-Za-z0-9.\-_]+"
_ACL_PATH = re.compile(
    rf"/|/access(?:/groups(?:/{_WORD})?|/realm(?:/{_WORD})?)?|/nodes(?:/{_WORD})?|/pool(?:/{_WORD}){{0,3}}"
    rf"|/sdn(?:/(?:controllers|dns|fabrics|ipams|prefix-lists|route-maps)(?:/{_WORD})?|/zones(?:/{_WORD}){{0,3}})?"
    rf"|/storage(?:/{_WORD})?|/vms(?:/[1-9][0-9]{{2,}})?|/mapping(?:/{_WORD}){{0,2}}"
)


def normalize_path(path: str) -> str:
    """One slash between parts, none at the end, one in front."""
    return "/" + "/".join(part for part in path.split("/") if part)


def is_acl_path(path: str) -> bool:
    """Whether ACLs may be set on this path."""
    return _ACL_PATH.fullmatch(path) is not None


def split_token(userid: str) -> tuple[str, str | None]:
    """User and token name of a full id; the latter is None for a user."""
    user, bang, token = userid.rpartition("!")
    return (user, token) if bang else (userid, None)


def permissions(cfg: UserCfg, userid: str, path: str) -> dict[str, bool]:
    """Privileges a user or token holds on an ACL path, each with whether it propagates below."""
    if userid == "root@pam":
        return dict.fromkeys(privileges.ALL, True)
    user, token = split_token(userid)
    if user not in cfg.users:
        return {}
    if token is None:
        return _privileges(cfg, userid, path)
    info = cfg.users[user].tokens.get(token)
    if info is None:
        return {}
    owner = permissions(cfg, user, path)
    if not info.privsep:
        return owner
    own = _privileges(cfg, userid, path)
    return {priv: flag and owner[priv] for priv, flag in own.items() if priv in owner}


def effective(cfg: UserCfg, userid: str) -> dict[str, dict[str, int]]:
    """All paths where anything is granted, as ``GET /access/permissions`` shows them."""
    paths = {*TOP_PATHS, *(key.path for key in cfg.acl)}
    for pool in cfg.pools.values():
        paths |= {f"/vms/{vmid}" for vmid in pool.vms} | {f"/storage/{storeid}" for storeid in pool.storages}
    shown = {path: permissions(cfg, userid, path) for path in sorted(paths)}
    return {path: {priv: int(flag) for priv, flag in sorted(found.items())} for path, found in shown.items() if found}


def _privileges(cfg: UserCfg, userid: str, path: str) -> dict[str, bool]:
    granted = _roles(cfg, userid, path)
    if "NoAccess" not in granted:
        pooled = _pool_roles(cfg, userid, path)
        granted = {"NoAccess": False} if "NoAccess" in pooled else {**dict.fromkeys(pooled, False), **granted}
    found: dict[str, bool] = {}
    for role, propagate in granted.items():
        for priv in cfg.role(role) or ():
            found[priv] = found.get(priv, False) or propagate
    return found


def _roles(cfg: UserCfg, userid: str, path: str) -> dict[str, bool]:
    parts = [part for part in path.split("/") if part]
    places = ["/"] + ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
    kind = "token" if "!" in userid else "user"
    groups = set(cfg.groups_of(userid))
    roles: dict[str, bool] = {}
    for place in places:
        here = {key: flag for key, flag in cfg.acl.items() if key.path == place and (flag or place == places[-1])}
        own = _granted(here, kind, {userid})
        roles = own or _granted(here, "group", groups) or roles
    return {"NoAccess": roles["NoAccess"]} if "NoAccess" in roles else roles


def _granted(entries: dict[AclKey, bool], kind: str, names: set[str]) -> dict[str, bool]:
    return {key.role: flag for key, flag in entries.items() if key.kind == kind and key.ugid in names}


def _pool_roles(cfg: UserCfg, userid: str, path: str) -> set[str]:
    area, _, name = path.strip("/").partition("/")
    found: set[str] = set()
    for pool, members in cfg.pools.items():
        inside = (
            members.storages if area == "storage" else {str(vmid) for vmid in members.vms} if area == "vms" else set()
        )
        if name and name in inside:
            found |= set(_roles(cfg, userid, f"/pool/{pool}"))
    return found
