# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewall options, rules, aliases, IP sets and security groups of cluster, node and guests (pve-firewall,
API2/Firewall).

The rules are kept and shown; labnode's userspace switch does not filter by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labnode.api import firewall_sets as sets
from labnode.errors import ApiError, ParamError
from labnode.fwfile import Firewall, Group, Rule, parse
from labnode.fwstore import guard, listing_digest, load, save, with_digest
from labnode.options import as_text
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.schema.table import table

CLUSTER, NODE, GUEST = "/cluster/firewall", "/nodes/{node}/firewall", "/nodes/{node}/qemu/{vmid}/firewall"
_RULE_KEYS = (
    "type", "action", "enable", "macro", "iface", "proto", "dport", "sport", "source", "dest", "log", "icmp-type",
    "comment",
)  # fmt: skip


async def index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    found = table().find(ctx.path)
    prefix = f"{found[0]}/" if found else "/"
    names = {path[len(prefix) :].split("/")[0] for path in table().paths() if path.startswith(prefix)}
    return [{"name": name} for name in sorted(names)]


# options --------------------------------------------------------------------------------------------------------------


def _typed_options(firewall: Firewall) -> dict[str, Any]:
    return {key: int(value) if value.isdecimal() else value for key, value in firewall.options.items()}


async def options(ctx: Ctx) -> dict[str, Any]:
    """Options that are set."""
    return with_digest(_typed_options(load(ctx)))


async def set_options(ctx: Ctx) -> None:
    """Set and unset options."""
    firewall = load(ctx)
    guard(ctx, with_digest(_typed_options(firewall)))
    for name in split_list(ctx.params.get("delete", "")):
        firewall.options.pop(name, None)
    for name, value in ctx.params.items():
        if name not in ("delete", "digest", "node", "vmid"):
            firewall.options[name] = as_text(value)
    save(ctx, firewall)


# rules ----------------------------------------------------------------------------------------------------------------


def _group(ctx: Ctx, firewall: Firewall) -> Group:
    name = ctx.params["group"]
    if name not in firewall.groups:
        raise ApiError(f"no such security group '{name}'")
    return firewall.groups[name]


def _rules(ctx: Ctx, firewall: Firewall) -> list[Rule]:
    return _group(ctx, firewall).rules if "group" in ctx.params else firewall.rules


def _numbered(rules: list[Rule]) -> list[dict[str, Any]]:
    """Every rule with its position and the digest of the whole list."""
    digest = listing_digest(rules)
    return [{**rule, "pos": pos, "digest": digest} for pos, rule in enumerate(rules)]


def _rule_at(ctx: Ctx, rules: list[Rule]) -> Rule:
    pos = ctx.params["pos"]
    if pos >= len(rules):
        raise ApiError(f"no rule at position {pos}")
    return rules[int(pos)]


def _check_rule(ctx: Ctx, rule: Rule, cluster: Firewall) -> None:
    kind, action = rule["type"], rule["action"]
    if kind == "group":
        if "group" in ctx.params:
            raise ParamError({"type": "security groups not allowed"})
        if action not in cluster.groups:
            raise ParamError({"action": f"no such security group '{action}'"})
    elif action not in ("ACCEPT", "DROP", "REJECT"):
        raise ParamError({"action": f"unknown action '{action}'"})
    for port in ("dport", "sport"):
        if rule.get(port) and not rule.get("proto") and not rule.get("macro"):
            raise ParamError({"proto": f"missing property - '{port}' requires this property"})
    if rule.get("iface") and "vmid" in ctx.params and not str(rule["iface"]).startswith("net"):
        raise ParamError({"iface": "value does not match the regex pattern 'net\\d+'"})


def _cluster(ctx: Ctx) -> Firewall:
    return parse(ctx.node.store.read("etc/firewall/cluster.fw"))


async def rules(ctx: Ctx) -> list[dict[str, Any]]:
    """Rules in order."""
    return _numbered(_rules(ctx, load(ctx)))


async def rule(ctx: Ctx) -> dict[str, Any]:
    """One rule."""
    known = _rules(ctx, load(ctx))
    _rule_at(ctx, known)
    return _numbered(known)[int(ctx.params["pos"])]


async def add_rule(ctx: Ctx) -> None:
    """A new rule, at the top unless ``pos`` says otherwise; off unless ``enable``."""
    firewall = load(ctx)
    fresh: Rule = {"enable": 0, **{key: ctx.params[key] for key in _RULE_KEYS if key in ctx.params}}
    _check_rule(ctx, fresh, _cluster(ctx))
    known = _rules(ctx, firewall)
    known.insert(min(ctx.params.get("pos", 0), len(known)), fresh)
    save(ctx, firewall)


async def update_rule(ctx: Ctx) -> None:
    """Change a rule, or move it with ``moveto``."""
    firewall = load(ctx)
    known = _rules(ctx, firewall)
    changed = dict(_rule_at(ctx, known))
    guard(ctx, _numbered(known)[ctx.params["pos"]])
    if "moveto" in ctx.params:
        target = min(ctx.params["moveto"], len(known))
        moved = known.pop(ctx.params["pos"])
        known.insert(target - 1 if target > ctx.params["pos"] else target, moved)
    else:
        changed.update({key: ctx.params[key] for key in _RULE_KEYS if key in ctx.params})
        for name in split_list(ctx.params.get("delete", "")):
            changed.pop(name, None)
        _check_rule(ctx, changed, _cluster(ctx))
        known[ctx.params["pos"]] = changed
    save(ctx, firewall)


async def delete_rule(ctx: Ctx) -> None:
    """Remove a rule; those below move up."""
    firewall = load(ctx)
    known = _rules(ctx, firewall)
    _rule_at(ctx, known)
    guard(ctx, _numbered(known)[ctx.params["pos"]])
    del known[ctx.params["pos"]]
    save(ctx, firewall)


# groups, macros, references -------------------------------------------------------------------------------------------


async def groups(ctx: Ctx) -> list[dict[str, Any]]:
    """Security groups."""
    known = sorted(load(ctx).groups.items())
    return [with_digest({"group": n, "comment": g.comment} if g.comment else {"group": n}) for n, g in known]


async def add_group(ctx: Ctx) -> None:
    """A new group, or (with ``rename``) another name or comment for an old one."""
    firewall, name, old = load(ctx), ctx.params["group"], ctx.params.get("rename")
    if old is None:
        if name in firewall.groups:
            raise ParamError({"group": f"Security group '{name}' already exists"})
        firewall.groups[name] = Group(ctx.params.get("comment", ""))
    else:
        if old not in firewall.groups:
            raise ParamError({"group": f"Security group '{old}' does not exist"})
        if old != name and name in firewall.groups:
            raise ParamError({"group": f"Security group '{name}' does already exist"})
        moved = firewall.groups.pop(old)
        moved.comment = ctx.params.get("comment", moved.comment)
        firewall.groups[name] = moved
    save(ctx, firewall)


async def delete_group(ctx: Ctx) -> None:
    """Remove an empty group."""
    firewall = load(ctx)
    if _group(ctx, firewall).rules:
        raise ApiError(f"Security group '{ctx.params['group']}' is not empty")
    del firewall.groups[ctx.params["group"]]
    save(ctx, firewall)


async def macros(ctx: Ctx) -> list[dict[str, str]]:
    """Rule macros: labnode brings none of its own."""
    return []


async def refs(ctx: Ctx) -> list[dict[str, str]]:
    """Aliases and IP sets that rules may name, the cluster's included."""
    found: list[dict[str, str]] = []
    scopes = [("dc", _cluster(ctx))] + ([("guest", load(ctx))] if "vmid" in ctx.params else [])
    for scope, firewall in scopes:
        found += [
            {"type": "alias", "name": name, "ref": f"{scope}/{name}", "scope": scope}
            for name in sorted(firewall.aliases)
        ]
        found += [
            {"type": "ipset", "name": name, "ref": f"+{scope}/{name}", "scope": scope}
            for name in sorted(firewall.ipsets)
        ]
    return [row for row in found if ctx.params.get("type") in (None, row["type"])]


async def log(ctx: Ctx) -> list[dict[str, Any]]:
    """Packets that rules logged: none, nothing is filtered."""
    return [{"n": 1, "t": "no content"}]


_Handler = Callable[[Ctx], Any]
_SUBPATHS: dict[str, dict[str, _Handler]] = {
    "": {"GET": index},
    "/options": {"GET": options, "PUT": set_options},
    "/rules": {"GET": rules, "POST": add_rule},
    "/rules/{pos}": {"GET": rule, "PUT": update_rule, "DELETE": delete_rule},
    "/aliases": {"GET": sets.aliases, "POST": sets.add_alias},
    "/aliases/{name}": {"GET": sets.alias, "PUT": sets.update_alias, "DELETE": sets.delete_alias},
    "/ipset": {"GET": sets.ipsets, "POST": sets.add_ipset},
    "/ipset/{name}": {"GET": sets.ipset, "POST": sets.add_entry, "DELETE": sets.delete_ipset},
    "/ipset/{name}/{cidr}": {"GET": sets.entry, "PUT": sets.update_entry, "DELETE": sets.delete_entry},
    "/groups": {"GET": groups, "POST": add_group},
    "/groups/{group}": {"GET": rules, "POST": add_rule, "DELETE": delete_group},
    "/groups/{group}/{pos}": {"GET": rule, "PUT": update_rule, "DELETE": delete_rule},
    "/macros": {"GET": macros},
    "/refs": {"GET": refs},
    "/log": {"GET": log},
}


def _bind() -> None:
    for prefix in (CLUSTER, NODE, GUEST):
        for below, handlers in _SUBPATHS.items():
            for method, handler in handlers.items():
                if table().method(method, prefix + below):
                    route(method, prefix + below)(handler)


_bind()
