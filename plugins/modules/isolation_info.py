#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: isolation_info
short_description: Verify on a host what keeps its guests apart
version_added: 1.0.0
description:
  - Looks, for each guest that runs on this host, at its cgroup, the processors that its vCPU threads may use, and its
    memory, and says where that differs from the options of its configuration file.
  - The options themselves (C(affinity), C(cpuunits), C(cpulimit), C(numa_nodes), C(hugepages), C(allow_ksm)) are set
    with M(pvelab.proxmox.vm). A change of some takes effect with the next start of the guest only, which shows here.
  - It takes root.
options:
  vmids:
    description: Look at these guests only. One that does not run is listed as such.
    type: list
    elements: int
  config_dir:
    description: Where the guests' configuration files are, C(VMID.conf) each.
    type: path
    default: /etc/pve/qemu-server
seealso:
  - module: pvelab.proxmox.hypervisor_info
  - module: pvelab.proxmox.vm
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at what keeps guests apart
  pvelab.proxmox.isolation_info:
  register: isolation

- name: Stop here if one is not held as configured
  ansible.builtin.assert:
    that: item.differences == []
    fail_msg: "{{ item.differences | map(attribute='why') | join(', ') }}"
  loop: "{{ isolation.guests | selectattr('running') }}"
  loop_control:
    label: "{{ item.vmid }}"

- name: Look at two guests only
  pvelab.proxmox.isolation_info:
    vmids: [101, 102]
"""

RETURN = r"""
guests:
  description: The guests, by vmid.
  returned: success
  type: list
  elements: dict
  contains:
    vmid:
      description: Id of the guest.
      type: int
    running:
      description: Whether it has a process on this host. If not, nothing else is told.
      type: bool
    configured:
      description: Whether there is a configuration file. If not, nothing is compared.
      type: bool
    pid:
      description: Id of its process.
      type: int
    oom_score_adj:
      description: How readily the kernel kills it when memory runs out, from -1000 (never) to 1000.
      type: int
    cgroup:
      description:
        - C(path) in version 2 of cgroups; whether it is its C(own), which no other guest shares; C(cpu_weight);
          C(cpu_limit) in processors and C(memory_max_bytes), 0 for no limit; C(cpuset).
        - What the cgroup does not have is null.
      type: dict
    affinity:
      description: The processors that the process may use.
      type: str
    vcpus:
      description: Each vCPU's thread and the processors that it may use.
      type: list
      elements: dict
    hugetlb_bytes:
      description: Memory in huge pages.
      type: int
    ksm_pages:
      description: Pages that are merged with others'.
      type: int
    numa_nodes:
      description: Nodes of the host that memory is bound to, where the configuration asks for that.
      type: str
    differences:
      description: Each C(option) that the host does not hold, as C(wanted), its C(actual) value, and C(why).
      type: list
      elements: dict
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.isolation import differences
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.hypervisor_reads import configs, guests
from ansible_collections.pvelab.proxmox.plugins.module_utils.isolation_reads import groups, look
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "vmids": {"type": "list", "elements": "int"},
    "config_dir": {"type": "path", "default": "/etc/pve/qemu-server"},
}


def read(host: Any, params: Params) -> dict[str, Any]:
    running = guests(host)
    shared = groups(host, running)
    wanted = configs(host, params["config_dir"])
    online = host.read("/sys/devices/system/cpu/online") or ""
    by_id = {g["vmid"]: g for g in running if g["vmid"] is not None}
    found = []
    for vmid in sorted(params["vmids"] or {*wanted, *by_id}):
        guest: dict[str, Any] = {"vmid": vmid, "running": vmid in by_id, "configured": vmid in wanted}
        if vmid in by_id:
            real = look(host, by_id[vmid], shared, wanted.get(vmid, {}))
            guest |= {**real, "differences": differences(wanted[vmid], real, online) if vmid in wanted else []}
        found.append(guest)
    return {"guests": found}


RESOURCE = Query(noun="isolation of guests", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
