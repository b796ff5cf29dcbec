#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_wipe
short_description: Empty a disk, so that a pool can be made of it
version_added: 1.0.0
description:
  - Removes the partition table, file systems and labels of LVM, ZFS and RAID from a disk or partition.
  - Refuses a disk that the running system is on, and one that anything uses; O(allow_data_loss) does not change that.
  - Whatever else is on the disk is named, and is removed only with O(allow_data_loss=true).
  - It runs on the host itself.
options:
  device:
    description: The disk or partition, best by a lasting name below C(/dev/disk/by-id).
    type: str
    required: true
  discard:
    description: Tell an SSD or thin volume that all its blocks are free, too. This leaves nothing to recover.
    type: bool
    default: false
  allow_data_loss:
    description: Confirm that what is on the device may be lost.
    type: bool
    default: false
notes:
  - A device that is empty already is left alone, without O(discard) taking place.
seealso:
  - module: pvelab.proxmox.disk_info
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See what would be lost
  pvelab.proxmox.disk_wipe:
    device: /dev/disk/by-id/ata-QEMU_HARDDISK_lab1
    allow_data_loss: true
  check_mode: true

- name: Empty the disk
  pvelab.proxmox.disk_wipe:
    device: /dev/disk/by-id/ata-QEMU_HARDDISK_lab1
    allow_data_loss: true
"""

RETURN = r"""
object:
  description: The device as it is now; before the wipe in check mode.
  returned: success
  type: dict
  contains:
    path:
      description: The kernel's name of the device.
      type: str
    contents:
      description: What is on it, in words.
      type: list
      elements: str
  sample: {path: /dev/sdb, contents: []}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.disks import SETTLE
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, State, Verb
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Run
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "device": {"type": "str", "required": True},
    "discard": {"type": "bool", "default": False},
    "allow_data_loss": {"type": "bool", "default": False},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    return {"_disks": survey(host, [params["device"]])}


def read(host: Any, params: Params) -> State:
    disks = survey(host, [params["device"]])
    device = disks.find(params["device"])
    return {"path": device.path, "contents": disks.contents(device)}


def steps(_have: State | None, params: Params) -> Sequence[Run]:
    cleared = params["_disks"].clearing(params["device"])
    if not cleared or not params["discard"]:
        return list(cleared)
    path = params["_disks"].path(params["device"])
    return [*cleared, Run(("blkdiscard", path), label=f"discard all of {path}", timeout_s=3600.0), SETTLE]


RESOURCE = Verb(
    noun="disk",
    verb="wipe",
    options=OPTIONS,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: str(params["device"]),
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
