#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: zfs_arc
short_description: Limit the cache of ZFS on a host
version_added: 1.0.0
description:
  - Sets how much memory ZFS takes for its cache on the host that the task runs on, now and for the next boot.
  - Other options in the file for the boot stay as they are. Where the root file system is ZFS, the initramfs is made
    anew, because the module is loaded from there.
options:
  min_mib:
    description: What the cache keeps even if memory is scarce. 0 leaves it to ZFS.
    type: int
  max_mib:
    description:
      - What the cache takes at most; 64 or more. 0 leaves it to ZFS, which holds from the next boot on.
      - A cache that is larger shrinks little by little.
    type: int
  persist:
    description: Set the same for the next boot, in C(/etc/modprobe.d/zfs.conf).
    type: bool
    default: true
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: No more than 4 GiB for the cache, the rest is for guests
  pvelab.proxmox.zfs_arc:
    max_mib: 4096

- name: Between 1 and 8 GiB until the next boot
  pvelab.proxmox.zfs_arc:
    min_mib: 1024
    max_mib: 8192
    persist: false
"""

RETURN = r"""
object:
  description: What the kernel runs with and what it gets at boot; before the change in check mode.
  returned: success
  type: dict
  sample:
    runtime: {min_bytes: 0, max_bytes: 4294967296}
    persisted: {max_bytes: 4294967296}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.memory import arc_steps, arc_wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.memory_reads import look_arc, survey_arc
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "min_mib": {"type": "int"},
    "max_mib": {"type": "int"},
    "persist": {"type": "bool", "default": True},
}

RESOURCE = Resource(
    noun="cache of ZFS",
    options=OPTIONS,
    want=arc_wanted,
    resolve=survey_arc,
    read=look_arc,
    steps=arc_steps,
    name=lambda _params: "of this host",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
