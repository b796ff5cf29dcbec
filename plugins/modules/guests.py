#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: guests
short_description: Create, change, start, stop and remove many virtual machines at once
version_added: 1.0.0
description:
  - Brings a whole list of virtual machines to the state that the task describes, as fast as the nodes allow. Each entry
    has the options of M(pvelab.proxmox.vm) and means the same as a task of that module.
  - All guests are read and planned first. What contradicts itself is refused before anything is written. Then the
    guests that differ are worked on at once, and those that are as they should be cost one read each.
  - What Proxmox VE does one after the other is not asked for all at once. The module sends more while all goes well,
    and less when the node says that it could not get a lock in time.
  - A guest is started after those that it depends on, and after those with a lower O(guests[].startup.order).
options:
  max_parallel:
    description:
      - How many guests are worked on at once, at most. Without it the module finds out how many the nodes can bear.
      - More than 16 are taken for 16.
    type: int
  batch:
    description:
      - Work on so many guests at a time, and begin with the next so many when these are done.
    type: int
  on_failure:
    description:
      - What to do when a guest fails. V(continue) goes on with all that do not need it.
      - V(stop) begins with no other guest. What is under way is finished.
      - V(rollback) does the same, and then removes the guests that this very task has made, and nothing else. Changes
        of other guests stay, and the result says so.
      - With V(stop) and V(rollback) nothing is written if one of the guests is known beforehand to fail.
    type: str
    choices: [continue, stop, rollback]
    default: continue
  unlisted:
    description:
      - What becomes of guests that carry a tag and that no entry means.
    type: dict
    suboptions:
      tag:
        description:
          - Only guests with this tag are looked at. It is the fence around what the task may remove.
        type: str
        required: true
      state:
        description:
          - V(absent) removes them. They are shown in check mode.
        type: str
        choices: [absent]
        required: true
      limit:
        description:
          - The task fails and removes nothing if there are more than so many.
          - Without it, 10 or half of the guests with the tag, whichever is less, but always one.
        type: int
      allow_data_loss:
        description:
          - Whether guests with disks or snapshots may be removed. Without it the task names what would be lost.
        type: bool
        default: false
      force_stop:
        description:
          - Whether the power of those that run may be cut. Otherwise the task refuses to remove them.
        type: bool
        default: false
      purge:
        description:
          - Whether to take them out of backup jobs, replication and high availability, too.
        type: bool
        default: false
attributes:
  check_mode:
    support: full
    details:
      - What M(pvelab.proxmox.vm) says of check mode holds for each guest.
      - A guest that is cloned from another entry is foreseen with a warning, because its source is not there yet.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(guests[].update_password=always) and a password, each run changes something.
notes:
  - No changes among N guests cost one read for each, one of the cluster and one of each node.
  - If some guests fail, the task fails and says which and why. Run it again, and it does what is left.
  - New guests without O(guests[].vmid) get ids in the order of the list. If somebody else takes one first, the next
    free one is used.
  - Proxmox VE keeps ids apart, not names. If two runs make a guest of one name at the same moment, both see it when
    they read back. The one with the higher id removes the guest that it has just made, and goes on with the other. For
    some seconds there are two, and both may have started. If the other one stays, because it was made by hand, the run
    gives way to it after 20 seconds.
  - A node that dies while it makes a guest may leave an empty placeholder behind, with the lock C(create), if
    the guest was then made with another id. It is not taken away, because it cannot be told from somebody else's.
  - A guest counts as running for those that depend on it when its start is done. Nobody waits for what runs in it.
  - A restart for O(guests[].apply_pending=reboot) does not wait for guests that depend on it.
  - If more guests are to start than the free memory of a node holds, the rest is started one by one, with a warning.
  - On SIGTERM and Ctrl-C no further step is begun. The task waits for answers to what it has sent, and says what was
    done and which tasks of the node go on.
seealso:
  - module: pvelab.proxmox.vm
  - module: pvelab.proxmox.vm_info
extends_documentation_fragment:
  - pvelab.proxmox.vm.guests
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Two web servers, and the database that is started before them
  pvelab.proxmox.guests:
    defaults:
      clone: {source: debian-13}
      memory: 1024
      vmid_range: [200, 299]
      tags: [shop]
      status: running
    guests:
      - {name: db, memory: 4096, startup: {order: 1}}
      - {name: web1, startup: {order: 2}}
      - {name: web2, startup: {order: 2}, memory: 2048}

- name: A guest that is started after another one runs
  pvelab.proxmox.guests:
    guests:
      - {name: db, status: running}
      - {name: app, status: running, depends_on: [db]}

- name: Remove what carries the tag and is not listed any more, three guests at most
  pvelab.proxmox.guests:
    guests: "{{ shop_guests }}"
    unlisted: {tag: shop, state: absent, limit: 3, allow_data_loss: true, force_stop: true}

- name: All or nothing, five at a time
  pvelab.proxmox.guests:
    guests: "{{ shop_guests }}"
    batch: 5
    on_failure: rollback
"""

RETURN = r"""
msg:
  description: How many guests were created, changed and removed; of a failure, which failed and why.
  returned: always
  type: str
  sample: "12 guests: 2 created, 1 changed, 9 as they were."
lines:
  description: One line for each guest.
  returned: always
  type: list
  elements: str
  sample: ["db (200): as it was", "web0 (201): created", "web1 (202): changed cores, memory"]
guests:
  description: What became of each guest, in the order of the task, and then of those that are not listed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name, or its id where it has no name.
      type: str
    vmid:
      description: Its id.
      type: int
    action:
      description: C(create), C(update), C(delete) or C(none).
      type: str
    changed:
      description: Whether it was changed.
      type: bool
    object:
      description: The guest as M(pvelab.proxmox.vm) returns it.
      type: dict
      contains:
        pending:
          description: What takes effect only when the guest is shut down and started.
          type: list
          elements: dict
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
    rolled_back:
      description: Whether it was made by this task and removed again. Only there if it was.
      type: bool
  sample:
    - name: web0
      vmid: 201
      action: create
      changed: true
      object: {vmid: 201, node: pve1, name: web0, status: running}
      steps: []
      diff: {before: {}, after: {memory: 1024}}
"""

from functools import partial
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Many
from ansible_collections.pvelab.proxmox.plugins.module_utils.fleet import work
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_resource import OPTIONS as GUEST
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_resource import VM
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

# A default that is filled in here could not be told from what an entry says.
_PARTS: dict[str, Any] = {name: {k: v for k, v in spec.items() if k != "default"} for name, spec in GUEST.items()}

OPTIONS: dict[str, Any] = {
    "guests": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"depends_on": {"type": "list", "elements": "str"}, **_PARTS},
        "required_one_of": [("vmid", "name")],
    },
    "defaults": {"type": "dict", "options": _PARTS},
    "max_parallel": {"type": "int"},
    "batch": {"type": "int"},
    "on_failure": {"type": "str", "choices": ["continue", "stop", "rollback"], "default": "continue"},
    "unlisted": {
        "type": "dict",
        "options": {
            "tag": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent"], "required": True},
            "limit": {"type": "int"},
            "allow_data_loss": {"type": "bool", "default": False},
            "force_stop": {"type": "bool", "default": False},
            "purge": {"type": "bool", "default": False},
        },
    },
}

RESOURCE = Many(noun="guests", options=OPTIONS, work=partial(work, VM), entries="guests")


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
