# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/network: look at, stage, apply and revert the node's network (pve-manager, API2/Network.pm)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.network.interfaces import Iface, Interfaces, kind_of
from labnode.route import Answer, Ctx, route
from labnode.schema.formats import split_list
from labnode.tasks import Task

# Parameters that steer a request and are no settings of the interface.
_CONTROL = {"node", "iface", "delete", "digest", "regenerate-frr"}
_BRIDGES = ("bridge", "OVSBridge")
_GROUPS = {
    "any_bridge": _BRIDGES,
    "any_local_bridge": _BRIDGES,
    "include_sdn": _BRIDGES,
    "vnet": (),
    "fabric": (),
}


def _shown(ctx: Ctx, name: str, iface: Iface) -> Iface:
    return {**iface, "active": 1} if ctx.node.network.active(name, iface) else iface


def _may_see(ctx: Ctx, name: str, iface: Iface) -> bool:
    """A bridge shows to those who may audit or use it, or a VLAN of it (``check_sdn_bridge`` of pve-access-control)."""
    if ctx.is_root or iface["type"] not in _BRIDGES:
        return True
    path = f"/sdn/zones/localnetwork/{name}"
    vlans = {key.path for key in ctx.node.auth.cfg.acl if key.path.startswith(f"{path}/")}
    return any(ctx.may(place, ["SDN.Audit", "SDN.Use"], any_of=True) for place in (path, *vlans))


@route("GET", "/nodes/{node}/network")
async def interfaces(ctx: Ctx) -> Answer:
    """Interfaces as staged, or as in force when nothing is staged; ``changes`` is the diff between the two."""
    wanted = ctx.params.get("type")
    kinds = _GROUPS.get(wanted, (wanted,)) if wanted else None
    shown, live = ctx.node.network.shown().ifaces, ctx.node.network.live().ifaces
    # Proxmox VE has no order here; what is staged comes first, because people look for it.
    rows = [
        {"iface": name, **_shown(ctx, name, shown[name])}
        for name in sorted(shown, key=lambda n: (shown[n] == live.get(n), shown[n]["priority"]))
        if name != "lo" and (kinds is None or shown[name]["type"] in kinds) and _may_see(ctx, name, shown[name])
    ]
    changes = ctx.node.network.changes()
    return Answer(rows, changes=changes) if changes else Answer(rows)


@route("GET", "/nodes/{node}/network/{iface}")
async def interface(ctx: Ctx) -> Iface:
    """One interface."""
    name = ctx.params["iface"]
    return _shown(ctx, name, _existing(ctx.node.network.shown(), name))


@route("POST", "/nodes/{node}/network")
async def create(ctx: Ctx) -> None:
    """Stage a new interface."""
    name = ctx.params["iface"]
    async with ctx.node.network.staging() as content:
        if name in content.ifaces:
            raise ParamError({"iface": "interface already exists"})
        settings = _settings(ctx.params)
        _check_gateways(content, name, settings)
        content.add(name, {**settings, **_methods(settings)})
        _start_ports(content, settings)


@route("PUT", "/nodes/{node}/network/{iface}")
async def update(ctx: Ctx) -> None:
    """Stage a change. What carries no address becomes manual: this is not a patch."""
    name = ctx.params["iface"]
    async with ctx.node.network.staging() as content:
        iface = _existing(content, name)
        for key in split_list(ctx.params.get("delete", "")):
            for also in _belongs_to(key):
                iface.pop(also, None)
        settings = _settings(ctx.params)
        _check_gateways(content, name, settings)
        iface.update(settings)
        iface.update(_methods(settings))
        _start_ports(content, iface)


@route("DELETE", "/nodes/{node}/network/{iface}")
async def remove(ctx: Ctx) -> None:
    """Stage the removal of an interface; a port leaves the bridges and bonds that had it."""
    name = ctx.params["iface"]
    async with ctx.node.network.staging() as content:
        _existing(content, name)
        del content.ifaces[name]
        for iface in content.ifaces.values():
            for key in ("bridge_ports", "slaves", "ovs_ports", "ovs_bonds"):
                if name in str(iface.get(key, "")).split():
                    iface[key] = " ".join(p for p in str(iface[key]).split() if p != name)


@route("DELETE", "/nodes/{node}/network")
async def revert(ctx: Ctx) -> None:
    """Forget what is staged."""
    await ctx.node.network.revert()


@route("PUT", "/nodes/{node}/network")
async def apply(ctx: Ctx) -> str:
    """Put what is staged in force."""

    async def worker(_task: Task) -> None:
        await ctx.node.network.apply()
        await ctx.node.switch.follow()

    return ctx.start_task("srvreload", "networking", worker)


def _existing(content: Interfaces, name: str) -> Iface:
    if name not in content.ifaces:
        raise ParamError({"iface": "interface does not exist"})
    return content.ifaces[name]


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as the file holds them: text, with address and mask joined."""
    given = {k: v for k, v in params.items() if k not in _CONTROL}
    settings: dict[str, Any] = {k: int(v) if isinstance(v, bool) else str(v) for k, v in given.items()}
    for flag in ("autostart", "bridge_vlan_aware"):
        if settings.get(flag) == 0:
            settings[flag] = None
    if "comments" in settings:
        settings["comments"] = settings["comments"].rstrip("\n") + "\n"
    for suffix in ("", "6"):
        _join_address(settings, suffix)
    return settings


def _join_address(settings: dict[str, Any], suffix: str) -> None:
    cidr, address, mask = (settings.get(f"{k}{suffix}") for k in ("cidr", "address", "netmask"))
    if not cidr and not address:
        if settings.get(f"gateway{suffix}"):
            raise ParamError({f"gateway{suffix}": "a gateway needs an address on the same interface"})
        return
    text = cidr or (f"{address}/{mask}" if mask else address)
    try:
        whole = ip_interface(str(text))
    except ValueError:
        raise ParamError({f"cidr{suffix}" if cidr else f"netmask{suffix}": f"'{text}' is not an address"}) from None
    if cidr and address and str(whole.ip) != address:
        raise ParamError({f"address{suffix}": f"address '{address}' contradicts cidr '{cidr}'"})
    prefix = whole.network.prefixlen
    joined = {"address": str(whole.ip), "netmask": str(prefix), "cidr": f"{whole.ip}/{prefix}"}
    settings.update({f"{key}{suffix}": value for key, value in joined.items()})


def _methods(settings: Mapping[str, Any]) -> dict[str, Any]:
    v6 = bool(settings.get("address6"))
    return {
        "method": "static" if settings.get("address") else "manual",
        "method6": "static" if v6 else "manual",
        "families": ["inet", "inet6"] if v6 else ["inet"],
    }


def _check_gateways(content: Interfaces, name: str, settings: Mapping[str, Any]) -> None:
    for key in ("gateway", "gateway6"):
        other = next((n for n, i in content.ifaces.items() if n != name and i.get(key)), None)
        if settings.get(key) and other:
            raise ParamError({key: f"Default gateway already exists on interface '{other}'."})


def _start_ports(content: Interfaces, settings: Mapping[str, Any]) -> None:
    """Slaves of a bond come up with it."""
    for slave in str(settings.get("slaves") or "").split():
        if slave not in content.ifaces:
            raise ApiError(f"bond - unable to find slave '{slave}'")
        if kind_of(slave, content.ifaces[slave]) == "eth":
            content.ifaces[slave]["autostart"] = 1


def _belongs_to(key: str) -> tuple[str, ...]:
    """What goes with a setting: an address is three keys."""
    suffix = "6" if key.endswith("6") else ""
    if key.removesuffix("6") in ("cidr", "address", "netmask"):
        return tuple(f"{k}{suffix}" for k in ("cidr", "address", "netmask"))
    return (key,)
