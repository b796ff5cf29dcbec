# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a host as one flat state: what the file says ("file.vmbr0.mtu") and what runs ("live.vmbr0.mtu").

``interfaces`` are the items of the module's option. A field that an item does not give is not managed, but for what
makes a new interface whole. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .interfaces import Edit, Interfaces, canonical
from .state import State

Item = Mapping[str, Any]
CONDONE = "^(tap|veth|fwpr)"
"""Ports that Proxmox VE plugs in at run time. Without this option ifupdown2 of Debian takes them off the bridge at
each reload; the build of Proxmox VE has a default of its own, with which this does not collide."""
_GUEST_PORT = re.compile(r"(tap|veth|fwpr|fwln)")
PORTS = {"bridge": "bridge-ports", "bond": "bond-slaves", "ovs_bridge": "ovs_ports", "ovs_bond": "ovs_bonds"}
OVS = {"ovs_bridge": "OVSBridge", "ovs_bond": "OVSBond", "ovs_port": "OVSPort", "ovs_int_port": "OVSIntPort"}
PLAIN = {
    "mtu": "mtu",
    "bond_mode": "bond-mode",
    "bond_hash": "bond-xmit-hash-policy",
    "bond_miimon": "bond-miimon",
    "vlan_device": "vlan-raw-device",
    "vlan_id": "vlan-id",
    "ovs_on": "ovs_bridge",
    "ovs_options": "ovs_options",
}
_NUMBERS = frozenset({"mtu", "bond_miimon", "vlan_id"})
_LIVE = frozenset({"address", "gateway", "gateway6", "mtu", "ports", "vlan_aware", "vids", *PLAIN})
_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")


def wanted_item(item: Item) -> State:
    """The file's fields of one item, in canonical form."""
    if item["state"] == "absent":
        return {"present": False}
    kind = item["type"]
    want: State = {k: item[k] for k in (*PLAIN, "gateway", "gateway6", "comment", "method") if item[k] is not None}
    for key in ("address", "ports"):
        if item[key] is not None:
            want[key] = sorted(normal_address(a) for a in item[key]) if key == "address" else sorted(item[key])
    if item["vids"] is not None:
        want["vids"] = ranges(numbers(item["vids"]))
    if item["method"] is None and item["address"] is not None:
        want["method"] = "static" if any(":" not in a for a in item["address"]) else "manual"
    auto = item["autostart"] if item["autostart"] is not None else (None if kind == "eth" else True)
    want.update({"present": True, "autostart": auto, "vlan_aware": item["vlan_aware"]})
    if kind == "bridge":
        want["condone"] = True
    if kind in OVS:
        want["ovs_type"] = OVS[kind]
    want.update({f"options.{k}": v for k, v in named(item).items()})
    return want


def wanted(interfaces: Sequence[Item]) -> State:
    """The whole state: the file's side, and the live side of every field that the kernel shows."""
    state: State = {}
    for item in interfaces:
        name, mine = item["name"], wanted_item(item)
        state.update({f"file.{name}.{k}": v for k, v in mine.items()})
        if item["type"] == "eth" and not mine["present"]:
            continue
        shown = {k: v for k, v in mine.items() if k in _LIVE and not k.startswith("ovs")}
        if item["type"] in OVS:
            shown.pop("ports", None)
        if not item["ports"]:
            shown.pop("vids", None)
        if "vids" in shown:
            shown["vids"] = ranges(numbers(mine["vids"]) - {1})
        shown.update({k: v for k, v in mine.items() if k.startswith("options.") and v})
        state.update({f"live.{name}.{k}": v for k, v in shown.items()})
        if item["type"] != "eth" and (not mine["present"] or mine["autostart"]):
            state[f"live.{name}.present"] = mine["present"]
    return state


def in_file(file: Interfaces, item: Item) -> State:
    """The fields that a file has for the interface of an item."""
    name, kind = item["name"], item["type"]
    first = dict(reversed(file.options(name)))
    found: State = {"present": bool(file.of(name))}
    for key, option in PLAIN.items():
        value = first.get(canonical(option), "")
        found[key] = int(value) if key in _NUMBERS and value.isdecimal() else value
    found["bond_mode"] = _mode(str(found["bond_mode"]))
    methods = [s.method for s in file.of(name) if s.family in ("inet", "")]
    gateways = file.values(name, "gateway")
    found.update(
        {
            "address": sorted(normal_address(a) for a in file.addresses(name)),
            "gateway": next((g for g in gateways if ":" not in g), ""),
            "gateway6": next((g for g in gateways if ":" in g), ""),
            "ports": sorted(p for p in first.get(canonical(PORTS.get(kind, "")), "").split() if p != "none"),
            "vlan_aware": first.get("bridge-vlan-aware", "no") in ("yes", "1", "on"),
            "vids": ranges(numbers(first.get("bridge-vids", "").split())),
            "autostart": file.is_auto(name),
            "comment": "\n".join(file.comments(name)),
            "method": methods[0] or "static" if methods else "manual",
            "condone": "bridge-ports-condone-regex" in first,
            "ovs_type": first.get("ovs-type", ""),
        }
    )
    return {**found, **{f"options.{k}": v for k, v in first.items()}}


def live(
    item: Item,
    links: Mapping[str, Item],
    vlans: Mapping[str, set[int]],
    routes: Sequence[Item],
    unlike: Mapping[str, str],
) -> State:
    """The fields that run, from ``ip -j -d address``, ``bridge -j vlan`` and ``ip -j route show default``. ``unlike``
    are the options of the item that run otherwise than the file says; of the others nothing else is known.
    """
    name = item["name"]
    link = links.get(name)
    if link is None:
        return {"present": False}
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    own = [a for a in link.get("addr_info", []) if a.get("scope") != "link" and not a.get("temporary")]
    ports = sorted(n for n, x in links.items() if x.get("master") == name and not _GUEST_PORT.match(n))
    gates = [str(r["gateway"]) for r in routes if r.get("dev") == name and "gateway" in r]
    tagged = [vlans.get(p, set()) for p in ports]
    return {
        "present": True,
        "address": sorted(normal_address(f"{a['local']}/{a['prefixlen']}") for a in own),
        "gateway": next((g for g in gates if ":" not in g), ""),
        "gateway6": next((g for g in gates if ":" in g), ""),
        "mtu": link.get("mtu"),
        "ports": ports,
        "vlan_aware": bool(data.get("vlan_filtering", 0)),
        "vids": ranges(set.intersection(*tagged) - {1}) if tagged else [],
        "bond_mode": data.get("mode", ""),
        "bond_hash": data.get("xmit_hash_policy", "") if info.get("info_kind") == "bond" else "",
        "bond_miimon": data.get("miimon"),
        "vlan_device": link.get("link", "") if info.get("info_kind") == "vlan" else "",
        "vlan_id": data.get("id") if info.get("info_kind") == "vlan" else None,
        **{f"options.{k}": unlike.get(k, str(v)) for k, v in named(item).items()},
    }


def edited(file: Interfaces, interfaces: Sequence[Item]) -> Interfaces:
    """The file as the items want it."""
    for item in interfaces:
        gone = item["state"] == "absent"
        file = file.without(item["name"]) if gone else file.edited(item["name"], _edit(file, item))
    return file


def _edit(file: Interfaces, item: Item) -> Edit:
    kind, have = item["type"], in_file(file, item)
    want = {k: v for k, v in wanted_item(item).items() if v is not None and have.get(k) != v}
    options: dict[str, list[str]] = {PLAIN[k]: _one(v) for k, v in want.items() if k in PLAIN}
    if kind in PORTS and ("ports" in want or (not have["present"] and kind == "bridge")):
        options[PORTS[kind]] = _one(" ".join(item["ports"] or []) or ("none" if kind == "bridge" else ""))
    if "vlan_aware" in want:
        options["bridge-vlan-aware"] = ["yes"] if want["vlan_aware"] else []
    if "vids" in want:
        options["bridge-vids"] = _one(" ".join(want["vids"]))
    if kind == "bridge" and not have["present"]:
        options.update({"bridge-stp": ["off"], "bridge-fd": ["0"]})
    if want.get("condone"):
        options["bridge-ports-condone-regex"] = [CONDONE]
    if "ovs_type" in want:
        options["ovs_type"] = [want["ovs_type"]]
    options.update({k: _one(str(v)) for k, v in (item["options"] or {}).items() if f"options.{canonical(k)}" in want})
    gates = [want.get(k, have[k]) for k in ("gateway", "gateway6")]
    return Edit(
        options=options,
        addresses=[normal_address(a) for a in item["address"]] if "address" in want else None,
        gateways=[g for g in gates if g] if {"gateway", "gateway6"} & set(want) else None,
        method=want.get("method"),
        auto=want.get("autostart"),
        comments=want["comment"].split("\n") if want.get("comment") else ([] if "comment" in want else None),
    )


def named(item: Item) -> dict[str, str]:
    """The further options of an item, by their canonical names."""
    return {canonical(k): str(v) for k, v in (item["options"] or {}).items()}


def numbers(vids: Iterable[str]) -> set[int]:
    """["2-4", "10"] → {2, 3, 4, 10}. What is no number or range gives nothing here; the linter names it."""
    found: set[int] = set()
    for part in vids:
        if re.fullmatch(r"\d{1,5}(-\d{1,5})?", str(part)):
            low, _none, high = str(part).partition("-")
            found.update(range(int(low), int(high or low) + 1))
    return found


def ranges(vids: set[int]) -> list[str]:
    """{2, 3, 4, 10} → ["2-4", "10"]."""
    found: list[tuple[int, int]] = []
    for vid in sorted(vids):
        if found and found[-1][1] == vid - 1:
            found[-1] = (found[-1][0], vid)
        else:
            found.append((vid, vid))
    return [str(low) if low == high else f"{low}-{high}" for low, high in found]


def normal_address(text: str) -> str:
    """An address as the kernel writes it; what is none comes back as it is, for the linter to name."""
    try:
        return str(ipaddress.ip_interface(text)) if "/" in text else text
    except ValueError:
        return text


def _mode(mode: str) -> str:
    return _MODES[int(mode)] if mode.isdecimal() and int(mode) < len(_MODES) else mode


def _one(value: Any) -> list[str]:
    return [str(value)] if str(value) else []
