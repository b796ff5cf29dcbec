# SPDX-License-Identifier: GPL-3.0-or-later
"""That each guest is heard before anything is broken, and afterwards what became of what it had acknowledged."""

from __future__ import annotations

from collections.abc import Mapping

from . import canary, site
from .canary import Heard
from .node import Node
from .plan import Plan
from .pulses import agent
from .shell import Trouble

# So many signs of life before the fault show that a guest is heard at all.
HEARD = 3
Found = tuple[list[int], list[int]]


def deaf(plan: Plan, heard: Mapping[int, Heard]) -> str:
    """What to do about the guests that were not heard; nothing where all were."""
    silent = {vmid: heard[vmid] for vmid in plan.listed if len(heard[vmid].acks) < HEARD}
    within = f"was not heard three times in {plan.limits.baseline_s + plan.limits.answer_s:g} s"
    found = []
    if ports := [vmid for vmid in silent if plan.pulse(vmid).by == "serial"]:
        found.append(
            f"the canary of guest {', '.join(map(str, ports))} {within} on {plan.place('serial', ports[0])}: is"
            " somebody else at its console, does it run a canary, is baseline_s long enough for its pace?"
        )
    for vmid in [vmid for vmid in silent if vmid not in ports]:
        why = silent[vmid].trouble or "is baseline_s long enough?"
        asked = "its agent" if plan.pulse(vmid).by == "agent" else plan.pulse(vmid).address
        found.append(f"guest {vmid} {within} through {asked}: {why}")
    return "; ".join(found)


def disks(plan: Plan, node: Node, heard: Mapping[int, Heard]) -> tuple[dict[int, Found], dict[int, str]]:
    """Each guest's acknowledged writes that are missing and that are damaged, and why that is not known of a guest.
    Of an opaque guest it is not even asked."""
    found: dict[int, Found] = {}
    why: dict[int, str] = {}
    for vmid in plan.known_by("serial", "agent"):
        acks = list(heard[vmid].acks)
        try:
            found[vmid] = canary.judge(acks, _disk(plan, node, vmid))
        except Trouble as trouble:
            why[vmid] = str(trouble)
    return found, why


def _disk(plan: Plan, node: Node, vmid: int) -> canary.OnDisk:
    if plan.pulse(vmid).by == "agent":
        return agent.read_back(plan, node, vmid)
    return canary.read_disk(site.disk(plan, node, vmid), plan.home)


def clear(plan: Plan, node: Node, heard: Mapping[int, Heard] | None = None) -> list[str]:
    """Take away what was written into guests through their agents; a line for each in which it may still be.
    ``heard``: what was heard of them, where that is known: of one in which nothing was written there is nothing."""
    left = []
    for vmid in plan.known_by("agent"):
        if heard is not None and not (heard[vmid].acks or heard[vmid].touched):
            continue
        try:
            agent.remove(plan, node, vmid)
        except Trouble as why:
            left.append(f"guests: {agent.file(plan, vmid)} may still be in guest {vmid} ({why})")
    return left
