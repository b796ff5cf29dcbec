#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: swap
short_description: Keep swap space in a file or on a device
version_added: 1.0.0
description:
  - Makes swap space in a file or on a partition or logical volume of the host that the task runs on, and uses it now
    and at every boot. How readily the kernel swaps is set with M(pvelab.proxmox.memory_policy).
  - A file is resized by making another one first, so that a lack of space changes nothing. What is swapped out is
    taken back in between; the task refuses where there is not the memory for it.
  - Volumes of ZFS are refused, since ZFS needs memory itself to write to them, and so are files on ZFS and btrfs.
options:
  path:
    description: The file, or the device, best by a lasting name below C(/dev/disk/by-id).
    type: str
    required: true
  size_mib:
    description:
      - Size of the file in MiB. Required for one that is not there yet.
      - A device has its own size, and takes none.
    type: int
  priority:
    description:
      - From 0 to 32767; the kernel swaps to the highest first. Without it, the kernel chooses, in the order of use.
    type: int
  persist:
    description:
      - Use it at every boot, by a line in C(/etc/fstab). A line that is there already keeps its options; a new one says
        V(nofail), so that a device that is missing does not keep the host from booting.
    type: bool
    default: true
  allow_data_loss:
    description: Confirm that what is on the device, or in a file of that name, may be lost.
    type: bool
    default: false
  state:
    description: Whether there is to be such swap space. V(absent) removes a file, and leaves a device as it is.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.memory_policy
  - module: pvelab.proxmox.zram
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: 8 GiB of swap in a file
  pvelab.proxmox.swap:
    path: /swapfile
    size_mib: 8192

- name: A partition, before all others
  pvelab.proxmox.swap:
    path: /dev/disk/by-id/nvme-QEMU_NVMe_lab1-part3
    priority: 10

- name: No swap on the volume that the installer made
  pvelab.proxmox.swap:
    path: /dev/pve/swap
    state: absent
"""

RETURN = r"""
object:
  description: What is there now; before the change in check mode. Null if nothing is.
  returned: success
  type: dict
  contains:
    size_mib:
      description: Size of the file; null for a device.
      type: int
    formatted:
      description: Whether there is a swap area in it.
      type: bool
    active:
      description: Whether the kernel uses it.
      type: bool
    priority:
      description: Its priority; null where the kernel chose it.
      type: int
    boot:
      description: The options of its line in C(/etc/fstab); empty where there is none.
      type: str
  sample: {size_mib: 8192, formatted: true, active: true, priority: null, boot: "defaults,nofail"}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.swap import steps, wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.swap_reads import read, survey

OPTIONS = {
    "path": {"type": "str", "required": True},
    "size_mib": {"type": "int"},
    "priority": {"type": "int"},
    "persist": {"type": "bool", "default": True},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

RESOURCE = Resource(
    noun="swap space",
    options=OPTIONS,
    want=wanted,
    resolve=survey,
    read=read,
    steps=steps,
    name=lambda params: str(params["path"]),
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
