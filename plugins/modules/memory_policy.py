#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: memory_policy
short_description: Set how a host deals with scarce memory
version_added: 1.0.0
description:
  - Sets what the kernel of the host that the task runs on does when memory gets scarce, now and for the next boot.
  - What is not named is not managed.
options:
  swappiness:
    description: How readily the kernel swaps, from 0 to 200. Hosts of guests do well with little.
    type: int
  overcommit_memory:
    description:
      - What may be promised. 0 lets the kernel judge, 1 is everything, 2 is no more than swap and O(overcommit_ratio)
        of the memory. The task refuses 2 where more is promised already.
    type: int
    choices: [0, 1, 2]
  overcommit_ratio:
    description: The share of the memory that may be promised with O(overcommit_memory=2), in percent.
    type: int
  min_free_kbytes:
    description: What the kernel keeps free for itself. The task refuses more than a quarter of the memory.
    type: int
  panic_on_oom:
    description: What to do out of memory. 0 ends a process, 1 and 2 halt the host.
    type: int
    choices: [0, 1, 2]
  oom_kill_allocating_task:
    description: End the process that asked last, not the one that has most.
    type: bool
  lru_gen_min_ttl_ms:
    description:
      - Keep in memory what was used within so many milliseconds, and rather end a process than take that away. Without
        it (0) a host without swap crawls, for half a minute or more, before the kernel ends anybody.
      - Linux' own documentation has 1000 as what is usually enough, and calls 3000 a risk of ending somebody too soon.
      - It takes a kernel whose C(/sys/kernel/mm/lru_gen/enabled) is on.
    type: int
    version_added: 1.1.0
  persist:
    description:
      - Set the same for the next boot, in C(/etc/sysctl.d/90-pvelab-memory.conf) and
        C(/etc/tmpfiles.d/pvelab-memory.conf).
    type: bool
    default: true
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Swap late, and let no host halt for want of memory
  pvelab.proxmox.memory_policy:
    swappiness: 10
    panic_on_oom: 0

- name: End a process before the host begins to crawl
  pvelab.proxmox.memory_policy:
    lru_gen_min_ttl_ms: 1000

- name: Promise no more memory than there is, until the next boot
  pvelab.proxmox.memory_policy:
    overcommit_memory: 2
    overcommit_ratio: 90
    persist: false
"""

RETURN = r"""
object:
  description: What the kernel runs with and what it gets at boot; before the change in check mode.
  returned: success
  type: dict
  sample:
    runtime: {swappiness: 10, panic_on_oom: 0}
    persisted: {swappiness: 10, panic_on_oom: 0}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.memory import policy_steps, policy_wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.memory_reads import look_policy, survey_policy
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "swappiness": {"type": "int"},
    "overcommit_memory": {"type": "int", "choices": [0, 1, 2]},
    "overcommit_ratio": {"type": "int"},
    "min_free_kbytes": {"type": "int"},
    "panic_on_oom": {"type": "int", "choices": [0, 1, 2]},
    "oom_kill_allocating_task": {"type": "bool"},
    "lru_gen_min_ttl_ms": {"type": "int"},
    "persist": {"type": "bool", "default": True},
}

RESOURCE = Resource(
    noun="memory policy",
    options=OPTIONS,
    want=policy_wanted,
    resolve=survey_policy,
    read=look_policy,
    steps=policy_steps,
    name=lambda _params: "of this host",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
