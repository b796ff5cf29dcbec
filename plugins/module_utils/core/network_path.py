# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a guest's packets through its host, from what ``ip -j -d address`` and ``bridge -j vlan`` show. Pure.

Names are those of Proxmox VE: tapVMIDiN is the guest's end; with the firewall on, it is on fwbrVMIDiN, which the pair
fwlnVMIDiN - fwprVMIDpN joins to the bridge. On a bridge that tells no VLANs apart, a VLAN is a bridge of its own over
an interface PORT.VLAN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .networks import ranges
from .steps import Failure

Links = Mapping[str, Any]


def follow(vmid: int, nic: str, links: Links, vlan_rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{path, reaches_wire, ends}. Raises Failure for a name that is no network card of a guest."""
    found = re.fullmatch(r"net(\d{1,2})", nic)
    if not found:
        raise Failure(f"{nic!r} is no network card of a guest; name one as in net0.")
    tables = {r["ifname"]: r.get("vlans", []) for r in vlan_rows}
    tap, number = f"tap{vmid}i{found[1]}", found[1]
    if tap not in links:
        return _end([], False, f"{tap} is not there: guest {vmid} does not run, or has no {nic}.")
    path = [_hop(links, tables, tap)]
    bridge = links[tap].get("master")
    if not links[tap].get("master"):
        return _end(path, False, f"{tap} is on no bridge: something has unplugged it. Stop and start the guest.")
    entry = tap
    if bridge == f"fwbr{vmid}i{number}":
        path += [_hop(links, tables, n) for n in (bridge, f"fwln{vmid}i{number}") if n in links]
        entry = f"fwpr{vmid}p{number}"
        if entry not in links or not links[entry].get("master"):
            return _end(path, False, f"{entry}, which joins {bridge} to the guest's bridge, is on no bridge.")
        path.append(_hop(links, tables, entry))
        bridge = links[entry]["master"]
    path.append(_hop(links, tables, bridge))
    if not path[-1]["up"]:
        return _end(path, False, f"{bridge} is down.")
    return _outwards(path, links, tables, bridge, entry)


def _outwards(
    path: list[dict[str, Any]], links: Links, tables: Mapping[str, Any], bridge: str, entry: str
) -> dict[str, Any]:
    """From a bridge to the wire, over the first of its ports that carries the VLAN."""
    aware = links[bridge].get("linkinfo", {}).get("info_data", {}).get("vlan_filtering")
    guest = ("tap", "veth", "fwpr", "fwln")
    ports = [n for n, x in links.items() if x.get("master") == bridge and not n.startswith(guest)]
    if not ports:
        return _end(
            path, False, f"{bridge} has no port that leads out: the guest reaches this host and its guests only."
        )
    vlan = _pvid(tables.get(entry, []))
    if aware and vlan is None:
        return _end(path, False, f"{entry} has no VLAN for what comes without a tag, so {bridge} drops it.")
    carrying = [p for p in ports if not aware or vlan in _vids(tables.get(p, []))]
    if not carrying:
        names = ", ".join(sorted(ports))
        return _end(path, False, f"no port of {bridge} that leads out carries VLAN {vlan} ({names}).")
    return _down(path, links, tables, sorted(carrying)[0])


def _down(path: list[dict[str, Any]], links: Links, tables: Mapping[str, Any], port: str) -> dict[str, Any]:
    """Through VLANs and bonds to a card."""
    seen: set[str] = set()
    while port not in seen:
        seen.add(port)
        path.append(_hop(links, tables, port))
        kind = path[-1]["kind"]
        if not path[-1]["up"]:
            return _end(path, False, f"{port} is down.")
        if kind == "vlan":
            port = str(links[port].get("link", ""))
            if port not in links:
                return _end(path, False, f"what {path[-1]['name']} is on is not there.")
        elif kind == "bond":
            slaves = sorted(n for n, x in links.items() if x.get("master") == port)
            alive = [s for s in slaves if _up(links[s])]
            if not alive:
                return _end(path, False, f"bond {port} has no port with a link ({', '.join(slaves) or 'it has none'}).")
            port = str(links[port].get("linkinfo", {}).get("info_data", {}).get("active_slave") or alive[0])
        elif kind == "bridge":
            return _outwards(path, links, tables, port, path[-2]["name"])
        else:
            break
    return _end(path, True, f"it leaves the host by {port}.")


def _hop(links: Links, tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    link = links[name]
    info = link.get("linkinfo", {})
    hop = {"name": name, "kind": info.get("info_kind", "card"), "up": _up(link)}
    if name in tables:
        hop.update({"vlans": ranges(_vids(tables[name])), "pvid": _pvid(tables[name])})
    if hop["kind"] == "vlan":
        hop["vlan"] = info.get("info_data", {}).get("id")
    return hop


def _up(link: Mapping[str, Any]) -> bool:
    return "UP" in link.get("flags", []) and link.get("operstate") not in ("DOWN", "LOWERLAYERDOWN")


def _vids(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    return {v for r in rows for v in range(r["vlan"], r.get("vlanEnd", r["vlan"]) + 1)}


def _pvid(rows: Sequence[Mapping[str, Any]]) -> int | None:
    return next((int(r["vlan"]) for r in rows if "PVID" in r.get("flags", [])), None)


def _end(path: list[dict[str, Any]], wire: bool, why: str) -> dict[str, Any]:
    return {"path": path, "reaches_wire": wire, "ends": why}
