# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults: each kind is a function from a plan to what is to be broken, and how it is undone.

A new kind is a function in one of these files with its name in ``KINDS`` there. It looks and decides; it changes
nothing. What it returns is text for /bin/sh, which ``--check`` shows and the host runs.
"""

from __future__ import annotations

from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from . import (
    api,
    chains,
    clock,
    config,
    guests,
    memory,
    network,
    pools,
    processors,
    reboot,
    services,
    storage,
    uplinks,
)
from .fault import Fault

KINDS = {
    **guests.KINDS,
    **storage.KINDS,
    **pools.KINDS,
    **chains.KINDS,
    **network.KINDS,
    **uplinks.KINDS,
    **services.KINDS,
    **config.KINDS,
    **reboot.KINDS,
    **api.KINDS,
    **clock.KINDS,
    **processors.KINDS,
    **memory.KINDS,
}


def prepare(plan: Plan, node: Node) -> Fault:
    """The fault of a plan. Raises Skip where it cannot be made on this host, Trouble where the plan is wrong."""
    if plan.kind not in KINDS:
        raise Trouble(f"there is no fault {plan.kind}; there is {', '.join(sorted(KINDS))}")
    fault = KINDS[plan.kind](plan, node)
    for sign in (*fault.signs, *fault.eased):
        if sign.writes_of is not None and plan.pulse(sign.writes_of).by == "opaque":
            raise Trouble(
                f"guest {sign.writes_of} is opaque, and nothing of its writes is known; {plan.drill['name']} shows in"
                f' "{sign.name}", so it needs a guest with a canary or an agent'
            )
    return fault
