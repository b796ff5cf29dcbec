# SPDX-License-Identifier: GPL-3.0-or-later
"""Aliases and IP sets of the firewall (pve-firewall, API2/Firewall/Aliases.pm and IPSet.pm); bound by
``api.firewall``."""

from __future__ import annotations

from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.fwfile import Firewall, IpSet
from labnode.fwstore import guard, load, save, with_digest
from labnode.route import Ctx

# aliases --------------------------------------------------------------------------------------------------------------


def _alias(firewall: Firewall, name: str) -> dict[str, Any]:
    if name not in firewall.aliases:
        raise ParamError({"name": "no such alias"})
    cidr, comment = firewall.aliases[name]
    row: dict[str, Any] = {"name": name, "cidr": cidr, "ipversion": 6 if ":" in cidr else 4}
    return with_digest({**row, "comment": comment} if comment else row)


async def aliases(ctx: Ctx) -> list[dict[str, Any]]:
    """Names for addresses."""
    firewall = load(ctx)
    return [_alias(firewall, name) for name in sorted(firewall.aliases)]


async def alias(ctx: Ctx) -> dict[str, Any]:
    """One alias."""
    return _alias(load(ctx), ctx.params["name"])


async def add_alias(ctx: Ctx) -> None:
    """A name for an address."""
    firewall, name = load(ctx), ctx.params["name"]
    if name in firewall.aliases:
        raise ParamError({"name": f"alias '{name}' already exists"})
    firewall.aliases[name] = (ctx.params["cidr"], ctx.params.get("comment", ""))
    save(ctx, firewall)


async def update_alias(ctx: Ctx) -> None:
    """Change address, comment or name of an alias."""
    firewall, name = load(ctx), ctx.params["name"]
    guard(ctx, _alias(firewall, name))
    fresh = ctx.params.get("rename", name)
    if fresh != name and fresh in firewall.aliases:
        raise ParamError({"name": f"alias '{fresh}' already exists"})
    comment = ctx.params.get("comment", firewall.aliases.pop(name)[1])
    firewall.aliases.pop(name, None)
    firewall.aliases[fresh] = (ctx.params["cidr"], comment)
    save(ctx, firewall)


async def delete_alias(ctx: Ctx) -> None:
    """Remove an alias."""
    firewall, name = load(ctx), ctx.params["name"]
    guard(ctx, _alias(firewall, name))
    del firewall.aliases[name]
    save(ctx, firewall)


# IP sets --------------------------------------------------------------------------------------------------------------


def _ipset(ctx: Ctx, firewall: Firewall) -> IpSet:
    name = ctx.params["name"]
    if name not in firewall.ipsets:
        raise ApiError(f"no such IPSet '{name}'")
    return firewall.ipsets[name]


def _entry(ipset: IpSet, cidr: str) -> dict[str, Any]:
    if cidr not in ipset.entries:
        raise ParamError({"cidr": "no such IP/Network"})
    comment, nomatch = ipset.entries[cidr]
    row: dict[str, Any] = {"cidr": cidr}
    row.update({"comment": comment} if comment else {})
    row.update({"nomatch": 1} if nomatch else {})
    return with_digest(row)


async def ipsets(ctx: Ctx) -> list[dict[str, Any]]:
    """Names of the sets."""
    known = sorted(load(ctx).ipsets.items())
    return [with_digest({"name": n, "comment": s.comment} if s.comment else {"name": n}) for n, s in known]


async def add_ipset(ctx: Ctx) -> None:
    """A new set, or (with ``rename``) another name or comment for an old one."""
    firewall, name, old = load(ctx), ctx.params["name"], ctx.params.get("rename")
    if old is None:
        if name in firewall.ipsets:
            raise ParamError({"name": f"IPSet '{name}' already exists"})
        firewall.ipsets[name] = IpSet(ctx.params.get("comment", ""))
    else:
        if old not in firewall.ipsets:
            raise ParamError({"name": f"IPSet '{old}' does not exist"})
        if old != name and name in firewall.ipsets:
            raise ParamError({"name": f"IPSet '{name}' does already exist"})
        moved = firewall.ipsets.pop(old)
        moved.comment = ctx.params.get("comment", moved.comment)
        firewall.ipsets[name] = moved
    save(ctx, firewall)


async def ipset(ctx: Ctx) -> list[dict[str, Any]]:
    """Addresses of a set."""
    known = _ipset(ctx, load(ctx))
    return [_entry(known, cidr) for cidr in sorted(known.entries)]


async def delete_ipset(ctx: Ctx) -> None:
    """Remove a set; one with addresses only by ``force``."""
    firewall = load(ctx)
    if _ipset(ctx, firewall).entries and not ctx.params.get("force"):
        raise ApiError(f"IPSet '{ctx.params['name']}' is not empty")
    del firewall.ipsets[ctx.params["name"]]
    save(ctx, firewall)


async def add_entry(ctx: Ctx) -> None:
    """Add an address to a set."""
    firewall, cidr = load(ctx), ctx.params["cidr"]
    known = _ipset(ctx, firewall)
    if cidr in known.entries:
        raise ParamError({"cidr": f"address '{cidr}' already exists"})
    if cidr.endswith("/0"):
        raise ParamError({"cidr": "a zero prefix is not allowed in ipset entries"})
    known.entries[cidr] = (ctx.params.get("comment", ""), bool(ctx.params.get("nomatch")))
    save(ctx, firewall)


async def entry(ctx: Ctx) -> dict[str, Any]:
    """One address of a set."""
    return _entry(_ipset(ctx, load(ctx)), ctx.params["cidr"])


async def update_entry(ctx: Ctx) -> None:
    """Change comment or exclusion of an address."""
    firewall, cidr = load(ctx), ctx.params["cidr"]
    known = _ipset(ctx, firewall)
    guard(ctx, _entry(known, cidr))
    known.entries[cidr] = (ctx.params.get("comment", known.entries[cidr][0]), bool(ctx.params.get("nomatch")))
    save(ctx, firewall)


async def delete_entry(ctx: Ctx) -> None:
    """Take an address out of a set."""
    firewall, cidr = load(ctx), ctx.params["cidr"]
    known = _ipset(ctx, firewall)
    guard(ctx, _entry(known, cidr))
    del known.entries[cidr]
    save(ctx, firewall)
