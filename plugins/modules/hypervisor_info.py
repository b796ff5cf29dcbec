#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: hypervisor_info
short_description: Look at a host as the layers of a hypervisor
version_added: 1.0.0
description:
  - Tells of the host that it runs on, from the bottom up, what it runs under, what its hardware can do, its kernel,
    the engine, the guests' processes, the services that manage them, and what carries their traffic and disks.
  - Sets what guests are promised against what the host has, with and without same-page merging and ballooning.
  - It takes root to see all of it. What cannot be read is left out with a warning.
options:
  probe_kvm:
    description:
      - Whether to boot a tiny guest for a moment, to see whether KVM works. Its device alone does not tell, since a
        host may have one that fails, hangs, or is slower than emulation.
      - It takes a second, and is given up after 3. It takes QEMU for x86-64.
    type: bool
    default: true
  config_dir:
    description: Where the guests' configuration files are, C(VMID.conf) each. It need not be there.
    type: path
    default: /etc/pve/qemu-server
  storage_config:
    description: The file in which storages are defined. It need not be there.
    type: path
    default: /etc/pve/storage.cfg
seealso:
  - module: pvelab.proxmox.isolation_info
  - module: pvelab.proxmox.node_info
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at the host
  pvelab.proxmox.hypervisor_info:
  register: host

- name: Stop here if guests would have to be emulated
  ansible.builtin.assert:
    that: host.engine.kvm.usable
    fail_msg: "{{ host.engine.kvm.why }} ({{ host.platform.name }})"

- name: Stop here if the memory would not suffice without merging
  ansible.builtin.assert:
    that: host.overcommit.memory.as_promised.fits

- name: Look at guests whose configuration is elsewhere, without starting a virtual machine to try KVM
  pvelab.proxmox.hypervisor_info:
    probe_kvm: false
    config_dir: /srv/rescue/qemu-server
"""

RETURN = r"""
platform:
  description:
    - What the host itself runs under. C(name) is V(bare-metal), V(kvm), V(qemu) (emulated), V(vmware-esxi),
      V(vmware-workstation), V(vmware) (which of them is not known without open-vm-tools), V(hyperv), V(azure), V(xen),
      V(xen-dom0), V(ec2-nitro), V(ec2-xen), V(gcp), V(virtualbox), V(parallels), V(bhyve), V(apple) or V(unknown).
    - C(systemd) is what systemd-detect-virt calls it, and C(systemd_agrees) whether that means the same.
    - C(container) is set if this was asked within a container.
  returned: success
  type: dict
kind:
  description:
    - C(type) is V(type1) when the kernel runs the guests, V(hosted) when programs of a workstation do or emulate them,
      V(none) when there is nothing to run them with. C(nested) tells of a host that is a virtual machine itself.
    - C(reasons) says why.
  returned: success
  type: dict
hardware:
  description: Processor with its extensions, memory, huge pages, NUMA nodes, IOMMU, and whether guests may virtualise.
  returned: success
  type: dict
kernel:
  description: Release, arguments, and loaded modules that have to do with guests.
  returned: success
  type: dict
engine:
  description: Whether KVM is there and usable, with the reason if not, and the versions of QEMU that are installed.
  returned: success
  type: dict
guests:
  description: The processes of QEMU with vmid, vCPU threads, memory in use, and pages merged with others'.
  returned: success
  type: list
  elements: dict
ksm:
  description: Same-page merging. C(run) as in the kernel, pages shared and sharing, and the bytes that it saves.
  returned: success
  type: dict
control_plane:
  description: Version of Proxmox VE, if it is installed, and the services that manage guests.
  returned: success
  type: dict
data_plane:
  description: Bridges of the kernel and of Open vSwitch with their ports, and the storages that are defined.
  returned: success
  type: dict
overcommit:
  description:
    - vCPUs and memory that are promised to the guests that run, against what is present.
    - Memory is counted C(as_promised), C(with_ksm), C(with_ballooning) and C(with_both), each with its bytes, its ratio
      to what is present, and whether it C(fits).
    - C(defined) counts all guests with a configuration file, running or not, but no templates.
  returned: success
  type: dict
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils import hypervisor_reads as reads
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.hypervisor import kind
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.hypervisor_promises import overcommit
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "probe_kvm": {"type": "bool", "default": True},
    "config_dir": {"type": "path", "default": "/etc/pve/qemu-server"},
    "storage_config": {"type": "path", "default": "/etc/pve/storage.cfg"},
}


def read(host: Any, params: Params) -> dict[str, Any]:
    hardware = reads.hardware(host)
    under = reads.platform(host, hardware["cpu"]["hypervisor_flag"])
    engine, running, ksm = reads.engine(host, params["probe_kvm"]), reads.guests(host), reads.ksm(host)
    control = reads.control_plane(host)
    # A guest that runs with KVM proves it, also where it was not to be tried.
    usable = bool(engine["kvm"]["usable"]) or any(g["accelerator"] == "kvm" for g in running)
    desktop = any(s["name"] == "display-manager" and s["active"] for s in control["services"])
    return {
        "platform": under,
        "kind": kind(under, kvm_usable=usable, qemu=bool(engine["qemu"]), desktop=desktop),
        "hardware": hardware,
        "kernel": reads.kernel(host),
        "engine": engine,
        "guests": running,
        "ksm": ksm,
        "control_plane": control,
        "data_plane": reads.data_plane(host, params["storage_config"]),
        "overcommit": overcommit(
            running,
            reads.configs(host, params["config_dir"]),
            threads=hardware["cpu"]["threads"],
            memory_bytes=hardware["memory_bytes"],
            ksm_saved_bytes=ksm["saved_bytes"],
        ),
    }


RESOURCE = Query(noun="hypervisor", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
