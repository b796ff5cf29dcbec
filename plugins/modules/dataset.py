#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dataset
short_description: Make, change and remove ZFS file systems and volumes
version_added: 1.0.0
description:
  - Makes a file system or a volume in a ZFS pool, and keeps its properties.
  - A pool's own file system, which has the pool's name, can be changed like any other.
  - A volume grows and never shrinks.
  - It runs on the host itself.
options:
  name:
    description: Its full name, beginning with that of the pool.
    type: str
    required: true
  size_gib:
    description: Make it a volume of this size in GiB, rather than a file system.
    type: float
  sparse:
    description: Reserve no room for a new volume.
    type: bool
    default: false
  mountpoint:
    description: Where a file system is mounted; V(none) or V(legacy).
    type: str
  quota_gib:
    description: The most that a file system and all below it may hold, in GiB. V(0) lifts it.
    type: float
  properties:
    description:
      - Further properties, by name, as C(zfs get -Hp) prints their values. Sizes may end in V(K), V(M), V(G) or V(T).
      - V("") goes back to what is inherited.
    type: dict
  allow_data_loss:
    description: Confirm that with O(state=absent) it and everything below it may be lost.
    type: bool
    default: false
  state:
    description: Whether it is to be there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.zpool
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A place for guests
  pvelab.proxmox.dataset:
    name: tank/vm
    mountpoint: none
    quota_gib: 200
    properties:
      compression: zstd
      atime: "off"

- name: A volume of 32 GiB that takes its space when it is written
  pvelab.proxmox.dataset:
    name: tank/vm/disk1
    size_gib: 32
    sparse: true
"""

RETURN = r"""
object:
  description: The dataset as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    type:
      description: V(filesystem) or V(volume).
      type: str
    properties:
      description: The properties that the task names, sizes in bytes.
      type: dict
    used_bytes:
      description: What it and everything below it takes up.
      type: int
    available_bytes:
      description: What is left for it.
      type: int
  sample:
    type: filesystem
    properties: {compression: zstd, atime: "off", mountpoint: none, quota: "214748364800"}
    used_bytes: 98304
    available_bytes: 214748266496
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.datasets import wanted_properties
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.disks import size
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.options import listed
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Missing, Run
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import need
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.zfs_reads import datasets

OPTIONS = {
    "name": {"type": "str", "required": True},
    "size_gib": {"type": "float"},
    "sparse": {"type": "bool", "default": False},
    "mountpoint": {"type": "str"},
    "quota_gib": {"type": "float"},
    "properties": {"type": "dict"},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    need(host, "zfs")
    pool = params["name"].partition("/")[0]
    if params["state"] == "present" and pool not in host.query(("zpool", "list", "-H", "-o", "name")).split():
        raise Missing(f"there is no zpool {pool}. Make or import it with the module zpool.")
    return {"_tree": datasets(host, params["name"])}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    # Without a size, what is there may be of either type; only a new one has to be something.
    kind = "volume" if params["size_gib"] else None if params.get("_tree") else "filesystem"
    return {"type": kind, **{f"properties.{k}": v for k, v in wanted_properties(params).items()}}


def read(host: Any, params: Params) -> State | None:
    if not datasets(host, params["name"]):
        return None
    text = host.query(("zfs", "get", "-Hp", "-o", "property,value,source", "all", params["name"]))
    rows = {p: (v, s) for p, v, s in (line.split("\t") for line in text.splitlines())}
    wanted = wanted_properties(params)
    # What is to be inherited counts as cleared once nothing is set here.
    shown = {k: v for k in wanted for v, s in [rows.get(k, ("", ""))] if wanted[k] or s in ("local", "received")}
    sizes = {f"{k}_bytes": int(rows.get(k, ("0", ""))[0]) for k in ("used", "available")}
    return {"type": rows["type"][0], **{f"properties.{k}": v for k, v in shown.items()}, **sizes}


def steps(plan: Plan, params: Params) -> Sequence[Run]:
    name, have = params["name"], plan.have or {}
    if plan.action == "delete":
        lost = f"{have['type']} {name}" + (f" with {listed(params['_tree'][1:])}" if params["_tree"][1:] else "")
        return [Run(("zfs", "destroy", "-r", name), f"destroy {name}", destroys=lost, timeout_s=600.0)]
    values = {k.partition(".")[2]: c.after for k, c in plan.changes.items() if "." in k}
    if plan.action == "create":
        volume = ("-V", values.pop("volsize"), *(("-s",) if params["sparse"] else ())) if params["size_gib"] else ()
        given = [word for k, v in values.items() for word in ("-o", f"{k}={v}")]
        return [Run(("zfs", "create", "-p", *volume, *given, name), label=f"make {name}")]
    if "volsize" in values and int(values["volsize"]) < int(have["properties.volsize"]):
        raise Failure(f"it is {size(int(have['properties.volsize']))}, and a volume does not shrink. Ask for no less.")
    argv = [("inherit", k) if v == "" else ("set", f"{k}={v}") for k, v in values.items()]
    return [Run(("zfs", *words, name), label=f"{' '.join(words)} on {name}") for words in argv]


RESOURCE = Resource(
    noun="dataset",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: str(params["name"]),
    immutable={"type": "Choose another name, or remove it first."}
    | dict.fromkeys(("properties.volblocksize", "properties.encryption"), "Remove it and make it again."),
    constraints={"mutually_exclusive": [("size_gib", "quota_gib"), ("size_gib", "mountpoint")]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
