#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_rollback
short_description: Put a guest back to a snapshot
version_added: 0.1.0
description:
  - Puts the disks and the configuration of a guest back to what they were when the snapshot was taken.
  - A running guest is stopped for it, without being asked to shut down.
  - Everything that the guest has written since is lost, so the task refuses without O(allow_data_loss) and tells
    since when.
options:
  snapname:
    description: The snapshot to go back to.
    type: str
    required: true
  start:
    description:
      - Start the guest afterwards.
      - A guest whose snapshot holds its memory runs afterwards in any case, from where it was.
    type: bool
    default: false
  allow_data_loss:
    description: Confirm that everything since the snapshot may be lost.
    type: bool
    default: false
attributes:
  idempotent:
    support: none
    details: Rolling back is an act, not a state. Every run does it again.
notes:
  - ZFS, and storages that keep snapshots as chains of volumes, go back to the newest snapshot only. The task
    finds that out beforehand, and names the newer snapshots that would have to be removed first.
  - Disks that were added after the snapshot stay, as C(unusedN) entries of the configuration.
  - Disks that were removed after the snapshot and destroyed do not come back.
seealso:
  - module: pvelab.proxmox.snapshot
extends_documentation_fragment:
  - pvelab.proxmox.guest
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See what would be lost
  pvelab.proxmox.snapshot_rollback:
    name: web1
    snapname: before-upgrade
    allow_data_loss: true
  check_mode: true
  register: preview

- name: Undo the upgrade and start the guest
  pvelab.proxmox.snapshot_rollback:
    name: web1
    snapname: before-upgrade
    start: true
    allow_data_loss: true
"""

RETURN = r"""
object:
  description: The guest after the rollback. Before it in check mode.
  returned: success
  type: dict
  contains:
    parent:
      description: The snapshot that the guest's state follows now; empty if there is none.
      type: str
    status:
      description: V(running) or V(stopped).
      type: str
  sample: {parent: before-upgrade, status: running}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.options import GUEST, ONE_GUEST, guest, listed, moment
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, State, Verb
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.snapshots import (
    Listing,
    check_name,
    disks,
    newest_only,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure, Missing
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.reads import require_vm

OPTIONS = {
    **GUEST,
    "snapname": {"type": "str", "required": True},
    "start": {"type": "bool", "default": False},
    "allow_data_loss": {"type": "bool", "default": False},
}


def name(params: Params) -> str:
    return f"{guest(params)} to snapshot {params['snapname']}"


def resolve(api: Any, params: Params) -> dict[str, Any]:
    check_name(params["snapname"])
    ref = require_vm(api, params["vmid"], params["name"], params["node"])
    listing = Listing.of(api.get(f"{ref.path}/snapshot"))
    target = listing.get(params["snapname"])
    if target is None:
        there = f"It has {listed(listing.names)}." if listing.names else "It has none."
        raise Missing(f"guest {ref} has no snapshot of this name. {there}")
    held = disks(api.get(f"{ref.path}/snapshot/{target.name}/config"))
    newer = listing.newer(target)
    strict = newest_only(held.values(), api.get("/storage")) if newer else []
    return {"_guest": ref, "_target": target, "_held": held, "_newer": newer, "_strict": strict}


def read(api: Any, params: Params) -> State:
    now = Listing.of(api.get(f"{params['_guest'].path}/snapshot"))
    return {"parent": now.current, "status": "running" if now.running else "stopped"}


def steps(before: State | None, params: Params) -> Sequence[Call]:
    ref, target = params["_guest"], params["_target"]
    if target.half:
        raise Failure(
            f"snapshot {target.name} was cut off half way (snapstate {target.half}), and there is no way back to half "
            "a snapshot. Remove it with pvelab.proxmox.snapshot, state: absent and force: true."
        )
    if params["_strict"]:
        raise Failure(
            f"storage {listed(params['_strict'])} goes back to the newest snapshot only, and {target.name} is followed "
            f"by {listed(params['_newer'])}. Remove those with pvelab.proxmox.snapshot, or go back to the last of them."
        )
    what = f"what guest {ref} has written to {listed(params['_held'])}" if params["_held"] else f"guest {ref}"
    lost = f"{what} and every change of its configuration since {moment(target.time)}, when {target.name} was taken"
    sent = {"start": 1 if params["start"] else None}
    label = f"roll guest {ref} back to {target}"
    return [Call("POST", f"{ref.path}/snapshot/{target.name}/rollback", sent, label=label, destroys=lost)]


RESOURCE = Verb(
    noun="guest",
    verb="roll back",
    options=OPTIONS,
    resolve=resolve,
    read=read,
    steps=steps,
    name=name,
    constraints=ONE_GUEST,
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
