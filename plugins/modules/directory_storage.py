#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: directory_storage
short_description: Make a directory with a file system of its own for images
version_added: 1.0.0
description:
  - Makes a file system on a disk or partition and mounts it, now and at every boot, by its UUID.
  - A file system of the right type that is on the device already is taken as it is.
  - What else is on the device is named, and is lost only with O(allow_data_loss=true).
  - A device that anything else uses is refused; O(allow_data_loss) does not change that.
  - It runs on the host itself.
options:
  path:
    description: The directory, as an absolute path.
    type: str
    required: true
  device:
    description:
      - The disk or partition, best by a lasting name below C(/dev/disk/by-id).
      - Required with O(state=present).
    type: str
  fstype:
    description: Type of the file system.
    type: str
    choices: [ext4, xfs]
    default: ext4
  options:
    description: Options of the mount, next to V(nofail).
    type: list
    elements: str
    default: [defaults]
  allow_data_loss:
    description: Confirm that what is on the device may be lost.
    type: bool
    default: false
  state:
    description: Whether it is mounted. V(absent) leaves the file system on the device as it is.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.storage
  - module: pvelab.proxmox.disk_wipe
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A disk for images
  pvelab.proxmox.directory_storage:
    path: /srv/images
    device: /dev/disk/by-id/ata-QEMU_HARDDISK_lab3
    fstype: xfs
    options: [noatime]

- name: Unmount it, and forget it at boot; what is on the disk stays
  pvelab.proxmox.directory_storage:
    path: /srv/images
    state: absent
"""

RETURN = r"""
object:
  description: What is there now; before the change in check mode. Null if nothing is.
  returned: success
  type: dict
  contains:
    fstype:
      description: Type of the file system on the device.
      type: str
    uuid:
      description: UUID of that file system.
      type: str
    unit:
      description: The unit of systemd as it is kept.
      type: str
    enabled:
      description: Whether it is mounted at boot.
      type: bool
    mounted:
      description: The device that is mounted there now; empty if none is.
      type: str
  sample: {fstype: xfs, uuid: 0b0ce0a1-6a04-5f2c-9d8a-0f4f4c7f3a10, enabled: true, mounted: /dev/sdd}
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import mounts
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import need, survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "path": {"type": "str", "required": True},
    "device": {"type": "str"},
    "fstype": {"type": "str", "choices": ["ext4", "xfs"], "default": "ext4"},
    "options": {"type": "list", "elements": "str", "default": ["defaults"]},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    path, called = params["path"], params["device"]
    if not path.startswith("/") or path != path.rstrip("/") or ".." in path.split("/"):
        raise Failure(f"{path} is not the absolute path of a directory below /. Give one such as /srv/images.")
    if params["state"] == "absent":
        return {}
    need(host, f"mkfs.{params['fstype']}")
    disks = survey(host, [called])
    device = disks.find(called)
    machine = (host.read("/etc/machine-id") or "").strip()
    fresh = mounts.fresh_uuid(machine, disks.lasting(called), path, params["fstype"])
    taken = device.fstype == params["fstype"] and device.facts.get("uuid")
    return {"_disks": disks, "_uuid": taken or fresh, "_files": host.names(path)}


def read(host: Any, params: Params) -> State | None:
    path = params["path"]
    disks = survey(host, [params["device"]] if params["device"] else [])
    text = host.read(mounts.unit_path(path))
    here = next((d.path for top in disks.devices for d in top.tree() if path in d.mounts), "")
    if params["state"] == "absent" and text is None:
        if here:
            raise Failure(f"{here} is mounted on {path} by other means. Unmount it by these.")
        return None
    argv = ("systemctl", "show", "--property=UnitFileState", mounts.unit_name(path))
    enabled = "UnitFileState=enabled" in host.query(argv).splitlines()
    device = disks.find(params["device"]) if params["device"] else None
    found = {k: str(device.facts.get(k) or "") if device else "" for k in ("fstype", "uuid")}
    if text is None and not here and not found["fstype"]:
        return None
    return {**found, "unit": text or "", "enabled": enabled, "mounted": here}


RESOURCE = Resource(
    noun="directory",
    options=OPTIONS,
    want=mounts.directory_want,
    resolve=resolve,
    read=read,
    steps=mounts.directory_steps,
    name=lambda params: str(params["path"]),
    constraints={"required_if": [("state", "present", ["device"])]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
