#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages
short_description: Set memory aside as huge pages on a host
version_added: 1.0.0
description:
  - Sets how many huge pages of a size the host that the task runs on has, now and for the next boot.
  - Guests use them with the option C(hugepages). Same-page merging and ballooning do not work on them.
options:
  size:
    description: Size of the pages.
    type: str
    choices: [2M, 1G]
    default: 2M
  count:
    description:
      - How many there are to be. The task refuses more than there is memory, and fewer than are in use.
      - The kernel needs them in one piece. Where memory is too fragmented it makes fewer, and the task fails and tells
        how many; at boot there is enough.
    type: int
    required: true
  numa_node:
    description: Set them aside on this NUMA node. Without it, the kernel spreads them over all nodes.
    type: int
  persist:
    description: Set the same for the next boot, in C(/etc/tmpfiles.d/pvelab-hugepages.conf).
    type: bool
    default: true
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: 2 GiB of huge pages on the first NUMA node
  pvelab.proxmox.hugepages:
    size: 2M
    count: 1024
    numa_node: 0

- name: Give pages of 1 GiB back, until the next boot
  pvelab.proxmox.hugepages:
    size: 1G
    count: 0
    persist: false
"""

RETURN = r"""
object:
  description: What the kernel runs with and what it gets at boot; before the change in check mode.
  returned: success
  type: dict
  sample:
    runtime: {count: 1024, free: 1024}
    persisted: {count: 1024}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.memory import huge_steps, huge_wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.memory_reads import look_huge, survey_huge
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "size": {"type": "str", "choices": ["2M", "1G"], "default": "2M"},
    "count": {"type": "int", "required": True},
    "numa_node": {"type": "int"},
    "persist": {"type": "bool", "default": True},
}

RESOURCE = Resource(
    noun="huge pages",
    options=OPTIONS,
    want=huge_wanted,
    resolve=survey_huge,
    read=look_huge,
    steps=huge_steps,
    name=lambda params: f"of {params['size']}",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
