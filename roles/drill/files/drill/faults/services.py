# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the services through which a node is asked and told."""

from __future__ import annotations

from shlex import quote

from .. import shell, signs
from ..node import Node
from ..plan import Plan
from .fault import Fault, Prepare, Skip

# In the order in which they are started again. Never pve-guests: to stop it is to stop every guest.
SERVICES = ("pvestatd", "pvedaemon", "pveproxy")


def control_plane(plan: Plan, _node: Node) -> Fault:
    """The node's API services are stopped; its guests are to notice nothing."""
    asked = [str(name) for name in plan.options.get("services") or SERVICES]
    there = [name for name in asked if shell.unit(name, "ActiveState").get("ActiveState") == "active"]
    if not there:
        raise Skip(f"none of {', '.join(asked)} runs on this host")
    return Fault(
        targets=tuple(f"service {name}" for name in there),
        inject="systemctl stop " + " ".join(quote(name) for name in reversed(there)),
        undo="\n".join(f"systemctl start {quote(name)}" for name in there),
        signs=(signs.silent(),),
        outage=False,
    )


KINDS: dict[str, Prepare] = {"control_plane_down": control_plane}
