# SPDX-License-Identifier: GPL-3.0-or-later
"""What ifupdown2 would accept and a host would regret, found before anything is written. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from .interfaces import Interfaces
from .networks import PORTS, named

Item = Mapping[str, Any]


def lint(
    interfaces: Sequence[Item],
    file: Interfaces,
    links: Mapping[str, Any],
    elsewhere: Mapping[str, str],
    *,
    keep: str | None,
    known_options: Collection[str],
) -> list[str]:
    """One sentence for each mistake. ``file`` is the candidate, ``links`` what runs, ``elsewhere`` maps interfaces to
    the sourced file that defines them, ``keep`` is the address by which the host is managed (None: not known), and
    ``known_options`` are what ifupdown2 takes in a stanza.
    """
    present = [i for i in interfaces if i["state"] == "present"]
    known = {*links, *elsewhere, *(n for n in file.names if _is_made(file, n))}
    found: list[str] = []
    for item in interfaces:
        found += _name(item, elsewhere)
    for item in present:
        found += [*_numbers(item), *_addresses(item, file), *_parts(item, known), *_ports(item, file, known)]
        found += _misspelt(item, known_options)
    return [
        *dict.fromkeys([*found, *_shared(file), *_doubled(file), *_gateways(file), *_management(file, links, keep)])
    ]


def _is_made(file: Interfaces, name: str) -> bool:
    """Whether a stanza makes the interface, rather than expecting a card of that name."""
    made = ("bridge-", "bond-", "vlan-", "ovs-", "link-type", "vxlan-")
    return "." in name or any(option.startswith(made) for option, _none in file.options(name))


def _name(item: Item, elsewhere: Mapping[str, str]) -> Iterator[str]:
    name = item["name"]
    if len(name) > 15:
        yield f"{name} has {len(name)} characters, and the kernel takes 15 at most; choose a shorter name."
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        yield f"{name!r} is no name for an interface; use letters, digits, '_', '.' and '-'."
    if name in elsewhere:
        yield f"{name} is defined in {elsewhere[name]}; change it there, or remove it from there first."


def _misspelt(item: Item, known_options: Collection[str]) -> Iterator[str]:
    """Other names may be meant for a script in if-up.d, so only what is nearly an option is a mistake."""
    for name in (k for k, v in named(item).items() if v and k not in known_options):
        meant = difflib.get_close_matches(name, sorted(known_options), 1, 0.8)
        if meant:
            yield f"ifupdown2 has no option {name} ({item['name']}), and would pass over it; {meant[0]} may be meant."


def _numbers(item: Item) -> Iterator[str]:
    name = item["name"]
    for vid in item["vids"] or []:
        ends = str(vid).split("-")
        whole = len(ends) <= 2 and all(re.fullmatch(r"\d{1,5}", e) and 1 <= int(e) <= 4094 for e in ends)
        if not whole or int(ends[0]) > int(ends[-1]):
            yield f"vids of {name} hold {vid!r}, and VLANs go from 1 to 4094; write them as 10 or 2-4094."
    if item["vlan_id"] is not None and not 1 <= item["vlan_id"] <= 4094:
        yield f"vlan_id of {name} is {item['vlan_id']}, and VLANs go from 1 to 4094."
    if item["mtu"] is not None and not 68 <= item["mtu"] <= 65535:
        yield f"mtu of {name} is {item['mtu']}; give 68 to 65535 bytes."


def _addresses(item: Item, file: Interfaces) -> Iterator[str]:
    name, subnets = item["name"], []
    for text in file.addresses(name):
        try:
            address = ipaddress.ip_interface(text)
        except ValueError:
            yield f"{text!r} of {name} is no address; write it as 192.0.2.10/24 or 2001:db8::10/64."
            continue
        if "/" not in text:
            yield f"{text} of {name} has no prefix length; write it as {text}/{24 if address.version == 4 else 64}."
        net = address.network
        if address.version == 4 and net.prefixlen < 31 and address.ip in (net.network_address, net.broadcast_address):
            yield f"{text} of {name} is the first or last address of its subnet, which no host can have."
        subnets.append(net)
    routed = {"pointopoint", "post-up", "up"} & {k for k, _none in file.options(name)}
    for gateway in file.values(name, "gateway"):
        try:
            hop = ipaddress.ip_address(gateway)
        except ValueError:
            yield f"gateway {gateway!r} of {name} is no address."
            continue
        near = [n for n in subnets if n.version == hop.version]
        if not (routed or hop.is_link_local or any(hop in n for n in near)):
            yield f"gateway {gateway} of {name} is in no subnet of its addresses, so it could not be reached."
        if gateway in {t.split("/")[0] for t in file.addresses(name)}:
            yield f"gateway {gateway} of {name} is its own address."
    if item["method"] == "dhcp" and item["address"]:
        yield f"{name} takes its address by DHCP and has addresses of its own; leave one of both away."


def _parts(item: Item, known: set[str]) -> Iterator[str]:
    name, kind = item["name"], item["type"]
    if kind == "vlan":
        device, tag = name.rpartition(".")[::2]
        if not (device and tag.isdecimal()) and not (item["vlan_device"] and item["vlan_id"]):
            yield f"vlan {name} does not say of what; give vlan_device and vlan_id, or a name such as eno1.10."
        if device and tag.isdecimal() and not 1 <= int(tag) <= 4094:
            yield f"vlan {name} has the tag {tag}, and VLANs go from 1 to 4094."
        under = item["vlan_device"] or device
        if under and under not in known:
            yield f"vlan {name} is to be on {under}, which the host does not have."
    if kind == "eth" and name not in known:
        yield f"{name} is not there; name a network card that the host has."
    if kind in ("ovs_port", "ovs_int_port", "ovs_bond") and item["ovs_on"] and item["ovs_on"] not in known:
        yield f"{name} is to be on the bridge {item['ovs_on']}, which the host does not have."
    if item["bond_hash"] and item["bond_mode"] not in (None, "balance-xor", "802.3ad", "balance-tlb"):
        yield f"bond_hash of {name} has no effect in mode {item['bond_mode']}; leave it away."


def _ports(item: Item, file: Interfaces, known: set[str]) -> Iterator[str]:
    name, kind = item["name"], item["type"]
    ports = _members(file, name)
    if kind in ("bond", "ovs_bond") and not ports:
        yield f"bond {name} has no ports; a bond needs one at least."
    for port in ports:
        if port == name:
            yield f"{name} is a port of itself."
        elif port not in known and port.rpartition(".")[0] not in known:
            yield f"{name} is to have the port {port}, which the host does not have."
        elif file.addresses(port) and kind in ("bridge", "bond"):
            yield f"{port} is to be a port of {name} and has an address, which would be dead; give it to {name}."


def _members(file: Interfaces, name: str) -> list[str]:
    rows = [v for option in PORTS.values() for v in file.values(name, option)]
    return [p for row in rows for p in row.split() if p not in ("none", "glob", "regex")]


def _shared(file: Interfaces) -> Iterator[str]:
    owner: dict[str, str] = {}
    for name in file.names:
        for port in _members(file, name):
            if owner.setdefault(port, name) != name:
                yield f"{port} is a port of {owner[port]} and of {name}; it can be in one only."


def _doubled(file: Interfaces) -> Iterator[str]:
    owner: dict[str, str] = {}
    for name in file.names:
        for text in file.addresses(name):
            address = text.split("/")[0]
            if owner.setdefault(address, name) != name:
                yield f"{owner[address]} and {name} both have the address {address}; give one of them another."


def _gateways(file: Interfaces) -> Iterator[str]:
    for version, colon in ((4, False), (6, True)):
        having = [n for n in file.names for g in file.values(n, "gateway") if (":" in g) is colon]
        if len(having) > 1:
            yield f"there would be {len(having)} default gateways for IPv{version} ({', '.join(having)}); keep one."


def _management(file: Interfaces, links: Mapping[str, Any], keep: str | None) -> Iterator[str]:
    """Only an address that a stanza gives now can get lost by the file; one from DHCP or elsewhere is left alone."""
    if keep is None:
        return
    holder = next((n for n, x in links.items() if keep in [a.get("local") for a in x.get("addr_info", [])]), None)
    kept = {a.split("/")[0] for n in file.names for a in file.addresses(n)}
    dynamic = holder is not None and any(s.method in ("dhcp", "auto") for s in file.of(holder))
    if holder and keep not in kept and not dynamic:
        yield (
            f"{keep}, by which this host is managed, would be gone from {holder}; keep it, or set "
            f"allow_management_change: true."
        )
