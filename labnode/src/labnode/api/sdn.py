# SPDX-License-Identifier: GPL-3.0-or-later
"""/cluster/sdn: zones, VNets and subnets, staged until they are applied (pve-network, API2/Network/SDN).

A change goes to ``etc/sdn/*.cfg``; ``PUT /cluster/sdn`` copies all of it to ``etc/sdn/.running-config``. A guest's
NIC may name an applied VNet as its bridge.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.options import as_text
from labnode.route import Ctx, route
from labnode.sections import SectionFile
from labnode.store import Section
from labnode.tasks import Task

RUNNING = "etc/sdn/.running-config"
LOCK = "etc/sdn/.lock"
KINDS = {"zone": "/cluster/sdn/zones", "vnet": "/cluster/sdn/vnets", "subnet": "/cluster/sdn/vnets/{vnet}/subnets"}
_CONTROL = {"pending", "running", "digest", "delete", "lock-token", "node"}


def _file(ctx: Ctx, kind: str) -> SectionFile:
    return SectionFile(ctx.node.store, f"etc/sdn/{kind}s.cfg", KINDS[kind])


def _running(ctx: Ctx, kind: str) -> dict[str, dict[str, str]]:
    text = ctx.node.store.read(RUNNING)
    found: dict[str, dict[str, str]] = json.loads(text).get(f"{kind}s", {}) if text else {}
    return found


def _flat(section: Section) -> dict[str, str]:
    return {"type": section.type, **section.options}


def _applied(file: SectionFile, kind: str, ident: str, options: dict[str, str]) -> dict[str, Any]:
    return {kind: ident, **file.typed(options)}


def _staged(file: SectionFile, kind: str, ident: str, now: dict[str, str], new: dict[str, str]) -> dict[str, Any]:
    """What runs, what is to come, and the state: new, changed, deleted, or none when both are the same."""
    row: dict[str, Any] = {kind: ident, "digest": None, **file.typed(now)}
    if not new:
        return {**row, "state": "deleted", "pending": {}}
    row.update({key: new[key] for key in ("type", "vnet") if key in new})
    pending: dict[str, Any] = file.typed(
        {k: v for k, v in new.items() if now.get(k) != v and k not in ("type", "vnet")}
    )
    pending.update(dict.fromkeys(set(now) - set(new), "deleted"))
    if not now:
        return {**row, "state": "new", "pending": pending}
    return {**row, "state": "changed", "pending": pending} if pending else row


def _rows(ctx: Ctx, kind: str) -> list[dict[str, Any]]:
    file, running = _file(ctx, kind), _running(ctx, kind)
    staged = {ident: _flat(section) for ident, section in file.load().items()}
    if ctx.params.get("running"):
        return [_applied(file, kind, ident, options) for ident, options in sorted(running.items())]
    if ctx.params.get("pending"):
        names = sorted({*staged, *running})
        return [_staged(file, kind, name, running.get(name, {}), staged.get(name, {})) for name in names]
    digest = file.digest()
    return [{**_applied(file, kind, ident, options), "digest": digest} for ident, options in sorted(staged.items())]


def _one(ctx: Ctx, kind: str, ident: str) -> dict[str, Any]:
    row = next((row for row in _rows(ctx, kind) if row[kind] == ident), None)
    if row is None:
        raise ApiError(f"sdn {kind} '{ident}' does not exist")
    return row


def _check_lock(ctx: Ctx) -> None:
    held = ctx.node.store.read(LOCK).strip()
    if held and ctx.params.get("lock-token") != held:
        raise ApiError("invalid lock token provided!")


def _create(ctx: Ctx, kind: str, section_type: str, ident: str) -> None:
    _check_lock(ctx)
    taken = f"create sdn {kind} object failed: sdn {kind} object ID '{ident}' already defined"
    _file(ctx, kind).create(section_type, ident, ctx.params, taken=taken, skip={kind, "type", *_CONTROL})


def _update(ctx: Ctx, kind: str, ident: str) -> None:
    _check_lock(ctx)
    missing = ApiError(f"sdn {kind} '{ident}' does not exist")
    _file(ctx, kind).update(ident, ctx.params, missing=missing, skip={kind, "type", *_CONTROL})


def _delete(ctx: Ctx, kind: str, ident: str) -> None:
    _check_lock(ctx)
    _file(ctx, kind).delete(ident, missing=ApiError(f"sdn {kind} '{ident}' does not exist"))


@route("GET", "/cluster/sdn")
async def sdn_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"id": name} for name in ("vnets", "zones", "controllers", "ipams", "dns", "fabrics")]


@route("PUT", "/cluster/sdn")
async def apply(ctx: Ctx) -> str:
    """Make everything staged the running configuration."""
    _check_lock(ctx)
    everything = {f"{kind}s": {i: _flat(s) for i, s in _file(ctx, kind).load().items()} for kind in KINDS}
    ctx.node.store.write(RUNNING, json.dumps(everything, indent=1, sort_keys=True) + "\n")
    if ctx.params.get("release-lock", True):
        ctx.node.store.remove(LOCK)

    async def work(task: Task) -> None:
        task.log(f"{ctx.node.name}: reloading network config")

    return ctx.start_task("reloadnetworkall", "", work)


@route("POST", "/cluster/sdn/lock")
async def lock(ctx: Ctx) -> str:
    """Keep others from changing anything until the token is handed back."""
    if ctx.node.store.exists(LOCK):
        raise ApiError("configuration is already locked, hand in the lock token or release the lock")
    pending = any("state" in row for kind in KINDS for row in _pending(ctx, kind))
    if pending and not ctx.params.get("allow-pending"):
        raise ApiError("configuration has pending changes")
    token = secrets.token_hex(16)
    ctx.node.store.write(LOCK, f"{token}\n")
    return token


def _pending(ctx: Ctx, kind: str) -> list[dict[str, Any]]:
    return _rows(Ctx(ctx.node, ctx.user, {"pending": True}), kind)


@route("DELETE", "/cluster/sdn/lock")
async def unlock(ctx: Ctx) -> None:
    """Release the lock; ``force`` does without the token."""
    if not ctx.params.get("force"):
        _check_lock(ctx)
    ctx.node.store.remove(LOCK)


@route("POST", "/cluster/sdn/rollback")
async def rollback(ctx: Ctx) -> None:
    """Forget everything staged."""
    _check_lock(ctx)
    for kind in KINDS:
        sections = {}
        for ident, options in _running(ctx, kind).items():
            left = {key: as_text(value) for key, value in options.items() if key != "type"}
            sections[ident] = Section(options["type"], ident, left)
        _file(ctx, kind).save(sections)
    if ctx.params.get("release-lock", True):
        ctx.node.store.remove(LOCK)


# zones ----------------------------------------------------------------------------------------------------------------


@route("GET", "/cluster/sdn/zones")
async def zones(ctx: Ctx) -> list[dict[str, Any]]:
    """Zones the caller may see."""
    rows = [row for row in _rows(ctx, "zone") if ctx.params.get("type") in (None, row["type"])]
    return [row for row in rows if ctx.may(f"/sdn/zones/{row['zone']}", ["SDN.Audit", "SDN.Allocate"], any_of=True)]


@route("GET", "/cluster/sdn/zones/{zone}")
async def zone(ctx: Ctx) -> dict[str, Any]:
    """One zone."""
    return _one(ctx, "zone", ctx.params["zone"])


@route("POST", "/cluster/sdn/zones")
async def create_zone(ctx: Ctx) -> None:
    """A zone; vlan and qinq need a bridge, vxlan its peers."""
    kind = ctx.params["type"]
    needed = {"vlan": ("bridge",), "qinq": ("bridge", "tag"), "vxlan": ("peers",), "evpn": ("controller", "vrf-vxlan")}
    missing = [name for name in needed.get(kind, ()) if name not in ctx.params]
    if missing:
        raise ParamError(dict.fromkeys(missing, "property is missing and it is not optional"))
    _create(ctx, "zone", kind, ctx.params["zone"])


@route("PUT", "/cluster/sdn/zones/{zone}")
async def update_zone(ctx: Ctx) -> None:
    """Change a zone."""
    _update(ctx, "zone", ctx.params["zone"])


@route("DELETE", "/cluster/sdn/zones/{zone}")
async def delete_zone(ctx: Ctx) -> None:
    """Remove a zone without VNets."""
    _check_lock(ctx)
    name = ctx.params["zone"]
    used = next((i for i, s in _file(ctx, "vnet").load().items() if s.options.get("zone") == name), None)
    if used:
        raise ApiError(f"delete sdn zone object failed: zone {name} is used by vnet {used}")
    _delete(ctx, "zone", name)


# VNets ----------------------------------------------------------------------------------------------------------------


@route("GET", "/cluster/sdn/vnets")
async def vnets(ctx: Ctx) -> list[dict[str, Any]]:
    """VNets the caller may see."""
    return [row for row in _rows(ctx, "vnet") if _may_see(ctx, row)]


def _may_see(ctx: Ctx, row: dict[str, Any]) -> bool:
    zone_id = row.get("zone") or row.get("pending", {}).get("zone", "")
    return ctx.may(f"/sdn/zones/{zone_id}/{row['vnet']}", ["SDN.Audit", "SDN.Allocate"], any_of=True)


@route("GET", "/cluster/sdn/vnets/{vnet}")
async def vnet(ctx: Ctx) -> dict[str, Any]:
    """One VNet."""
    return _one(ctx, "vnet", ctx.params["vnet"])


def _check_zone(ctx: Ctx) -> None:
    name = ctx.params.get("zone")
    if name is not None and name not in _file(ctx, "zone").load():
        raise ApiError(f"sdn zone '{name}' does not exist")


@route("POST", "/cluster/sdn/vnets")
async def create_vnet(ctx: Ctx) -> None:
    """A VNet in a zone."""
    _check_zone(ctx)
    _create(ctx, "vnet", "vnet", ctx.params["vnet"])


@route("PUT", "/cluster/sdn/vnets/{vnet}")
async def update_vnet(ctx: Ctx) -> None:
    """Change a VNet."""
    _check_zone(ctx)
    _update(ctx, "vnet", ctx.params["vnet"])


@route("DELETE", "/cluster/sdn/vnets/{vnet}")
async def delete_vnet(ctx: Ctx) -> None:
    """Remove a VNet without subnets."""
    _check_lock(ctx)
    name = ctx.params["vnet"]
    if any(s.options.get("vnet") == name for s in _file(ctx, "subnet").load().values()):
        raise ApiError(f"delete sdn vnet object failed: can't delete vnet {name} if subnets exist")
    _delete(ctx, "vnet", name)


# subnets --------------------------------------------------------------------------------------------------------------


def _subnet_id(ctx: Ctx) -> str:
    text = str(ctx.params["subnet"])
    if "/" not in text:
        return text
    section = _file(ctx, "vnet").load().get(ctx.params["vnet"])
    if section is None:
        raise ApiError(f"sdn vnet '{ctx.params['vnet']}' does not exist")
    return f"{section.options.get('zone', '')}-{text.replace('/', '-')}"


@route("GET", "/cluster/sdn/vnets/{vnet}/subnets")
async def subnets(ctx: Ctx) -> list[dict[str, Any]]:
    """Subnets of a VNet."""
    return [row for row in _rows(ctx, "subnet") if row.get("vnet") == ctx.params["vnet"]]


@route("GET", "/cluster/sdn/vnets/{vnet}/subnets/{subnet}")
async def subnet(ctx: Ctx) -> dict[str, Any]:
    """One subnet."""
    return _one(ctx, "subnet", _subnet_id(ctx))


@route("POST", "/cluster/sdn/vnets/{vnet}/subnets")
async def create_subnet(ctx: Ctx) -> None:
    """A subnet of a VNet."""
    _create(ctx, "subnet", "subnet", _subnet_id(ctx))


@route("PUT", "/cluster/sdn/vnets/{vnet}/subnets/{subnet}")
async def update_subnet(ctx: Ctx) -> None:
    """Change a subnet."""
    ident = _subnet_id(ctx)
    ctx.params.pop("vnet", None)
    _update(ctx, "subnet", ident)


@route("DELETE", "/cluster/sdn/vnets/{vnet}/subnets/{subnet}")
async def delete_subnet(ctx: Ctx) -> None:
    """Remove a subnet."""
    _delete(ctx, "subnet", _subnet_id(ctx))
