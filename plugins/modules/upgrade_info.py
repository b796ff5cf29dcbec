#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_info
short_description: Look at what an upgrade of a host would do
version_added: 1.0.0
description:
  - Lets apt simulate a dist-upgrade of the host that the task runs on, with the lists that it has now.
  - Tells which packages come, change and go, and whether it would lead to another release of Debian or Proxmox VE.
options: {}
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at what an upgrade would do
  pvelab.proxmox.upgrade_info:
  register: upgrade

- name: Stop here if it would remove something
  ansible.builtin.assert:
    that: upgrade.remove | length == 0

- name: Look on every node before the first is upgraded
  pvelab.proxmox.upgrade_info:
  delegate_to: "{{ item }}"
  loop: "{{ groups.hypervisors }}"
  register: upgrades
"""

RETURN = r"""
install:
  description: New packages and their versions.
  returned: success
  type: dict
  sample: {proxmox-kernel-6.17.2-1-pve-signed: 6.17.2-1}
upgrade:
  description: Packages that change, with the versions C(from) and C(to).
  returned: success
  type: dict
  sample: {pve-manager: {from: 9.0.3, to: 9.0.11}}
remove:
  description: Packages that go, and their versions.
  returned: success
  type: dict
  sample: {}
release_changes:
  description: C(base-files) (Debian) and C(pve-manager), where their major version changes, with the step.
  returned: success
  type: dict
  sample: {base-files: 12 → 13}
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.apt_reads import upgrade
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS: dict[str, Any] = {}


def read(host: Any, _params: Params) -> dict[str, Any]:
    return upgrade(host)


RESOURCE = Query(noun="possible upgrade of this host", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
