#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: vm
short_description: Create, change, start, stop and remove virtual machines
version_added: 0.1.0
description:
  - Brings one virtual machine to the state that the task describes, from nothing, from an image or by cloning another
    one. It is made, sized, customised and started in one task.
  - What is not given is left alone. To take something away, name it in O(unset).
  - A guest is meant by O(vmid), or by O(name) alone. If a guest of another name or a container has the id, the task
    says so and touches nothing.
  - Disks are made once, grown, moved to another storage and detached. They are never shrunk, and never made again.
  - Every change is checked against the digest of the configuration that it is based on. If somebody else changed the
    guest in between, it is read and planned once more.
attributes:
  check_mode:
    support: full
    details:
      - When the template, a storage, a bridge or the pool is not there yet, check mode warns that a real run needs it,
        because an earlier task of the same play may be going to create it. It shows what would be set, but no steps.
      - Changes that need what the node makes are known only after that, such as options of the copied disks of a clone,
        and O(smbios) of a new guest, which waits for its UUID. The difference shows them, the steps do not.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(update_password=always) and a password, each run changes something.
notes:
  - Removing a guest needs O(allow_data_loss) if it has disks or snapshots. The task names them. It refuses while the
    guest is protected, or runs and O(force_stop) is not set.
  - A guest that somebody works on is waited for. A lock whose task is gone makes the task fail, with what to do.
  - If a creation or a clone was cut off half way, the next run notices the lock that it left. While its task still
    runs, it is waited for. If the node's task list shows that this very task died, the placeholder is removed and the
    guest is made again, with a warning. Only C(root@pam) itself may remove a locked guest. Volumes are removed only if
    they belong to the id, were made after that task began, and no configuration mentions them. Everything else is left
    alone.
  - Proxmox VE keeps ids apart, not names. If two runs make a guest of the same O(name) without O(vmid) at the same
    moment, the later one fails and tells both ids.
  - Names of options are those of Proxmox VE, with C(_) for C(-). What it keeps in one string has options for its parts.
  - Where the schema of Proxmox VE states a default, a value equal to it is no change if nothing is set.
seealso:
  - module: pvelab.proxmox.guests
  - module: pvelab.proxmox.vm_info
  - module: pvelab.proxmox.template
  - module: pvelab.proxmox.snapshot
extends_documentation_fragment:
  - pvelab.proxmox.vm
  - pvelab.proxmox.state
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Clone a template, make it bigger, set it up and start it
  pvelab.proxmox.vm:
    name: web1
    clone:
      source: debian-13
    cores: 2
    memory: 2048
    disks:
      - slot: scsi0
        size: 20G
    nics:
      - slot: net0
        bridge: vmbr0
        tag: 20
    cloud_init:
      user: admin
      ssh_keys:
        - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9d2W3mCq0gGxqyH8o0k5N2rVnM7c4oS1pZl3tQeYbU admin@example.com
      ip_configs:
        - slot: ipconfig0
          ip: 192.0.2.10/24
          gw: 192.0.2.1
    tags: [web, prod]
    status: running

- name: Make a guest out of an image that was downloaded
  pvelab.proxmox.vm:
    vmid: 120
    name: router
    node: pve1
    ostype: l26
    scsihw: virtio-scsi-single
    agent:
      enabled: true
    disks:
      - slot: scsi0
        storage: local-lvm
        import_from: local:import/router.qcow2
        size: 4G
        discard: "on"
        iothread: true
    boot: [scsi0]

- name: Give it a second disk, take away a network card and the cache setting of the first disk
  pvelab.proxmox.vm:
    name: web1
    disks:
      - slot: scsi1
        storage: local-lvm
        size: 100G
    unset: [net1, scsi0.cache]

- name: Change the memory, and restart the guest if it takes that
  pvelab.proxmox.vm:
    name: web1
    memory: 4096
    apply_pending: reboot

- name: Remove a guest with its disks
  pvelab.proxmox.vm:
    name: web1
    state: absent
    force_stop: true
    purge: true
    allow_data_loss: true
"""

RETURN = r"""
object:
  description:
    - The guest as it is now, before the change in check mode. Nothing when it is absent.
    - It holds the whole configuration by the names of the options, and by slots such as C(net0) and C(scsi0).
  returned: success
  type: dict
  contains:
    vmid:
      description: Its id.
      type: int
    node:
      description: The node that it is on.
      type: str
    status:
      description:
        - C(running), C(stopped) or C(paused).
        - Where the task neither says anything of it nor changes the guest, it may be ten seconds old, as the list of
          the cluster is.
      type: str
    qmpstatus:
      description: What QEMU itself says, such as C(io-error).
      type: str
    pending:
      description: What takes effect only when the guest is shut down and started. Each has C(key), and C(value),
        C(pending) or C(delete).
      type: list
      elements: dict
  sample:
    vmid: 104
    node: pve1
    name: web1
    status: running
    qmpstatus: running
    cores: 2
    memory: 2048
    scsi0: {volume: "local-lvm:vm-104-disk-0", storage: local-lvm, size: 20G, format: raw}
    net0: {model: virtio, mac: "BC:24:11:2B:17:23", bridge: vmbr0, tag: 20}
    pending: []
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_resource import VM
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

RESOURCE = VM


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
