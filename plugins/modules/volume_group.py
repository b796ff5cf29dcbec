#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_group
short_description: Make, extend, reduce and remove LVM volume groups
version_added: 1.0.0
description:
  - Makes a volume group of disks or partitions, and brings it to exactly those that are named.
  - A device that joins is emptied first. What is on it is named, and is lost only with O(allow_data_loss=true).
  - A device that anything uses is refused; O(allow_data_loss) does not change that.
  - It runs on the host itself.
options:
  name:
    description: Name of the volume group.
    type: str
    required: true
  devices:
    description:
      - All devices of the group, best by lasting names below C(/dev/disk/by-id).
      - A device that is no longer named leaves the group, unless it holds data.
      - Required for a new group. Left alone if not given.
    type: list
    elements: str
  extent_mib:
    description: Size of an extent in MiB. It is settled when the group is made; LVM's own default is 4.
    type: int
  allow_data_loss:
    description: Confirm that what is on devices that join, or with O(state=absent) in the group, may be lost.
    type: bool
    default: false
  state:
    description: Whether there is to be such a group.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.thin_pool
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A group of two disks
  pvelab.proxmox.volume_group:
    name: vmdata
    devices:
      - /dev/disk/by-id/ata-QEMU_HARDDISK_lab1
      - /dev/disk/by-id/ata-QEMU_HARDDISK_lab2

- name: Take the group away, with all that is on it
  pvelab.proxmox.volume_group:
    name: vmdata
    state: absent
    allow_data_loss: true
"""

RETURN = r"""
object:
  description: The group as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    devices:
      description: The kernel's names of its devices.
      type: list
      elements: str
    extent_mib:
      description: Size of an extent in MiB.
      type: int
    size_bytes:
      description: Its size.
      type: int
    free_bytes:
      description: What of it no volume has.
      type: int
  sample: {devices: [/dev/sdb, /dev/sdc], extent_mib: 4, size_bytes: 21466447872, free_bytes: 21466447872}
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.lvm import group_steps
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import need, report, survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "name": {"type": "str", "required": True},
    "devices": {"type": "list", "elements": "str"},
    "extent_mib": {"type": "int"},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    need(host, "lvm")
    disks = survey(host, params["devices"] or [])
    allocated = {pv["pv_name"]: int(pv["pv_pe_alloc_count"]) for pv in report(host, "pvs", "pv_name,pv_pe_alloc_count")}
    return {"_disks": disks, "_allocated": allocated}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    path = params["_disks"].path if "_disks" in params else str
    named = None if params["devices"] is None else sorted({path(d) for d in params["devices"]})
    return {"devices": named, "extent_mib": params["extent_mib"]}


def read(host: Any, params: Params) -> State | None:
    rows = report(host, "vgs", "vg_name,vg_extent_size,vg_size,vg_free")
    found = next((r for r in rows if r["vg_name"] == params["name"]), None)
    if found is None:
        return None
    members = [pv["pv_name"] for pv in report(host, "pvs", "pv_name,vg_name") if pv["vg_name"] == params["name"]]
    sizes = {"size_bytes": int(found["vg_size"]), "free_bytes": int(found["vg_free"])}
    return {"devices": sorted(members), "extent_mib": int(found["vg_extent_size"]) // 1024**2, **sizes}


RESOURCE = Resource(
    noun="volume group",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=group_steps,
    name=lambda params: str(params["name"]),
    immutable={"extent_mib": "Move its volumes elsewhere, remove it and make it again."},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
