# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the host's own connection: a leg of a bond, and the address at which the host is managed."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from shlex import quote
from typing import Any

from .. import shell, signs, site
from ..node import Node
from ..plan import Plan, where
from ..shell import Trouble
from ..signs import Sign
from .fault import Fault, Prepare, Skip
from .hogs import each
from .services import goes_on

# For how long the kernel may take to see that a leg is up again, in tenths of a second.
UP_TRIES = 150


# a bond -----------------------------------------------------------------------------------------------------------


def member_lost(plan: Plan, _node: Node) -> Fault:
    """The leg of a bond over which everything goes is down; another one carries it from then on."""
    bond = _bond(plan)
    legs = _read(bond / "bonding/slaves").split()
    up = [leg for leg in legs if _mii(leg) == "up"]
    active = _read(bond / "bonding/active_slave") if (bond / "bonding/active_slave").exists() else ""
    leg = str(plan.options.get("member") or active or (legs or [""])[-1])
    if leg not in up or len(up) < 2:
        raise Trouble(
            f"{leg or 'nothing'} is to go down, and of {bond.name} {', '.join(up) or 'nothing'} is up; have that"
            " leg and another one up first, or name one with the option member"
        )
    watched = ("bonding/miimon", "bonding/arp_interval")
    if not any((bond / name).exists() and _read(bond / name) != "0" for name in watched):
        raise Trouble(
            f"{bond.name} does not watch its links (miimon and arp_interval are 0), and would go on sending where"
            " nothing is; give it bond-miimon 100"
        )
    before = int(_read(site.NET / leg / "bonding_slave/link_failure_count"))
    return Fault(
        targets=(f"{leg} of {bond.name}, of which {', '.join(up)} are up",),
        inject=f"ip link set dev {quote(leg)} down",
        undo=_leg_back(bond, leg, active),
        signs=(
            _left(bond, leg, before),
            *(signs.reached(int(pair["from"]), where(pair)) for pair in plan.reach),
            *(goes_on(vmid) for vmid in plan.listed),
        ),
        outage=False,
        whole=lambda: _is_up(bond, leg),
        looks={f"legs of {bond.name}": lambda: _legs(bond)},
    )


def _bond(plan: Plan) -> Path:
    """The bond that the option names, else the only one that there is. Raises Skip where there is none."""
    found = sorted(path.parent.name for path in site.NET.glob("*/bonding"))
    wanted = str(plan.options.get("bond") or "".join(found[:1]))
    if not found:
        raise Skip("there is no bond on this host, so no leg of one can be lost")
    if wanted not in found or (len(found) > 1 and not plan.options.get("bond")):
        raise Trouble(f"there is {', '.join(found)} on this host; name one of them with the option bond")
    return site.NET / wanted


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _mii(leg: str) -> str:
    try:
        return _read(site.NET / leg / "bonding_slave/mii_status")
    except OSError:
        return "gone"


def _is_up(bond: Path, leg: str) -> None:
    if (state := _mii(leg)) != "up":
        raise Trouble(f"{leg} of {bond.name} is {state}")


def _legs(bond: Path) -> list[str]:
    active = bond / "bonding/active_slave"
    found = [f"{leg} {_mii(leg)}" for leg in _read(bond / "bonding/slaves").split()]
    return [*found, f"active {_read(active)}"] if active.exists() else found


def _leg_back(bond: Path, leg: str, active: str) -> str:
    """Shell: the leg is up, and where it was the one in use, it is so again."""
    here, use = site.NET / leg, f"{bond}/bonding/active_slave"
    lines = [f"  ip link set dev {quote(leg)} up"]
    seen = f'[ "$(cat {here}/bonding_slave/mii_status)" = up ]'
    lines.append(f"  for _try in $(seq {UP_TRIES}); do {seen} && break; sleep 0.1; done")
    if leg == active:
        lines.append(f'  [ "$(cat {use})" = {quote(leg)} ] || echo {quote(leg)} > {use}')
    lines.append(f"  {seen}")
    return "\n".join([f"if [ -e {here} ]; then", *lines, "fi"])


def _left(bond: Path, leg: str, before: int) -> Sign:
    """The bond has noticed, and goes on without it."""

    def test(_seen: object, _since: float) -> str | None:
        try:
            count = int(_read(site.NET / leg / "bonding_slave/link_failure_count"))
            others = [name for name in _read(bond / "bonding/slaves").split() if name != leg and _mii(name) == "up"]
        except (OSError, ValueError):
            return None
        if _mii(leg) == "up" or count <= before or not others or _read(bond / "operstate") != "up":
            return None
        return f"{leg} is {_mii(leg)}, {bond.name} is up with {', '.join(others)}; {count - before} failure of the link"

    return Sign(f"{bond.name} goes on without {leg}", test)


# the host's address -----------------------------------------------------------------------------------------------


def management_lost(plan: Plan, _node: Node) -> Fault:
    """The address at which the host is managed is taken away, or is another one. Nobody gets in to put that right."""
    if shell.unit("corosync", "ActiveState").get("ActiveState") == "active":
        raise Skip("this node is one of a cluster (corosync runs), which would take it for dead, and fence it")
    row, device = _managed(plan)
    address = f"{row['local']}/{row['prefixlen']}"
    routes = [
        " ".join(word for word in line.split() if word not in ("linkdown", "dead"))
        for line in shell.run(["ip", "-4", "route", "show", "dev", device]).splitlines()
        # What the kernel makes of an address comes back with it; a default route may be "proto kernel", too.
        if "proto kernel scope link" not in line
    ]
    instead = str(plan.options.get("instead") or "")
    there = f"ip -4 -o addr show dev {device}"
    back = [f"{{ ! {there} | grep -qF ' {instead} ' || ip addr del {instead} dev {device}; }}"] if instead else []
    brd = f" brd {row['broadcast']}" if row.get("broadcast") else ""
    back.append(f"{{ {there} | grep -qF ' {address} ' || ip addr add {address}{brd} dev {device}; }}")
    shown = f"ip -4 route show dev {device}"
    back += [f"{{ {shown} | grep -qF '{line}' || ip -4 route replace {line} dev {device}; }}" for line in routes]
    put = [f"ip addr add {instead} dev {device}"] if instead else []
    return Fault(
        targets=(
            f"address {address} of {device}, {f'{instead} in its place' if instead else 'and nothing in its place'}",
        ),
        inject="\n".join([f"ip addr del {address} dev {device}", *put]),
        # A device that is gone cannot have its address back.
        undo=f"if [ -e {site.NET}/{device} ]; then\n{each(*back)}\nfi",
        signs=(_not_here(device, str(row["local"])), *(goes_on(vmid) for vmid in plan.listed)),
        outage=False,
        whole=lambda: _has(device, str(row["local"])),
        looks={f"addresses of {device}": lambda: _addresses(device)},
    )


def _managed(plan: Plan) -> tuple[dict[str, Any], str]:
    """The address that is taken away, as `ip -j addr` has it, and its device: what the options say, else what the
    default route leaves by. Raises Skip or Trouble where it could not be put back as it was."""
    device = str(plan.options.get("device") or _outward())
    rows = [row for row in _rows(device) if row.get("family") == "inet" and row.get("scope") == "global"]
    wanted = str(plan.options.get("address") or (rows[0]["local"] if rows else "an address"))
    row = next((row for row in rows if row["local"] == wanted.partition("/")[0]), None)
    if row is None:
        raise Trouble(f"{device} has no {wanted}; there is {', '.join(str(row['local']) for row in rows) or 'none'}")
    if row.get("dynamic"):
        raise Skip(f"{wanted} of {device} is a lease, and whoever keeps it (DHCP) would bring it back")
    network = ipaddress.ip_interface(f"{wanted.partition('/')[0]}/{row['prefixlen']}").network
    if others := [str(other["local"]) for other in rows if other != row and _in(other, network)]:
        raise Skip(f"{device} has {', '.join(others)} in {network}, too, and the kernel would take that away as well")
    return row, device


def _in(row: dict[str, Any], network: Any) -> bool:
    return ipaddress.ip_address(str(row["local"])) in network


def _outward() -> str:
    found = json.loads(shell.run(["ip", "-4", "-j", "route", "show", "default"]) or "[]")
    if not found:
        raise Trouble("this host has no default route; name the device that has its address with the option device")
    return str(found[0]["dev"])


def _rows(device: str) -> list[dict[str, Any]]:
    found = json.loads(shell.run(["ip", "-4", "-j", "addr", "show", "dev", device]) or "[]")
    return [row for link in found for row in link.get("addr_info", [])]


def _addresses(device: str) -> list[str]:
    """Addresses and routes, without what time changes."""
    found = [f"{row['local']}/{row['prefixlen']}" for row in _rows(device)]
    routes = shell.run(["ip", "-4", "route", "show", "dev", device]).splitlines()
    return [*found, *(" ".join(line.split()) for line in routes)]


def _has(device: str, address: str) -> None:
    if address not in [str(row["local"]) for row in _rows(device)]:
        raise Trouble(f"{device} does not have {address} back")


def _not_here(device: str, address: str) -> Sign:
    """The host does not answer to its own address any more."""

    def test(_seen: object, _since: float) -> str | None:
        try:
            now = [str(row["local"]) for row in _rows(device)]
        except Trouble:
            return None
        return f"{device} has {', '.join(now) or 'none'}" if address not in now else None

    return Sign(f"{address} is no address of this host any more", test)


KINDS: dict[str, Prepare] = {"bond_member_lost": member_lost, "management_lost": management_lost}
