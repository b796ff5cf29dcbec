#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot
short_description: Take, describe, keep and remove snapshots of a guest
version_added: 0.1.0
description:
  - Takes a snapshot of a guest's disks and configuration, and on request of its memory.
  - Keeps the newest snapshots of a series and removes the older ones (O(retention)).
  - Names snapshots that were cut off half way, and removes them on request.
notes:
  - In check mode, a guest that does not exist yet counts as one that an earlier task creates. A warning says so.
  - Half snapshots take no part in O(retention). A warning names those of the series.
seealso:
  - module: pvelab.proxmox.snapshots
  - module: pvelab.proxmox.snapshot_rollback
extends_documentation_fragment:
  - pvelab.proxmox.snapshot
  - pvelab.proxmox.guest
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Keep a way back before the upgrade
  pvelab.proxmox.snapshot:
    name: web1
    snapname: before-upgrade
    description: Debian 12, last known good

- name: Take one with RAM, and keep the three newest of the nightly series
  pvelab.proxmox.snapshot:
    vmid: 104
    snapname: "nightly-{{ now(utc=true, fmt='%Y%m%d') }}"
    vmstate: true
    retention:
      keep: 3
      pattern: nightly-*

- name: Only thin out the series
  pvelab.proxmox.snapshot:
    vmid: 104
    retention:
      keep: 3
      pattern: nightly-*

- name: Remove a snapshot
  pvelab.proxmox.snapshot:
    name: web1
    snapname: before-upgrade
    state: absent
    allow_data_loss: true

- name: Clear away what a node that died in the middle left behind
  pvelab.proxmox.snapshot:
    name: web1
    snapname: before-upgrade
    state: absent
    force: true
    allow_data_loss: true
"""

RETURN = r"""
object:
  description: The snapshot as it is now; before the change in check mode. Null if there is none.
  returned: success
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
  sample:
    description: Debian 12, last known good
    parent: ""
    snapname: before-upgrade
    snapstate: ""
    taken: 2026-11-21 08:00:19 UTC
    vmstate: false
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.snapshot_resource import RESOURCE


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
