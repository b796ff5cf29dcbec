# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs that make a guest of one name at the same moment: both see both, and one guest is left.

Each run removes only the guest that it has made itself a moment ago, and the run with the lower id waits for the other
one to do so. If that does not happen, because the other guest was made by hand or by a run that is over, it gives way.
Whoever has given way looks again and goes on with the guest that it finds, or makes it once more if there is none.
"""

from __future__ import annotations

from typing import Any

from .core.fleet_entries import Entry
from .core.reconcile import Resource, reconcile
from .fleet_plan import removal
from .reads import online_nodes

# How long the run with the lower id waits for the other one to see it, too.
PATIENCE_S = 20.0


def settle(crew: Any, resource: Resource, view: Any, entry: Entry, own: int) -> None:
    """Return when this run's guest is the only one of its name, or is gone. Raises Failure."""
    name = str(entry.params["name"])
    give_way = crew.kept.clock() + PATIENCE_S
    while True:
        view.look_again()
        ids = _ids(view, name)
        if own not in ids or ids == [own]:
            return
        if own != ids[0] or crew.kept.clock() >= give_way or crew.bell.rung():
            break
        crew.bell.pause(0.5)
    others = ", ".join(str(vmid) for vmid in ids if vmid != own)
    view.warnings.append(f"{name} was made by somebody else at the same moment, as {others}; {own} was removed again.")
    reconcile(resource, view, removal(entry.params, own))
    view.look_again()


def _ids(view: Any, name: str) -> list[int]:
    """The guests of this name, as their nodes tell."""
    lists = [view.get(f"/nodes/{node}/qemu") for node in online_nodes(view)]
    return sorted(int(row["vmid"]) for rows in lists for row in rows if row.get("name") == name)
