# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault of where a node keeps its configuration: it can be read, and not be written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from shlex import quote

from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from ..signs import Sign
from .api import orders
from .fault import Fault, Prepare, Skip
from .services import goes_on

# The cluster's file system. Without quorum Proxmox VE itself lets nobody write to it.
CONFIG = Path("/etc/pve")
MOUNTS = Path("/proc/self/mountinfo")
# What a node says that may not write.
REFUSED = re.compile(r"read-only file system|permission denied|no quorum", re.IGNORECASE)
TRIES = 50


def read_only(plan: Plan, node: Node) -> Fault:
    """Nothing in the node's configuration can be changed, as in a cluster without quorum; its guests are to notice
    nothing."""
    path = Path(str(plan.options.get("path") or CONFIG))
    if not path.is_dir():
        raise Skip(f"there is no {path} on this host; name where the node keeps its configuration with the option path")
    if os.path.realpath(path) == "/":
        raise Trouble(
            f"{path} is the host's root file system; name where the node keeps its configuration, and only that"
        )
    own = mounted(path)
    if not plan.listed:
        raise Trouble(
            f"drill {plan.drill['name']} needs a guest in its drill_targets, whose configuration it could not write"
        )
    if own is not None and "ro" in own:
        raise Trouble(
            f"{path} is read-only already; have it writable first (pvecm status says whether there is quorum)"
        )
    here, vmid = quote(str(path)), plan.listed[0]
    # Somebody may have a file open for writing right now.
    again = f"for _try in $(seq {TRIES}); do mount -o remount,bind,ro {here} && break; sleep 0.1; done"
    how = f"$(awk -v at={here} '$5 == at {{ found = $6 }} END {{ print found }}' {MOUNTS})"
    inject = [*([] if own is not None else [f"mount --bind {here} {here}"]), again]
    inject.append(f'case "{how}" in ro | ro,*) ;; *) exit 1 ;; esac')
    if own is not None:
        undo = f'case "{how}" in ro | ro,*) mount -o remount,bind,rw {here} ;; esac'
    else:
        undo = f'[ -z "{how}" ] || umount {here} 2>/dev/null || umount --lazy {here}'
    return Fault(
        targets=(f"{path}, where the node keeps its configuration",),
        inject="\n".join(inject),
        undo=undo,
        signs=(_refuses(node, vmid, path), *(goes_on(each) for each in plan.listed)),
        outage=False,
        whole=lambda: _obeyed(node, vmid),
        looks={"mounts": lambda: [f"{path} {' '.join(mounted(path) or ('is no mount',))}"]},
    )


def mounted(path: Path) -> tuple[str, ...] | None:
    """With which options something is mounted there, None where nothing is. The last one is the one that counts."""
    found = None
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        *_before, at, options = line.split()[:6]
        if at.replace("\\040", " ") == str(path):
            found = tuple(options.split(","))
    return found


def _refuses(node: Node, vmid: int, path: Path) -> Sign:
    """The node answers, and does what changes nothing; what has to be written down it refuses."""
    tried = orders(node, vmid)

    def test(_seen: object, _since: float) -> str | None:
        said = tried() if "ro" in (mounted(path) or ()) else ""
        return said[-200:] if REFUSED.search(said) else None

    return Sign(f"the node cannot write the configuration of guest {vmid}", test)


def _obeyed(node: Node, vmid: int) -> None:
    if said := orders(node, vmid)():
        raise Trouble(f"the node does not write the configuration of guest {vmid} yet: {said[-200:]}")


KINDS: dict[str, Prepare] = {"config_read_only": read_only}
