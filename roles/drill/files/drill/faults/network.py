# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's connection, made at its tap on the host."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

from .. import shell, signs, site
from ..node import Node
from ..plan import Plan, where
from ..shell import Trouble
from .fault import Fault, Prepare, Skip


def _pairs(plan: Plan) -> list[tuple[int, str]]:
    if not plan.reach:
        raise Trouble(
            f"drill {plan.drill['name']} needs reach in its drill_targets: a guest that reaches an address of a victim"
            " now ({from: 101, to: 10.10.10.12}), for without it nobody would notice"
        )
    return [(int(pair["from"]), where(pair)) for pair in plan.reach]


def wrong_vlan(plan: Plan, _node: Node) -> Fault:
    """A guest's port is on another VLAN than it should be. Nothing logs it."""
    vlan = int(plan.options.get("vlan") or 99)
    taps = [site.tap(plan, vmid) for vmid in plan.victims]
    inject, undo = [], []
    for tap in taps:
        bridge = site.NET / tap / "master"
        if (
            not (bridge / "bridge/vlan_filtering").exists()
            or (bridge / "bridge/vlan_filtering").read_text().strip() == "0"
        ):
            raise Skip(f"{tap} is on no bridge that knows VLANs")
        before = site.vlans(tap)
        inject += [f"bridge vlan del dev {tap} vid {_span(row)}" for row in before]
        inject.append(f"bridge vlan add dev {tap} vid {vlan} pvid untagged")
        undo.append(_if_there(tap, _put_back(tap, vlan, before)))
    return Fault(
        targets=tuple(f"VLANs of {tap}" for tap in taps),
        inject="\n".join(inject),
        undo="\n".join(undo),
        signs=tuple(signs.unreached(source, address) for source, address in _pairs(plan)),
        outage=False,
    )


def _put_back(tap: str, vlan: int, before: list[dict[str, Any]]) -> list[str]:
    # What the port has anyway is only given its flags again, so that a rehearsal takes nothing away for a moment.
    had = any(row["vlan"] <= vlan <= row.get("vlanEnd", row["vlan"]) for row in before)
    lines = [] if had else [f"bridge vlan del dev {tap} vid {vlan} 2>/dev/null || true"]
    for row in before:
        flags = {"PVID": "pvid", "Egress Untagged": "untagged"}
        words = " ".join(flags[flag] for flag in row.get("flags", []) if flag in flags)
        lines.append(f"bridge vlan add dev {tap} vid {_span(row)} {words}".rstrip())
    return lines


def _span(row: dict[str, Any]) -> str:
    """One VLAN, or a trunk's many in a row."""
    return f"{row['vlan']}-{row['vlanEnd']}" if "vlanEnd" in row else str(row["vlan"])


def _if_there(tap: str, lines: list[str]) -> str:
    """A guest that was restarted meanwhile has a new tap, and one that is stopped has none."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"if [ -e {site.NET}/{tap} ]; then\n{body}\nfi"


def port_lost(plan: Plan, _node: Node) -> Fault:
    """A guest's port is taken off its bridge, as a careless reload of the network does."""
    taps = [site.tap(plan, vmid) for vmid in plan.victims]
    inject, undo = [], []
    for tap in taps:
        master = site.NET / tap / "master"
        if not (master / "bridge").is_dir():
            raise Skip(f"{tap} is on no bridge of the kernel")
        bridge = master.resolve().name
        inject.append(f"ip link set dev {tap} nomaster")
        back = [f"[ -e {site.NET}/{tap}/master ] || ip link set dev {tap} master {quote(bridge)}"]
        if (master / "bridge/vlan_filtering").read_text(encoding="ascii").strip() == "1":
            rows = site.vlans(tap)
            back += _put_back(tap, _default_vlan(master), rows)
        undo.append(_if_there(tap, back))
    return Fault(
        targets=tuple(f"port {tap}" for tap in taps),
        inject="\n".join(inject),
        undo="\n".join(undo),
        signs=tuple(signs.unreached(source, address) for source, address in _pairs(plan)),
        outage=False,
    )


def _default_vlan(master: Path) -> int:
    """What a bridge gives a new port, which was not there before it was put back."""
    return _number(master / "bridge/default_pvid")


def small_mtu(plan: Plan, _node: Node) -> Fault:
    """A guest's port takes smaller packets than its neighbours send. What is greater vanishes without a word."""
    mtu, taps = int(plan.options.get("mtu") or 1300), [site.tap(plan, vmid) for vmid in plan.victims]
    _pairs(plan)
    before = {tap: _number(site.NET / tap / "mtu") for tap in taps}
    sizes = [int(pair["size"]) + HEADERS for pair in plan.reach if pair.get("size")]
    if not sizes or len(sizes) == len(plan.reach):
        raise Trouble(
            f"drill {plan.drill['name']} needs two kinds of reach in its drill_targets, one as it is and one with a"
            " size ({from: 101, to: 10.10.10.12, size: 1400}), for only what is big is lost"
        )
    # With less the kernel takes a bridge's own IPv6 addresses away, and does not give them back.
    if not LEAST_MTU <= mtu < min(sizes) or max(sizes) > min(before.values(), default=0):
        raise Trouble(
            f"the option mtu of the fault {plan.kind} is {mtu}; it has to be {LEAST_MTU} or more, and each size in"
            f" reach, with {HEADERS} bytes of headers, above it and no more than the"
            f" {min(before.values(), default=0)} of today"
        )
    undo = [
        [f'[ "$(cat {site.NET}/{tap}/mtu)" = {was} ] || ip link set dev {tap} mtu {was}'] for tap, was in before.items()
    ]
    return Fault(
        targets=tuple(f"MTU of {tap}, {mtu} instead of {was}" for tap, was in before.items()),
        inject="\n".join(f"ip link set dev {tap} mtu {mtu}" for tap in taps),
        undo="\n".join(_if_there(tap, lines) for tap, lines in zip(taps, undo, strict=True)),
        signs=tuple(
            (signs.unreached if pair.get("size") else signs.reached)(int(pair["from"]), where(pair))
            for pair in plan.reach
        ),
        outage=False,
        looks={"MTUs": lambda: [line for tap in taps for line in _mtus(tap)]},
    )


# What IPv4 and ICMP have before the bytes of a ping.
HEADERS = 28
LEAST_MTU = 1280


def _mtus(tap: str) -> list[str]:
    """A port's and its bridge's, which goes with the smallest of its ports."""
    paths = (site.NET / tap, (site.NET / tap / "master").resolve())
    return [f"{path.name} {_number(path / 'mtu')}" for path in paths if (path / "mtu").exists()]


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def netem(plan: Plan, _node: Node) -> Fault:
    """A guest's line becomes long, and loses packets."""
    delay, loss = int(plan.options.get("delay_ms") or 200), float(plan.options.get("loss_percent") or 0)
    taps = [site.tap(plan, vmid) for vmid in plan.victims]
    for tap in taps:
        rows = json.loads(shell.run(["tc", "-j", "qdisc", "show", "dev", tap]) or "[]")
        own = [row["kind"] for row in rows if row.get("root") and row["kind"] not in DEFAULT_QDISCS]
        if own:
            raise Skip(f"{tap} has a queue of its own ({', '.join(own)}), which this fault would take away")
    how = f"delay {delay}ms" + (f" loss {loss:g}%" if loss else "")
    return Fault(
        targets=tuple(f"{tap}: {how}" for tap in taps),
        # The module may be built in; where it is neither, tc says so.
        inject="\n".join(["modprobe sch_netem || true", *(f"tc qdisc add dev {tap} root netem {how}" for tap in taps)]),
        undo="\n".join(
            f"! tc qdisc show dev {tap} 2>/dev/null | grep -q netem || tc qdisc del dev {tap} root" for tap in taps
        ),
        signs=tuple(signs.far(source, address, 0.8 * delay) for source, address in _pairs(plan)),
        outage=False,
    )


# What the kernel gives a device by itself, and gives it again when another is taken away.
DEFAULT_QDISCS = frozenset({"noqueue", "pfifo_fast", "fq_codel", "mq"})

KINDS: dict[str, Prepare] = {
    "wrong_vlan": wrong_vlan,
    "port_lost": port_lost,
    "small_mtu": small_mtu,
    "slow_network": netem,
}
