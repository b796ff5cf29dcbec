#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_info
short_description: Look at the disks of a host and what is on them
version_added: 1.0.0
description:
  - Tells of each disk of the host its lasting names, its size and kind, what is on it and who uses it.
  - It runs on the host itself.
options:
  device:
    description:
      - Look at this disk or partition only, by any of its paths.
      - By default at all disks, but for what only looks like one, as volumes of zpools and disks in memory do.
    type: str
  smart:
    description: Ask disks for their health, where smartctl is installed. Sleeping disks are not woken.
    type: bool
    default: true
seealso:
  - module: pvelab.proxmox.disk_wipe
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at all disks
  pvelab.proxmox.disk_info:
  register: found

- name: Lasting names of the disks that are empty
  ansible.builtin.debug:
    msg: "{{ found.disks | rejectattr('used_by') | rejectattr('contents') | map(attribute='by_id') | map('first') }}"

- name: Look at one disk, without asking it how it is
  pvelab.proxmox.disk_info:
    device: /dev/disk/by-id/ata-QEMU_HARDDISK_lab1
    smart: false
"""

RETURN = r"""
disks:
  description: The disks, by path.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The kernel's name, which may be another after the next boot.
      type: str
    by_id:
      description: Its lasting names; those with model and serial number come first.
      type: list
      elements: str
    type:
      description: V(disk), V(part), V(loop) and the like.
      type: str
    size_bytes:
      description: Its size.
      type: int
    model:
      description: Its model.
      type: str
    serial:
      description: Its serial number.
      type: str
    transport:
      description: How it is attached, such as V(sata), V(nvme) or V(virtio).
      type: str
    rotational:
      description: Whether it spins.
      type: bool
    removable:
      description: Whether its medium can be taken out.
      type: bool
    read_only:
      description: Whether it cannot be written to.
      type: bool
    sector_bytes:
      description: Size of its C(logical) and C(physical) sectors.
      type: dict
    contents:
      description: What is on it, in words. Empty if nothing is.
      type: list
      elements: str
    used_by:
      description: Who uses it now, in words. Empty if nobody does.
      type: list
      elements: str
    system:
      description: Whether the running system is on it.
      type: bool
    storages:
      description: Storages of Proxmox VE whose volumes are on it.
      type: list
      elements: str
    smart:
      description: C(passed), C(temperature_c) and C(power_on_hours); null where nothing is known.
      type: dict
  sample:
    - path: /dev/sdb
      by_id: [/dev/disk/by-id/ata-QEMU_HARDDISK_lab1]
      type: disk
      size_bytes: 10737418240
      model: QEMU HARDDISK
      serial: lab1
      transport: sata
      rotational: false
      removable: false
      read_only: false
      sector_bytes: {logical: 512, physical: 512}
      contents: [an LVM physical volume of volume group vmdata with the logical volumes thin]
      used_by: [in volume group vmdata]
      system: false
      storages: [fast]
      smart: {passed: true, temperature_c: 34, power_on_hours: 12007}
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.disks import Device, Disks, storages, stored_on
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import smart, survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {"device": {"type": "str"}, "smart": {"type": "bool", "default": True}}
_ATTACHED = ("disk", "loop")


def read(host: Any, params: Params) -> dict[str, Any]:
    disks = survey(host, [params["device"]] if params["device"] else [])
    attached = [d for d in disks.devices if d.kind in _ATTACHED and not d.unreal]
    shown = [disks.find(params["device"])] if params["device"] else attached
    sections = storages(host.read("/etc/pve/storage.cfg") or "")
    found = [{**_told(disks, d), "storages": stored_on(disks, d, sections)} for d in shown]
    for entry in found:
        entry["smart"] = smart(host, entry["path"]) if params["smart"] and entry["type"] == "disk" else None
    return {"disks": sorted(found, key=lambda d: str(d["path"]))}


def _told(disks: Disks, device: Device) -> dict[str, Any]:
    facts = device.facts
    return {
        "path": device.path,
        "by_id": disks.by_id(device.path),
        "type": device.kind,
        "size_bytes": int(facts.get("size") or 0),
        **{k: str(facts.get(k) or "").strip() for k in ("model", "serial")},
        "transport": facts.get("tran") or "",
        "rotational": bool(facts.get("rota")),
        "removable": bool(facts.get("rm")),
        "read_only": bool(facts.get("ro")),
        "sector_bytes": {"logical": facts.get("log-sec"), "physical": facts.get("phy-sec")},
        "contents": disks.contents(device),
        "used_by": disks.users(device),
        "system": disks.is_system(device),
    }


RESOURCE = Query(noun="disks", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
