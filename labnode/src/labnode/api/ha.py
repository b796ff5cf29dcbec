# SPDX-License-Identifier: GPL-3.0-or-later
"""/cluster/ha: resources, rules and status (pve-ha-manager, API2/HA). One node: nothing is ever fenced or moved."""

from __future__ import annotations

from typing import Any

from labnode.errors import ApiError
from labnode.ha import RESOURCES, sid_of
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.sections import SectionFile

_MIGRATED = "ha groups have been migrated to rules"


def _resources(ctx: Ctx) -> SectionFile:
    return SectionFile(ctx.node.store, RESOURCES, "/cluster/ha/resources")


def _rules(ctx: Ctx) -> SectionFile:
    return SectionFile(ctx.node.store, "etc/ha/rules.cfg", "/cluster/ha/rules")


@route("GET", "/cluster/ha")
async def ha_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"id": name} for name in ("status", "resources", "groups", "rules")]


def _shown(file: SectionFile, ident: str) -> dict[str, Any]:
    section = file.load()[ident]
    sid = f"{section.type}:{section.id}"
    return {**file.typed(section.options), "sid": sid, "type": section.type, "digest": file.digest()}


@route("GET", "/cluster/ha/resources")
async def ha_resources(ctx: Ctx) -> list[dict[str, Any]]:
    """Managed guests."""
    file = _resources(ctx)
    wanted = ctx.params.get("type")
    return [_shown(file, s.id) for s in file.load().values() if wanted in (None, s.type)]


def _known(ctx: Ctx) -> tuple[SectionFile, str]:
    sid = sid_of(ctx.params["sid"])
    file, ident = _resources(ctx), sid.partition(":")[2]
    if ident not in file.load():
        raise ApiError(f"no such resource '{sid}'")
    return file, ident


@route("GET", "/cluster/ha/resources/{sid}")
async def ha_resource(ctx: Ctx) -> dict[str, Any]:
    """One managed guest."""
    return _shown(*_known(ctx))


@route("POST", "/cluster/ha/resources")
async def add_resource(ctx: Ctx) -> None:
    """Manage a guest."""
    sid = sid_of(ctx.params["sid"])
    kind, _, ident = sid.partition(":")
    if ctx.params.get("type", kind) != kind:
        raise ApiError("types does not match")
    if "group" in ctx.params:
        raise ApiError(f"invalid parameter 'group': {_MIGRATED}")
    if kind != "vm" or not ident.isdecimal() or not ctx.node.guests.exists(int(ident)):
        raise ApiError(f"cannot add '{sid}': there is no such guest on this cluster")
    taken = f"create resource failed: resource ID '{sid}' already defined"
    params = {"state": "started", **ctx.params}
    _resources(ctx).create(kind, ident, params, taken=taken, skip={"sid", "type"})


@route("PUT", "/cluster/ha/resources/{sid}")
async def change_resource(ctx: Ctx) -> None:
    """Change what is asked of a managed guest."""
    sid = sid_of(ctx.params["sid"])
    missing = ApiError(f"no such resource '{sid}'")
    _resources(ctx).update(sid.partition(":")[2], ctx.params, missing=missing, skip={"sid", "type"})


@route("DELETE", "/cluster/ha/resources/{sid}")
async def drop_resource(ctx: Ctx) -> None:
    """Manage a guest no longer, and (with ``purge``) take it out of the rules."""
    sid = sid_of(ctx.params["sid"])
    missing = ApiError(f"cannot delete service '{sid}', not HA managed!")
    _resources(ctx).delete(sid.partition(":")[2], missing=missing)
    if not ctx.params.get("purge", True):
        return
    rules = _rules(ctx)
    known = rules.load()
    for ident, rule in list(known.items()):
        left = [item for item in split_list(rule.options.get("resources", "")) if item != sid]
        rule.options["resources"] = ",".join(left)
        if not left:
            del known[ident]
    if known != rules.load():
        rules.save(known)


@route("GET", "/cluster/ha/groups")
async def groups(ctx: Ctx) -> None:
    """Refused: groups are rules since Proxmox VE 9."""
    raise ApiError(f"cannot index groups: {_MIGRATED}")


@route("POST", "/cluster/ha/groups")
async def add_group(ctx: Ctx) -> None:
    """Refused: groups are rules since Proxmox VE 9."""
    raise ApiError(f"cannot create group: {_MIGRATED}")


@route("GET", "/cluster/ha/groups/{group}")
async def group(ctx: Ctx) -> None:
    """Refused: groups are rules since Proxmox VE 9."""
    raise ApiError(f"cannot read group: {_MIGRATED}")


@route("PUT", "/cluster/ha/groups/{group}")
async def change_group(ctx: Ctx) -> None:
    """Refused: groups are rules since Proxmox VE 9."""
    raise ApiError(f"cannot update group: {_MIGRATED}")


@route("DELETE", "/cluster/ha/groups/{group}")
async def drop_group(ctx: Ctx) -> None:
    """Refused: groups are rules since Proxmox VE 9."""
    raise ApiError(f"cannot delete group: {_MIGRATED}")


# rules ----------------------------------------------------------------------------------------------------------------


def _rule(file: SectionFile, ident: str) -> dict[str, Any]:
    section = file.load()[ident]
    shown = {"rule": ident, "type": section.type, **file.typed(section.options)}
    return {**shown, "digest": file.digest()}


@route("GET", "/cluster/ha/rules")
async def ha_rules(ctx: Ctx) -> list[dict[str, Any]]:
    """Where managed guests should and should not run."""
    file = _rules(ctx)
    kind, sid = ctx.params.get("type"), ctx.params.get("resource")
    rows = [_rule(file, ident) for ident in file.load()]
    rows = [row for row in rows if kind in (None, row["type"])]
    return [row for row in rows if sid is None or sid_of(sid) in split_list(row.get("resources", ""))]


@route("GET", "/cluster/ha/rules/{rule}")
async def ha_rule(ctx: Ctx) -> dict[str, Any]:
    """One rule."""
    file = _rules(ctx)
    if ctx.params["rule"] not in file.load():
        raise ApiError(f"no such ha rule '{ctx.params['rule']}'")
    return _rule(file, ctx.params["rule"])


def _check_rule(ctx: Ctx) -> None:
    managed = {f"{s.type}:{s.id}" for s in _resources(ctx).load().values()}
    strange = [sid for sid in map(sid_of, split_list(ctx.params.get("resources", ""))) if sid not in managed]
    if strange:
        raise ApiError(f"cannot use unmanaged resource(s) {', '.join(strange)}.")
    nodes = [name.partition(":")[0] for name in split_list(ctx.params.get("nodes", ""))]
    unknown = [name for name in nodes if name != ctx.node.name]
    if unknown:
        raise ApiError(f"cannot use non-existent node(s) {', '.join(unknown)}.")


@route("POST", "/cluster/ha/rules")
async def add_rule(ctx: Ctx) -> None:
    """A rule of type node-affinity or resource-affinity."""
    _check_rule(ctx)
    ident = ctx.params["rule"]
    taken = f"HA rule '{ident}' already defined"
    _rules(ctx).create(ctx.params["type"], ident, ctx.params, taken=taken, skip={"rule", "type"})


@route("PUT", "/cluster/ha/rules/{rule}")
async def change_rule(ctx: Ctx) -> None:
    """Change a rule."""
    _check_rule(ctx)
    ident = ctx.params["rule"]
    missing = ApiError(f"HA rule '{ident}' does not exist")
    _rules(ctx).update(ident, ctx.params, missing=missing, skip={"rule", "type"})


@route("DELETE", "/cluster/ha/rules/{rule}")
async def drop_rule(ctx: Ctx) -> None:
    """Remove a rule; one that is not there is no error."""
    file = _rules(ctx)
    known = file.load()
    if known.pop(ctx.params["rule"], None):
        file.save(known)


# status ---------------------------------------------------------------------------------------------------------------


@route("GET", "/cluster/ha/status")
async def status_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": "current"}, {"name": "manager_status"}]


@route("GET", "/cluster/ha/status/current")
async def status_current(ctx: Ctx) -> list[dict[str, Any]]:
    """Quorum, fencing and each managed guest."""
    name = ctx.node.name
    rows: list[dict[str, Any]] = [
        {"id": "quorum", "type": "quorum", "node": name, "status": "OK", "quorate": 1},
        {
            "id": "fencing",
            "type": "fencing",
            "node": name,
            "status": "standby (CRM watchdog standby)",
            "armed-state": "standby",
        },
    ]
    file = _resources(ctx)
    for section in file.load().values():
        sid = f"{section.type}:{section.id}"
        state = "started" if ctx.node.guests.running(int(section.id)) else "stopped"
        asked = section.options.get("state", "started")
        shown = {key: value for key, value in file.typed(section.options).items() if key != "state"}
        row = {"id": f"service:{sid}", "type": "service", "sid": sid, "node": name, "state": state}
        rows.append({**shown, **row, "request_state": asked, "status": f"{sid} ({name}, {state})"})
    return rows


@route("GET", "/cluster/ha/status/manager_status")
async def manager_status(ctx: Ctx) -> dict[str, Any]:
    """The manager's view in full."""
    return {
        "manager_status": {"node_status": {}, "service_status": {}},
        "lrm_status": {},
        "quorum": {"node": ctx.node.name, "quorate": 1},
    }
