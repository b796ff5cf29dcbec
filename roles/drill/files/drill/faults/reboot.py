# SPDX-License-Identifier: GPL-3.0-or-later
"""The host itself goes down and comes back: in order, or as without power."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any

from .. import clock, signs, site
from ..node import Node
from ..plan import Plan
from ..recorder import Recorder
from ..shell import Trouble
from .fault import Fault, Prepare, Skip

BOOT_ID, SYSRQ = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/sysrq-trigger")
# Files of the run that the inject writes, for the host has forgotten by then what it was.
BOOT, AUTOSTART = "boot-id.txt", "autostart.txt"
HOW = {
    # The runner is a service, too, and is told to end with all the others.
    "clean": "systemctl reboot",
    # What was acknowledged to the runner is on the disk; what guests were told is theirs to keep.
    "crash": "sync --data {acks}; echo b > {sysrq}",
}


def reboot(plan: Plan, node: Node) -> Fault:
    """The host boots anew; guests that are to start with it do, in their order, and the others stay off."""
    if plan.supervisor != "systemd":
        raise Skip("there is no systemd, so nobody would go on with the drill after the boot")
    how = str(plan.options.get("how") or "clean")
    if how not in HOW:
        raise Trouble(f"a host goes down in one of these ways: {', '.join(HOW)}; the drill's option how is {how}")
    order = _order(plan, node)
    if not order:
        raise Trouble("no victim has onboot: 1, so after a boot there would be none to wait for; set it on one of them")
    inject = (
        f"cp {BOOT_ID} {quote(str(plan.home / BOOT))}",
        f"echo {' '.join(map(str, order))} > {quote(str(plan.home / AUTOSTART))}",
        f"sync {quote(str(plan.home))}/*.txt",
        HOW[how].format(acks=quote(str(plan.home / "acks.jsonl")), sysrq=SYSRQ),
    )
    found = [_booted(plan), *(_back(plan, vmid) for vmid in order), _in_order(plan, order)]
    if how == "crash":
        found.append(signs.kernel("a file system finds that it was not put away", r"(EXT4-fs|XFS|BTRFS).*[Rr]ecover"))
    return Fault(
        targets=("this host", *(f"guest {vmid}" for vmid in plan.listed)),
        inject="\n".join(inject),
        undo=plan.restore(*plan.listed),
        signs=tuple(found),
        reboots=True,
    )


def _order(plan: Plan, node: Node) -> list[int]:
    """The victims that start with the host, in the order in which they do; after the boot as it was written down."""
    written = plan.home / AUTOSTART
    if written.exists():
        return [int(word) for word in written.read_text(encoding="ascii").split()]
    configs = {vmid: node.get(f"/nodes/{{node}}/qemu/{vmid}/config") for vmid in plan.victims}
    return sorted((vmid for vmid, config in configs.items() if str(config.get("onboot")) == "1"),
                  key=lambda vmid: (_rank(configs[vmid]), vmid))  # fmt: skip


def _rank(config: Mapping[str, Any]) -> float:
    """A guest's place in the order; those without one come last."""
    match = re.search(r"(?:^|,)(?:order=)?(\d+)(?:,|$)", str(config.get("startup") or ""))
    return float(match[1]) if match else float("inf")


def _booted(plan: Plan) -> signs.Sign:
    return signs.Sign("the host has booted anew", lambda _seen, _since: _new_boot(plan))


def _new_boot(plan: Plan) -> str | None:
    """What this boot is called, and what the one before; nothing while it is the same."""
    try:
        before = (plan.home / BOOT).read_text(encoding="ascii").strip()
    except OSError:
        return None
    now = BOOT_ID.read_text(encoding="ascii").strip()
    return f"boot {now[:8]} instead of {before[:8]}" if now != before else None


def _back(plan: Plan, vmid: int) -> signs.Sign:
    """Its canary goes on, in a process that this boot has started."""

    def test(seen: Recorder, _since: float) -> str | None:
        acks = [ack for ack in seen.heard[vmid].acks if ack.at >= clock.of_this_boot(0.0)]
        if not acks or not seen.alive.get(vmid) or not _new_boot(plan):
            return None
        return f"acknowledged write {acks[0].seq} {acks[0].at - clock.of_this_boot(0.0):.1f} s after the boot began"

    return signs.Sign(f"guest {vmid} is back by itself", test)


def _in_order(plan: Plan, order: list[int]) -> signs.Sign:
    def test(_seen: Recorder, _since: float) -> str | None:
        began = [(vmid, _began(number)) for vmid in order if (number := site.pid(plan, vmid)) is not None]
        if len(began) < len(order) or not _new_boot(plan):
            return None
        if any(b < a for (_one, a), (_other, b) in pairwise(began)):
            return None
        return ", then ".join(f"{vmid} at {at:.1f} s" for vmid, at in began)

    return signs.Sign(f"guests were started in their order: {', '.join(map(str, order))}", test)


def _began(number: int) -> float:
    """When a process began, in seconds of this boot."""
    text = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
    return int(text.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


KINDS: dict[str, Prepare] = {"reboot": reboot}
