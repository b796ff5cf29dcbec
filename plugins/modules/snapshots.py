#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshots
short_description: Take, describe, keep and remove a snapshot of many guests at once
version_added: 1.1.0
description:
  - Does for each guest of a list what M(pvelab.proxmox.snapshot) does for one, and works on as many at once as the
    nodes can bear.
  - All guests are looked at first. Those whose snapshot is as it should be cost one read each.
  - The snapshots are not of one moment. Guests that have to agree with each other are better shut down before.
options:
  guests:
    description:
      - Names or ids of the guests. What consists of digits is an id.
      - Names are not unique in Proxmox VE. If several guests have one of these, that guest fails, and lists their ids.
    type: list
    elements: str
    required: true
  max_parallel:
    description:
      - How many guests are worked on at once, at most. Without it the module finds out how many the nodes can bear.
      - More than 16 are taken for 16.
    type: int
notes:
  - If some guests fail, the others are finished all the same. Then the task fails and says which failed and why. Run it
    again, and it does what is left.
  - In check mode, a guest that does not exist yet counts as one that an earlier task creates. A warning says so.
  - Half snapshots take no part in O(retention). A warning names those of the series.
  - On SIGTERM and Ctrl-C no further step is begun. The task waits for answers to what it has sent, and says what was
    done and which tasks of the node go on.
seealso:
  - module: pvelab.proxmox.snapshot
  - module: pvelab.proxmox.snapshot_rollback
extends_documentation_fragment:
  - pvelab.proxmox.snapshot
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Keep a way back for the whole shop before the upgrade
  pvelab.proxmox.snapshots:
    guests: [db, web1, web2]
    snapname: before-upgrade

- name: The night's snapshot of all guests, of which the three newest are kept
  pvelab.proxmox.snapshots:
    guests: "{{ shop_guests }}"
    snapname: "nightly-{{ now(utc=true, fmt='%Y%m%d') }}"
    retention:
      keep: 3
      pattern: nightly-*

- name: Remove it from all of them, two at a time
  pvelab.proxmox.snapshots:
    guests: [db, web1, web2]
    snapname: before-upgrade
    state: absent
    allow_data_loss: true
    max_parallel: 2
"""

RETURN = r"""
msg:
  description: Of how many guests the snapshot was created, changed and removed; of a failure, which failed and why.
  returned: always
  type: str
  sample: "12 guests: 11 created, 1 as it was."
lines:
  description: One line for each guest.
  returned: always
  type: list
  elements: str
  sample: ["db (200): as it was", "web0 (201): created"]
guests:
  description: What became of the snapshot of each guest, in the order of the task.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The guest as the task names it.
      type: str
    vmid:
      description: Its id. Null if there is no such guest.
      type: int
    action:
      description: C(create), C(update), C(delete) or C(none).
      type: str
    changed:
      description: Whether anything was changed.
      type: bool
    object:
      description: The snapshot as it is now; before the change in check mode. Null if there is none.
      type: dict
      contains:
        snapname:
          description: Its name.
          type: str
        description:
          description: Its text.
          type: str
        vmstate:
          description: Whether it holds the guest's memory.
          type: bool
        taken:
          description: When it was taken.
          type: str
        parent:
          description: The snapshot that it follows; empty if there is none.
          type: str
        snapstate:
          description: V(prepare) or V(delete) if it was cut off half way, else empty.
          type: str
        series:
          description: All snapshots that match the pattern of O(retention), by name. Only with O(retention).
          type: list
          elements: str
    steps:
      description: The requests that were sent for it; in check mode those that would be.
      type: list
      elements: dict
    diff:
      description: What was changed.
      type: dict
    error:
      description: Why it failed. Only there if it did.
      type: str
  sample:
    - name: web0
      vmid: 201
      action: create
      changed: true
      object: {snapname: before-upgrade, description: "", vmstate: false, snapstate: ""}
      steps: []
      diff: {before: {}, after: {snapstate: ""}}
"""

from functools import partial
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Many
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.snapshot_fleet import work
from ansible_collections.pvelab.proxmox.plugins.module_utils.snapshot_resource import OPTIONS as SNAPSHOT
from ansible_collections.pvelab.proxmox.plugins.module_utils.snapshot_resource import RESOURCE as SNAPSHOT_OF_ONE

OPTIONS: dict[str, Any] = {
    "guests": {"type": "list", "elements": "str", "required": True},
    "max_parallel": {"type": "int"},
    **SNAPSHOT,
}

RESOURCE = Many(
    noun="snapshots",
    options=OPTIONS,
    work=partial(work, SNAPSHOT_OF_ONE),
    constraints={"required_one_of": [("snapname", "retention")]},
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
