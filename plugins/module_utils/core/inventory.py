# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as hosts: their names, variables, addresses and groups, out of what the cluster tells of them. Pure.

A guest is a dictionary as ``guest_inventory.survey`` gives it and a cache keeps it: ``vmid``, ``kind`` ("qemu" or
"lxc"), ``name``, ``node``, ``status``, ``tags``, ``pool``, ``template``, ``lock``, and where they were asked for
``config``, ``agent``, ``agent_interfaces`` and ``qmpstatus``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from typing import Any, TypeAlias

from . import propstring
from .guest_codec import parse_config
from .state import unflatten
from .steps import Failure

Guest = Mapping[str, Any]
Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

GROUPINGS = ("kind", "node", "pool", "tag", "status", "ostype")
# Bridges and ends of containers inside a guest: nobody reaches the guest by them.
INNER = ("lo", "docker*", "br-*", "veth*", "virbr*", "cni*", "flannel*", "cali*", "podman*", "lxcbr*", "lxdbr*")


@dataclass(frozen=True)
class Preference:
    """Which of a guest's addresses is to be used. ``networks`` leaves the others out; order is preference in both."""

    families: tuple[str, ...] = ("ipv4", "ipv6")
    networks: tuple[Network, ...] = ()
    ignored: tuple[str, ...] = INNER


def preference(families: Sequence[str], networks: Sequence[str], ignored: Sequence[str]) -> Preference:
    """The options, checked. Raises Failure."""
    try:
        parsed = tuple(ip_network(text, strict=False) for text in networks)
    except ValueError as error:
        raise Failure(f"address_networks: {error}. Give networks such as 192.0.2.0/24.") from error
    return Preference(tuple(families), parsed, tuple(ignored))


def names(guests: Iterable[Guest]) -> tuple[dict[int, str], list[str]]:
    """The name of each guest as a host, by id, and warnings. Guests of one name all get their id behind it.

    A guest without a name is called by its kind and id.
    """
    own = {int(g["vmid"]): str(g["name"] or f"{g['kind']}-{g['vmid']}") for g in guests}
    shared = {name: [i for i in sorted(own) if own[i] == name] for name, n in Counter(own.values()).items() if n > 1}
    told = [
        f"{len(ids)} guests are called '{name}'; as hosts they are {', '.join(f'{name}-{i}' for i in ids)}."
        for name, ids in sorted(shared.items())
    ]
    return {i: f"{name}-{i}" if name in shared else name for i, name in own.items()}, told


def tags(text: object) -> list[str]:
    """Tags as Proxmox VE writes them ("a;b", "a,b", "a b") → sorted."""
    return sorted(set(filter(None, re.split(r"[;,\s]+", str(text or "")))))


def settled(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A guest's configuration, structured: of a virtual machine by the names that the options of ``vm`` have."""
    if kind == "qemu":
        return unflatten(parse_config(config))
    return {key: _parts(key, value) for key, value in config.items()}


def _parts(key: str, value: Any) -> Any:
    """A container's property strings as dictionaries; what is none as it is."""
    if not re.fullmatch(r"rootfs|mp\d+|net\d+|dev\d+|features", key):
        return tags(value) if key == "tags" else value
    try:
        return propstring.parse(str(value), "volume")
    except ValueError:
        return value


def agent_enabled(guest: Guest) -> bool:
    """Whether a guest has been given an agent, as far as its configuration says."""
    agent = (guest.get("config") or {}).get("agent")
    return bool(agent.get("enabled")) if isinstance(agent, Mapping) else bool(agent)


def interfaces(answer: Any) -> list[dict[str, Any]]:
    """The answer of …/agent/network-get-interfaces, or of a container's …/interfaces: cards with their addresses."""
    cards = answer.get("result") if isinstance(answer, Mapping) else answer
    if not isinstance(cards, list):
        return []
    return [
        {
            "name": str(card.get("name", "")),
            "mac-address": str(card.get("hardware-address") or card.get("hwaddr") or "").lower(),
            "ip-addresses": list(_addresses_of(card)),
        }
        for card in cards
        if isinstance(card, Mapping)
    ]


def _addresses_of(card: Mapping[str, Any]) -> Iterator[str]:
    for entry in card.get("ip-addresses") or []:
        yield f"{entry['ip-address']}/{entry['prefix']}" if "prefix" in entry else str(entry["ip-address"])
    if not card.get("ip-addresses"):
        # Containers of Proxmox VE before 8.4 name at most one address of each family.
        yield from (str(card[key]) for key in ("inet", "inet6") if card.get(key))


def address(guest: Guest, preferred: Preference) -> str | None:
    """The address to reach a guest by: of those that it has, else of those that it was given at its making."""
    for candidates in (_seen(guest, preferred.ignored), _given(guest)):
        usable = [a for a in candidates if _is_usable(a) and f"ipv{a.version}" in preferred.families]
        ranked = sorted((rank, i, a) for i, a in enumerate(usable) if (rank := _rank(a, preferred)) is not None)
        if ranked:
            return str(ranked[0][2])
    return None


def _rank(found: Address, preferred: Preference) -> tuple[int, int] | None:
    family = preferred.families.index(f"ipv{found.version}")
    if not preferred.networks:
        return (0, family)
    within = [i for i, network in enumerate(preferred.networks) if found in network]
    return (within[0], family) if within else None


def _seen(guest: Guest, ignored: Iterable[str]) -> Iterator[Address]:
    patterns = tuple(ignored)
    for card in guest.get("agent_interfaces") or []:
        if not any(fnmatchcase(card["name"], pattern) for pattern in patterns):
            yield from _parsed(card["ip-addresses"])


def _given(guest: Guest) -> Iterator[Address]:
    """What cloud-init or a container's configuration sets; "dhcp" and "auto" are no addresses."""
    config = guest.get("config") or {}
    what = "ipconfig" if guest["kind"] == "qemu" else "net"
    for slot in sorted(int(key.removeprefix(what)) for key in config if re.fullmatch(rf"{what}\d+", key)):
        values = config[f"{what}{slot}"]
        if isinstance(values, Mapping):
            yield from _parsed(str(values[key]) for key in ("ip", "ip6") if values.get(key))


def _parsed(texts: Iterable[str]) -> Iterator[Address]:
    for text in texts:
        try:
            yield ip_interface(text).ip
        except ValueError:
            continue


def _is_usable(found: Address) -> bool:
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)


def variables(guest: Guest, prefix: str) -> dict[str, Any]:
    """The variables of a guest as a host, without ``ansible_host``."""
    return {f"{prefix}{key}": value for key, value in guest.items()}


def groups(guest: Guest, by: Iterable[str], prefix: str) -> list[str]:
    """The groups that a guest belongs to: "proxmox_node_pve1", "proxmox_tag_web", …"""
    config = guest.get("config") or {}
    values: dict[str, list[Any]] = {
        "kind": [guest["kind"]],
        "node": [guest["node"]],
        "pool": [guest["pool"]],
        "tag": list(guest["tags"]),
        "status": [guest["status"]],
        "ostype": [config.get("ostype")],
    }
    return [safe(f"{prefix}{what}_{value}") for what in by for value in values[what] if value]


def safe(name: str) -> str:
    """A group's name out of any text: "web-1" → "web_1"."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def kept(filters: Sequence[str | Mapping[str, str]], holds: Callable[[str], bool]) -> bool:
    """Whether a guest passes the filters, in their order: a plain condition has to hold; of ``include`` and ``exclude``
    the first that holds decides. ``holds`` evaluates a condition. Raises Failure for a filter that is none."""
    for entry in filters:
        if isinstance(entry, str):
            if not holds(entry):
                return False
        elif isinstance(entry, Mapping) and len(entry) == 1 and set(entry) <= {"include", "exclude"}:
            # As it is: a copy of the text would lose what makes Ansible trust it.
            ((verdict, condition),) = entry.items()
            if holds(condition):
                return verdict == "include"
        else:
            raise Failure(f"filters: {entry!r} is neither a condition nor one of include and exclude with a condition.")
    return True


def is_ours(path: str, text: str, plugin: str) -> bool:
    """Whether a file is an inventory source of this plugin: it says so, or says nothing and is named so."""
    if not path.endswith((".yml", ".yaml")):
        return False
    named = re.search(r"^plugin\s*:\s*[\"']?([\w.]+)[\"']?\s*(?:#.*)?$", text, re.MULTILINE)
    if named:
        return named[1] == plugin
    return path.endswith(("guests.proxmox.yml", "guests.proxmox.yaml", "pvelab.yml", "pvelab.yaml"))
