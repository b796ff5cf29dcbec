#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_info
short_description: Look at the kernels of a host
version_added: 1.0.0
description:
  - Tells which kernel runs on the host that the task runs on, which are installed, and whether it has to be rebooted to
    run the one that it should.
  - That is the kernel that proxmox-boot-tool has pinned, else the newest of Proxmox, else the newest.
options: {}
notes:
  - Proxmox VE does not leave C(/run/reboot-required) behind when it has installed a kernel.
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at the kernels
  pvelab.proxmox.kernel_info:
  register: kernels

- name: Reboot if another kernel runs than the one that was installed
  ansible.builtin.reboot:
  when: kernels.reboot_required

- name: See that a host runs its new kernel after the reboot
  pvelab.proxmox.kernel_info:
  register: now
  failed_when: now.reboot_required
"""

RETURN = r"""
running:
  description: Release of the kernel that runs.
  returned: success
  type: str
  sample: 6.14.8-2-pve
installed:
  description: The kernels in C(/boot), the newest first.
  returned: success
  type: list
  elements: dict
  contains:
    release:
      description: Its release.
      type: str
    package:
      description: The package that it belongs to; empty if it is of none.
      type: str
    proxmox:
      description: Whether it is one of Proxmox.
      type: bool
next:
  description: Release of the kernel that should run; empty if none is installed.
  returned: success
  type: str
pinned:
  description: Release that proxmox-boot-tool has pinned; empty if it has none.
  returned: success
  type: str
reboot_required:
  description: Whether another kernel runs than the one that should.
  returned: success
  type: bool
boot_id:
  description: Changes with each boot.
  returned: success
  type: str
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.kernel_reads import survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS: dict[str, Any] = {}


def read(host: Any, _params: Params) -> dict[str, Any]:
    return survey(host)


RESOURCE = Query(noun="kernels of this host", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
