#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: zpool
short_description: Make, import, extend, repair, export and remove ZFS pools
version_added: 1.0.0
description:
  - Makes a ZFS pool of mirrors, RAID-Z groups or single disks, with logs, caches and spares.
  - Imports a pool that is there but exported. Adds groups of devices, and devices to mirrors.
  - A device that is named instead of another of the same group replaces it. What the pool holds is copied first.
  - A pool never shrinks; only logs, caches and spares that are single devices are taken out.
  - A device that joins is emptied first. What is on it is named, and is lost only with O(allow_data_loss=true).
  - A device that anything uses is refused; O(allow_data_loss) does not change that.
  - It runs on the host itself.
options:
  name:
    description: Name of the pool.
    type: str
    required: true
  vdevs:
    description: All groups of devices. Required for a new pool. Left alone if not given.
    type: list
    elements: dict
    suboptions:
      type:
        description: How the devices stand together. V(disk) has no redundancy.
        type: str
        choices: [disk, mirror, raidz1, raidz2, raidz3]
        required: true
      devices:
        description:
          - The devices, by any of their paths.
          - ZFS is given lasting names below C(/dev/disk/by-id) where there are such.
        type: list
        elements: str
        required: true
      role:
        description: What the group is for.
        type: str
        choices: [data, log, special]
        default: data
  cache:
    description: Devices that cache reads. Together with O(vdevs), this is the whole of them.
    type: list
    elements: str
  spare:
    description: Devices that stand in for failed ones. Together with O(vdevs), this is the whole of them.
    type: list
    elements: str
  ashift:
    description: Sector size as a power of two, such as V(12) for 4 KiB. It is settled when a pool is made.
    type: int
  autotrim:
    description: Tell SSDs which blocks are free.
    type: bool
  properties:
    description: Further properties of the pool, by name, as C(zpool get -Hp) prints their values.
    type: dict
  scrub:
    description:
      - How often to read all data and repair it, by the timers of Debian's zfsutils-linux.
      - That package also scrubs all pools once a month by cron; V(never) does not stop it.
    type: str
    choices: [never, weekly, monthly]
  resilver_timeout_s:
    description:
      - How long to wait, with O(vdevs), until a device that joins a mirror or replaces another has all of its copy.
      - V(0) does not wait. ZFS goes on copying after the time is over; the next run waits again.
    type: int
    default: 3600
  allow_data_loss:
    description: Confirm that what is on devices that join, or with O(state=absent) in the pool, may be lost.
    type: bool
    default: false
  state:
    description: Whether there is to be such a pool. V(exported) leaves it on its devices for another host.
    type: str
    choices: [present, exported, absent]
    default: present
notes:
  - A device of the pool that has failed, or that somebody has taken offline, counts as one of the pool's devices until
    another is named instead of it. The C(health) tells of it.
seealso:
  - module: pvelab.proxmox.dataset
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A mirror
  pvelab.proxmox.zpool:
    name: tank
    ashift: 12
    autotrim: true
    scrub: monthly
    vdevs:
      - type: mirror
        devices: [/dev/disk/by-id/ata-QEMU_HARDDISK_lab1, /dev/disk/by-id/ata-QEMU_HARDDISK_lab2]

- name: The second disk has failed, and a new one takes its place
  pvelab.proxmox.zpool:
    name: tank
    vdevs:
      - type: mirror
        devices: [/dev/disk/by-id/ata-QEMU_HARDDISK_lab1, /dev/disk/by-id/ata-QEMU_HARDDISK_lab3]
"""

RETURN = r"""
object:
  description: The pool as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    imported:
      description: Whether it is imported. If not, nothing else is known of it.
      type: bool
    layout:
      description: Its groups of devices, each with its role, its kind and the kernel's names of its devices.
      type: list
      elements: str
    resilvering:
      description: Whether it is copying onto a device.
      type: bool
    ashift:
      description: Sector size as a power of two.
      type: int
    health:
      description: Its health, such as V(ONLINE) or V(DEGRADED).
      type: str
    size_bytes:
      description: Its size.
      type: int
    properties:
      description: The properties that the task names.
      type: dict
    scrub:
      description: The scrub that is enabled.
      type: str
    scrub_active:
      description: The scrub whose timer runs.
      type: str
  sample:
    imported: true
    layout: [data mirror /dev/sdb /dev/sdc]
    resilvering: false
    ashift: 12
    health: ONLINE
    size_bytes: 10200547328
    properties: {autotrim: "on"}
    scrub: monthly
    scrub_active: monthly
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Missing
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.zpool_steps import groups, zpool_steps, zpool_want
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import need, survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.zfs_reads import datasets, devices_of, zpool

OPTIONS = {
    "name": {"type": "str", "required": True},
    "vdevs": {
        "type": "list",
        "elements": "dict",
        "options": {
            "type": {"type": "str", "choices": ["disk", "mirror", "raidz1", "raidz2", "raidz3"], "required": True},
            "devices": {"type": "list", "elements": "str", "required": True},
            "role": {"type": "str", "choices": ["data", "log", "special"], "default": "data"},
        },
    },
    "cache": {"type": "list", "elements": "str"},
    "spare": {"type": "list", "elements": "str"},
    "ashift": {"type": "int"},
    "autotrim": {"type": "bool"},
    "properties": {"type": "dict"},
    "scrub": {"type": "str", "choices": ["never", "weekly", "monthly"]},
    "resilver_timeout_s": {"type": "int", "default": 3600},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "exported", "absent"], "default": "present"},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    need(host, "zpool")
    disks = survey(host, [d for _none, _none, devices in groups(params) for d in devices])
    name = params["name"]
    if params["state"] == "exported" and zpool(host, params) is None:
        raise Missing(f"there is no zpool {name}. Name one that there is.")
    return {"_disks": disks, "_called": devices_of(host, name, disks), "_datasets": datasets(host, name)[1:]}


RESOURCE = Resource(
    noun="zpool",
    options=OPTIONS,
    want=zpool_want,
    resolve=resolve,
    read=zpool,
    steps=zpool_steps,
    name=lambda params: str(params["name"]),
    immutable={"ashift": "Move its data elsewhere, remove it and make it again."},
    passes=2,
    constraints={"required_by": {"cache": ["vdevs"], "spare": ["vdevs"]}},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
