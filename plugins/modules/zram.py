#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: zram
short_description: Keep swap space in compressed memory
version_added: 1.0.0
description:
  - Makes a device of compressed memory on the host that the task runs on and swaps to it, now and at every boot,
    through systemd's C(zram-generator) (the package systemd-zram-generator).
  - For any change the device is made anew, and what is swapped out is taken back in between; the task refuses where
    there is not the memory for it.
options:
  device:
    description: Name of the device.
    type: str
    default: zram0
  size_mib:
    description:
      - How much can be swapped out to it, in MiB, before it is compressed. Required with O(state=present).
      - What it really takes depends on the contents, so the task refuses more than twice the host's memory.
    type: int
  algorithm:
    description: What to compress with, such as V(zstd) or V(lz4). Without it, the kernel chooses.
    type: str
  priority:
    description: From 0 to 32767; the kernel swaps to the highest first. This should be before all disks.
    type: int
    default: 100
  state:
    description: Whether there is to be such a device.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.swap
  - module: pvelab.proxmox.memory_policy
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: 4 GiB of swap in compressed memory
  pvelab.proxmox.zram:
    size_mib: 4096
    algorithm: zstd

- name: No such swap space any more
  pvelab.proxmox.zram:
    state: absent
"""

RETURN = r"""
object:
  description: What the kernel runs with and what the boot makes; before the change in check mode. Null if nothing is.
  returned: success
  type: dict
  sample:
    runtime: {active: true, size_mib: 4096, algorithm: zstd, priority: 100}
    persisted: {size_mib: 4096, algorithm: zstd, priority: 100}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.zram import steps, wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.zram_reads import read, survey

OPTIONS = {
    "device": {"type": "str", "default": "zram0"},
    "size_mib": {"type": "int"},
    "algorithm": {"type": "str"},
    "priority": {"type": "int", "default": 100},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

RESOURCE = Resource(
    noun="compressed swap space",
    options=OPTIONS,
    want=wanted,
    resolve=survey,
    read=read,
    steps=steps,
    name=lambda params: str(params["device"]),
    constraints={"required_if": [("state", "present", ["size_mib"])]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
