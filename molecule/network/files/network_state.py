# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what the network of a host is, file and runtime, as JSON in which equal networks give equal texts."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

LINK = ("mtu", "master", "link", "address", "operstate")
DETAIL = ("vlan_filtering", "vlan_default_pvid", "stp_state", "forward_delay", "mode", "active_slave", "id", "state")
ROUTE = ("dst", "gateway", "dev", "metric", "prefsrc", "scope", "type")


def asked(*argv: str) -> list[dict[str, Any]]:
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return found


def link_of(row: dict[str, Any]) -> dict[str, Any]:
    info = row.get("linkinfo", {})
    data = {**info.get("info_data", {}), **info.get("info_slave_data", {})}
    return {
        "up": "UP" in row["flags"],
        "kind": info.get("info_kind", "card"),
        "addresses": sorted(f"{a['local']}/{a['prefixlen']} {a['scope']}" for a in row.get("addr_info", [])),
        **{k: row.get(k) for k in LINK},
        **{k: data[k] for k in DETAIL if k in data},
    }


def files() -> dict[str, str]:
    here = Path("/etc/network")
    mine = [here / "interfaces", *sorted((here / "interfaces.d").glob("*"))]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in mine if p.is_file()}


def state() -> dict[str, Any]:
    routes = [r for family in ("-4", "-6") for r in asked("ip", "-j", family, "route", "show")]
    return {
        "files": files(),
        "left over": sorted(p.name for p in Path("/etc/network").iterdir() if p.name.startswith((".", "interfaces."))),
        "links": {row["ifname"]: link_of(row) for row in asked("ip", "-j", "-d", "address", "show")},
        "vlans": {row["ifname"]: row.get("vlans", []) for row in asked("bridge", "-j", "vlan", "show")},
        "routes": sorted(" ".join(str(r.get(k, "")) for k in ROUTE) for r in routes),
    }


if __name__ == "__main__":
    print(json.dumps(state(), sort_keys=True))
