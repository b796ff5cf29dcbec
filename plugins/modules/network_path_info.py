#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: network_path_info
short_description: Follow the traffic of a guest to the wire
version_added: 1.0.0
description:
  - Follows a network card of a guest through the host, from its tap over the firewall's bridge, the bridge and its VLAN
    to the bond and the network cards, and says where the way ends and why.
  - Looks at what runs, never at files. Runs on the host, as root.
options:
  vmid:
    description: Id of the guest.
    type: int
    required: true
  nic:
    description: Which of its network cards, as in V(net0).
    type: str
    default: net0
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See where the traffic of the guest goes
  pvelab.proxmox.network_path_info:
    vmid: 104
    nic: net0

- name: See where that of its second card goes
  pvelab.proxmox.network_path_info:
    vmid: 104
    nic: net1
"""

RETURN = r"""
path:
  description: The hops in their order, each with C(name), C(kind), C(up) and, at a bridge's port, C(vlans) and C(pvid).
  returned: success
  type: list
  elements: dict
  sample: [{name: tap104i0, kind: tun, up: true, vlans: ["10"], pvid: 10}, {name: vmbr0, kind: bridge, up: true}]
reaches_wire:
  description: Whether a network card with a link is at its end.
  returned: success
  type: bool
ends:
  description: Where the way ends and why, in one sentence.
  returned: success
  type: str
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.network_path import follow
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.network_reads import links, vlan_rows

OPTIONS = {"vmid": {"type": "int", "required": True}, "nic": {"type": "str", "default": "net0"}}


def read(host: Any, params: Params) -> dict[str, Any]:
    return follow(params["vmid"], params["nic"], links(host), vlan_rows(host))


RESOURCE = Query(noun="way of a guest's traffic", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
