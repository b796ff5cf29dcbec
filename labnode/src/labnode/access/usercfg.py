# SPDX-License-Identifier: GPL-3.0-or-later
"""etc/user.cfg: users, tokens, groups, pools, roles and ACLs in Proxmox VE's file format. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from labnode.privileges import ROLES


@dataclass
class Token:
    """An API token of a user; ``expire`` in seconds since the epoch, 0 is never."""

    expire: int = 0
    privsep: bool = True
    comment: str = ""


@dataclass
class User:
    """One user; ``tokens`` by name without the user part."""

    enable: bool = True
    expire: int = 0
    firstname: str = ""
    lastname: str = ""
    email: str = ""
    comment: str = ""
    keys: str = ""
    tokens: dict[str, Token] = field(default_factory=dict)


@dataclass
class Group:
    """A group and the ids of its members."""

    users: set[str] = field(default_factory=set)
    comment: str = ""


@dataclass
class Pool:
    """A pool and its members: guest ids and storage ids."""

    comment: str = ""
    vms: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class AclKey:
    """Who has what where: ``kind`` is user, group or token."""

    path: str
    kind: str
    ugid: str
    role: str


@dataclass
class UserCfg:
    """The whole file. ``acl`` maps to the propagate flag; ``roles`` holds custom roles only."""

    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    roles: dict[str, frozenset[str]] = field(default_factory=dict)
    acl: dict[AclKey, bool] = field(default_factory=dict)

    def role(self, name: str) -> frozenset[str] | None:
        """Privileges of a built-in or custom role, None when there is no such role."""
        return ROLES.get(name, self.roles.get(name))

    def pool_of(self, vmid: int) -> str | None:
        """The pool a guest is in."""
        return next((name for name, pool in self.pools.items() if vmid in pool.vms), None)

    def groups_of(self, userid: str) -> list[str]:
        """Sorted names of the groups a user is in."""
        return sorted(name for name, group in self.groups.items() if userid in group.users)

    def drop_acl(self, kind: str, ugid: str) -> None:
        """Forget everything granted to a user, group or token."""
        self.acl = {key: flag for key, flag in self.acl.items() if (key.kind, key.ugid) != (kind, ugid)}

    def drop_guest(self, vmid: int) -> bool:
        """Forget a guest that is gone: its pool membership and its ACLs. Whether there was anything to forget."""
        pools = [pool for pool in self.pools.values() if vmid in pool.vms]
        for pool in pools:
            pool.vms.discard(vmid)
        kept = {key: flag for key, flag in self.acl.items() if key.path != f"/vms/{vmid}"}
        dropped = bool(pools) or len(kept) < len(self.acl)
        self.acl = kept
        return dropped


def _enc(text: str) -> str:
    """Text fit for a field: colons, control characters and blanks at the ends are escaped."""
    body = text.strip(" ")
    head, tail = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    if not body:
        return "%20" * len(text)
    return "%20" * head + quote(body, safe=" !#$&'()*+,-./;<=>?@[]^_`{|}~") + "%20" * tail


def parse(text: str) -> UserCfg:
    """Read the file; lines that make no sense are left out. root@pam is always there and enabled."""
    cfg = UserCfg()
    for line in text.splitlines():
        kind, _, rest = line.partition(":")
        fields = [part.strip() for part in rest.split(":")] + [""] * 8
        reader = _READERS.get(kind)
        if reader:
            reader(cfg, fields)
    cfg.users.setdefault("root@pam", User())
    return cfg


def _user(cfg: UserCfg, f: list[str]) -> None:
    names = [unquote(part) for part in f[3:5]]
    cfg.users[f[0]] = User(f[1] == "1", int(f[2] or 0), names[0], names[1], f[5], unquote(f[6]), f[7])


def _token(cfg: UserCfg, f: list[str]) -> None:
    user, _, name = f[0].rpartition("!")
    if user in cfg.users:
        cfg.users[user].tokens[name] = Token(int(f[1] or 0), f[2] == "1", unquote(f[3]))


def _group(cfg: UserCfg, f: list[str]) -> None:
    cfg.groups[f[0]] = Group(set(_items(f[1])), unquote(f[2]))


def _pool(cfg: UserCfg, f: list[str]) -> None:
    cfg.pools[f[0]] = Pool(unquote(f[1]), {int(vmid) for vmid in _items(f[2])}, set(_items(f[3])))


def _role(cfg: UserCfg, f: list[str]) -> None:
    cfg.roles[f[0]] = frozenset(_items(f[1]))


def _acl(cfg: UserCfg, f: list[str]) -> None:
    for ugid in _items(f[2]):
        kind = "group" if ugid.startswith("@") else "token" if "!" in ugid else "user"
        for role in _items(f[3]):
            cfg.acl[AclKey(f[1], kind, ugid.lstrip("@"), role)] = f[0] == "1"


_READERS = {"user": _user, "token": _token, "group": _group, "pool": _pool, "role": _role, "acl": _acl}


def _items(text: str) -> list[str]:
    return [item for item in text.replace(";", ",").split(",") if item]


def render(cfg: UserCfg) -> str:
    """The text of the file, sorted, so that equal contents give equal text."""
    return "\n\n".join("\n".join(block) for block in _blocks(cfg)).strip("\n") + "\n"


def _blocks(cfg: UserCfg) -> Iterator[list[str]]:
    yield list(_user_lines(cfg))
    yield [f"group:{name}:{_list(group.users)}:{_enc(group.comment)}:" for name, group in sorted(cfg.groups.items())]
    yield [
        f"pool:{name}:{_enc(pool.comment)}:{_list(map(str, pool.vms))}:{_list(pool.storages)}:"
        for name, pool in sorted(cfg.pools.items())
    ]
    yield [f"role:{name}:{_list(privs)}:" for name, privs in sorted(cfg.roles.items())]
    marks = {"group": "@", "user": "", "token": ""}
    keys = sorted(cfg.acl, key=lambda key: (key.path, key.kind, key.ugid, key.role))
    yield [f"acl:{int(cfg.acl[key])}:{key.path}:{marks[key.kind]}{key.ugid}:{key.role}:" for key in keys]


def _user_lines(cfg: UserCfg) -> Iterator[str]:
    for name, u in sorted(cfg.users.items()):
        names = f"{_enc(u.firstname)}:{_enc(u.lastname)}:{u.email}:{_enc(u.comment)}:{u.keys}"
        yield f"user:{name}:{int(u.enable)}:{u.expire}:{names}:"
        for token, t in sorted(u.tokens.items()):
            yield f"token:{name}!{token}:{t.expire}:{int(t.privsep)}:{_enc(t.comment)}:"


def _list(items: Iterable[str]) -> str:
    return ",".join(sorted(items))
