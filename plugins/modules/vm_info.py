#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_info
short_description: Look at virtual machines
version_added: 0.1.0
description:
  - Lists the virtual machines that all given filters fit, all of them without a filter.
  - It takes two reads for the cluster and one for each node, then one for each guest, and one more for each guest and
    each of O(config), O(snapshots) and O(addresses). For a running guest O(config) takes two.
  - Guests of a node that is down are listed, too, as far as the cluster remembers them.
options:
  vmid:
    description: Only the guest with this id.
    type: int
  name:
    description: Only guests of this name.
    type: str
  node:
    description: Only guests on this node.
    type: str
  pool:
    description: Only guests in this pool.
    type: str
  tag:
    description: Only guests with this tag.
    type: str
  status:
    description: Only guests that run (or are paused), or that are stopped.
    type: str
    choices: [running, stopped]
  config:
    description:
      - Whether to tell the configuration, by the names of the options of M(pvelab.proxmox.vm), and what of it waits
        until the guest is shut down and started.
    type: bool
    default: true
  snapshots:
    description: Whether to tell the snapshots.
    type: bool
    default: false
  addresses:
    description:
      - Whether to ask the guest agents of running guests for network addresses.
      - A guest whose agent does not answer is told as such after a few seconds. It is no failure.
    type: bool
    default: false
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes.info
seealso:
  - module: pvelab.proxmox.vm
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at one guest
  pvelab.proxmox.vm_info:
    name: web1
  register: web1

- name: Where are the running guests of the lab to be reached?
  pvelab.proxmox.vm_info:
    tag: lab
    status: running
    config: false
    addresses: true
"""

RETURN = r"""
vms:
  description: The guests, by id.
  returned: success
  type: list
  elements: dict
  contains:
    vmid:
      description: Id.
      type: int
    name:
      description: Name.
      type: str
    node:
      description: Node that it is on.
      type: str
    online:
      description: Whether that node answers. If not, there is nothing but what the cluster remembers.
      type: bool
    pool:
      description: Pool that it is in, or nothing.
      type: str
    tags:
      description: Tags.
      type: list
      elements: str
    template:
      description: Whether it is a template.
      type: bool
    lock:
      description: What it is locked for, or nothing.
      type: str
    status:
      description: C(running), C(stopped) or C(paused). C(unknown) on a node that is down.
      type: str
    qmpstatus:
      description: What QEMU itself says, such as C(io-error).
      type: str
    uptime_s:
      description: Seconds since it was started.
      type: int
    cpus:
      description: CPUs that it may use.
      type: int
    memory_bytes:
      description: Memory in bytes.
      type: int
    config:
      description: Configuration as it will be after the next start, by the names of the options of the module vm.
      type: dict
    pending:
      description: What of it waits for that, each with C(key), and C(value), C(pending) or C(delete).
      type: list
      elements: dict
    snapshots:
      description: Snapshots with C(name), C(description), C(snaptime), C(parent) and C(vmstate).
      type: list
      elements: dict
    agent:
      description: C(running), C(not asked) of a guest without one, or why the agent did not answer.
      type: str
    addresses:
      description: Addresses, each with C(interface), C(mac), C(address), C(prefix) and C(family), without the loopback.
      type: list
      elements: dict
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_list import list_vms
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS: dict[str, Any] = {
    "vmid": {"type": "int"},
    "name": {"type": "str"},
    "node": {"type": "str"},
    "pool": {"type": "str"},
    "tag": {"type": "str"},
    "status": {"type": "str", "choices": ["running", "stopped"]},
    "config": {"type": "bool", "default": True},
    "snapshots": {"type": "bool", "default": False},
    "addresses": {"type": "bool", "default": False},
}

RESOURCE = Query(noun="guests", options=OPTIONS, read=list_vms)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
