#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Look at the nodes of a cluster
version_added: 0.1.0
description:
  - Tells of each node its versions, processor, load, memory, same-page merging, storages and networks.
  - A node that is offline is listed as such and not asked, so that the others can still be looked at.
options:
  node:
    description: Look at this node only. By default at all of them.
    type: str
  gather:
    description:
      - What to ask each node for. What is left out costs no request.
      - V(status) takes the right to audit the node, and V(storage) lists the storages that the user may see.
    type: list
    elements: str
    choices: [status, storage, networks]
    default: [status, storage, networks]
seealso:
  - module: pvelab.proxmox.vm_info
  - module: pvelab.proxmox.task_info
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at all nodes
  pvelab.proxmox.node_info:
  register: cluster

- name: Stop here if a node has less than 4 GiB of memory left
  ansible.builtin.assert:
    that: item.memory.available_bytes > 4 * 1024 ** 3
    fail_msg: "{{ item.node }} has only {{ item.memory.available_bytes | human_readable }} left"
  loop: "{{ cluster.nodes | selectattr('online') }}"
  loop_control:
    label: "{{ item.node }}"

- name: What is left on the storages of one node
  pvelab.proxmox.node_info:
    node: pve1
    gather: [storage]
"""

RETURN = r"""
nodes:
  description: The nodes, by name.
  returned: success
  type: list
  elements: dict
  contains:
    node:
      description: Name of the node.
      type: str
    online:
      description: Whether the cluster sees it. If not, nothing but its name is known.
      type: bool
    uptime_s:
      description: For how long it has been up, in seconds.
      returned: with status
      type: int
    version:
      description: Version of Proxmox VE, such as V(9.1.7).
      returned: with status
      type: str
    kernel:
      description: Release of the running kernel.
      returned: with status
      type: str
    boot_mode:
      description: V(efi) or V(legacy-bios).
      returned: with status
      type: str
    cpu:
      description: Model, sockets, cores, threads, whether it can virtualise (C(hvm)), and the share in use (0 to 1).
      returned: with status
      type: dict
    load:
      description: Average load over 1, 5 and 15 minutes.
      returned: with status
      type: list
      elements: float
    memory:
      description: C(total_bytes), C(used_bytes), C(free_bytes) and C(available_bytes).
      returned: with status
      type: dict
    swap:
      description: C(total_bytes), C(used_bytes) and C(free_bytes).
      returned: with status
      type: dict
    rootfs:
      description: The same of the root file system.
      returned: with status
      type: dict
    ksm_shared_bytes:
      description: How much memory same-page merging saves.
      returned: with status
      type: int
    storage:
      description: Its storages with type, content, whether they are enabled, active and shared, and their sizes.
      returned: with storage
      type: list
      elements: dict
    networks:
      description: Its network interfaces with the settings that Proxmox VE names them by.
      returned: with networks
      type: list
      elements: dict
  sample:
    - node: pve1
      online: true
      uptime_s: 5114
      version: 9.1.7
      kernel: 6.14.8-2-pve
      boot_mode: efi
      cpu: {model: AMD EPYC, sockets: 1, cores: 2, threads: 2, hvm: true, usage: 0.02}
      load: [0.54, 1.36, 2.7]
      memory: {total_bytes: 25276514304, used_bytes: 1232814080, free_bytes: 20404531200, available_bytes: 24043700224}
      swap: {total_bytes: 0, used_bytes: 0, free_bytes: 0}
      rootfs: {total_bytes: 270553174016, used_bytes: 43315208192, free_bytes: 227237965824}
      ksm_shared_bytes: 0
      storage:
        - storage: local
          type: dir
          content: [backup, iso, vztmpl]
          enabled: true
          active: true
          shared: false
          total_bytes: 270553174016
          used_bytes: 43315208192
          available_bytes: 65629085696
      networks:
        - iface: vmbr0
          type: bridge
          active: true
          autostart: true
          cidr: 192.0.2.10/24
          bridge_ports: eno1
"""

from typing import Any
from urllib.parse import quote

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.nodes import network, status, storage
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.reads import choose_node

OPTIONS = {
    "node": {"type": "str"},
    "gather": {
        "type": "list",
        "elements": "str",
        "choices": ["status", "storage", "networks"],
        "default": ["status", "storage", "networks"],
    },
}


def read(api: Any, params: Params) -> dict[str, Any]:
    wanted = choose_node(api, params["node"]) if params["node"] else None
    entries = [n for n in api.get("/nodes") if wanted in (None, n["node"])]
    return {"nodes": [_look(api, n, params["gather"]) for n in sorted(entries, key=lambda n: str(n["node"]))]}


def _look(api: Any, entry: dict[str, Any], gather: list[str]) -> dict[str, Any]:
    path = f"/nodes/{quote(entry['node'], safe='')}"
    node: dict[str, Any] = {"node": entry["node"], "online": entry.get("status", "online") == "online"}
    if not node["online"]:
        return node
    if "status" in gather:
        node |= status(api.get(f"{path}/status"))
    if "storage" in gather:
        node["storage"] = sorted((storage(s) for s in api.get(f"{path}/storage")), key=lambda s: str(s["storage"]))
    if "networks" in gather:
        node["networks"] = sorted((network(i) for i in api.get(f"{path}/network")), key=lambda i: str(i["iface"]))
    return node


RESOURCE = Query(noun="nodes", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
