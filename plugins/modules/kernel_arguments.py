#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_arguments
short_description: Set arguments of the kernel for the next boot
version_added: 1.0.0
description:
  - Sets arguments that the boot loader of the host that the task runs on hands to the kernel, such as those for the
    IOMMU and for huge pages. They hold from the next boot on.
  - For GRUB they go into a file of their own, C(/etc/default/grub.d/zz-pvelab-kernel.cfg); where proxmox-boot-tool
    keeps systemd-boot, into C(/etc/kernel/cmdline). Arguments that the task does not name stay as they are.
options:
  present:
    description:
      - Arguments that there are to be, as V(name=value) or V(name), in this order. Values of the same names that are
        in the file give way.
    type: list
    elements: str
    default: []
  absent:
    description: Names of arguments that are not to be there. Of GRUB's files only the module's own is looked at.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Hand devices to guests, and set four pages of 1 GiB aside at boot
  pvelab.proxmox.kernel_arguments:
    present: [intel_iommu=on, iommu=pt, hugepagesz=1G, hugepages=4]
  register: arguments

- name: Reboot if the running kernel does not have them
  ansible.builtin.reboot:
  when: arguments.object.reboot_required

- name: Let the host use its protections again
  pvelab.proxmox.kernel_arguments:
    absent: [mitigations=off]
"""

RETURN = r"""
object:
  description: What the loaders hand over from the next boot on; before the change in check mode.
  returned: success
  type: dict
  contains:
    reboot_required:
      description: Whether the running kernel has other arguments than these.
      type: bool
    loader_updated:
      description: Whether the boot loader knows what its files say.
      type: bool
  sample:
    grub: {arguments: [intel_iommu=on, iommu=pt]}
    loader_updated: true
    reboot_required: true
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.kernels import arguments_steps, arguments_wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.kernel_reads import loaders, look_arguments
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "present": {"type": "list", "elements": "str", "default": []},
    "absent": {"type": "list", "elements": "str", "default": []},
}

RESOURCE = Resource(
    noun="kernel arguments",
    options=OPTIONS,
    want=arguments_wanted,
    resolve=loaders,
    read=look_arguments,
    steps=arguments_steps,
    name=lambda _params: "of this host",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
