#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: thin_pool
short_description: Make, grow, watch and remove LVM thin pools
version_added: 1.0.0
description:
  - Makes a thin pool in a volume group, grows its data and its metadata, and settles what happens when it fills up.
  - A pool never shrinks. Sizes are least sizes, so that a pool which has grown by itself is left as it is.
  - It runs on the host itself.
options:
  vg:
    description: The volume group.
    type: str
    required: true
  name:
    description: Name of the pool.
    type: str
    required: true
  size_gib:
    description: Least size of its data in GiB.
    type: float
  free_percent:
    description: Size of a new pool, as a share of what is free in the group. Leave some for metadata and growth.
    type: int
  metadata_mib:
    description: Least size of its metadata in MiB. LVM keeps a spare of the same size beside it.
    type: int
  chunk_kib:
    description: Size of a chunk in KiB. It is settled when the pool is made.
    type: int
  discards:
    description: What becomes of discards from guests.
    type: str
    choices: [passdown, nopassdown, ignore]
  error_when_full:
    description: Fail writes at once when the pool is full, instead of holding them back for a minute.
    type: bool
  autoextend_threshold:
    description:
      - Grow the pool by itself when it is full to so many percent, 50 to 100. V(100) never does.
      - Kept in a profile of LVM that is attached to the pool, which is then watched by dmeventd.
    type: int
  autoextend_percent:
    description: By how many percent it grows.
    type: int
    default: 20
  allow_data_loss:
    description: Confirm that the pool and all its volumes may be lost with O(state=absent).
    type: bool
    default: false
  state:
    description: Whether there is to be such a pool.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.volume_group
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A pool that grows by a fifth when it is full to 80 percent, and tells guests at once when nothing is left
  pvelab.proxmox.thin_pool:
    vg: vmdata
    name: thin
    free_percent: 80
    metadata_mib: 1024
    autoextend_threshold: 80
    error_when_full: true

- name: A pool of 200 GiB in small pieces, for guests with many snapshots
  pvelab.proxmox.thin_pool:
    vg: vmdata
    name: small
    size_gib: 200
    chunk_kib: 64
    discards: passdown
"""

RETURN = r"""
object:
  description: The pool as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    size:
      description: Size of its data in bytes.
      type: int
    metadata_size:
      description: Size of its metadata in bytes.
      type: int
    chunk_kib:
      description: Size of a chunk.
      type: int
    discards:
      description: What becomes of discards.
      type: str
    error_when_full:
      description: Whether writes fail at once when it is full.
      type: bool
    profile:
      description: The profile that is attached to it.
      type: str
    profile_text:
      description: The thresholds as they are kept.
      type: str
    monitored:
      description: Whether dmeventd watches it.
      type: bool
    data_percent:
      description: How full its data is.
      type: float
    metadata_percent:
      description: How full its metadata is.
      type: float
  sample:
    size: 8589934592
    metadata_size: 1073741824
    chunk_kib: 64
    discards: passdown
    error_when_full: true
    profile: pvelab-vmdata-thin
    monitored: true
    data_percent: 12.5
    metadata_percent: 1.2
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.lvm import pool_steps, pool_want, profile_path
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Missing
from ansible_collections.pvelab.proxmox.plugins.module_utils.disk_reads import need, report
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "vg": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "size_gib": {"type": "float"},
    "free_percent": {"type": "int"},
    "metadata_mib": {"type": "int"},
    "chunk_kib": {"type": "int"},
    "discards": {"type": "str", "choices": ["passdown", "nopassdown", "ignore"]},
    "error_when_full": {"type": "bool"},
    "autoextend_threshold": {"type": "int"},
    "autoextend_percent": {"type": "int", "default": 20},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
COLUMNS = (
    "vg_name,lv_name,pool_lv,segtype,lv_size,lv_metadata_size,chunk_size,discards,lv_when_full,lv_profile,seg_monitor,"
    "data_percent,metadata_percent,lv_device_open"
)


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    need(host, "lvm")
    for key, least, most in (("free_percent", 1, 100), ("autoextend_threshold", 50, 100)):
        if params[key] is not None and not least <= params[key] <= most:
            raise Failure(f"{key} is {params[key]}. Give a number from {least} to {most}.")
    groups = report(host, "vgs", "vg_name,vg_extent_size,vg_free")
    group = next((g for g in groups if g["vg_name"] == params["vg"]), None)
    if group is None:
        if params["state"] == "present":
            raise Missing(f"there is no volume group {params['vg']}. Make it with the module volume_group.")
        return {"_thin": {}, "_profile": None}
    rows = [r for r in report(host, "lvs", COLUMNS) if r["vg_name"] == params["vg"]]
    thin = {r["lv_name"]: r["lv_device_open"] == "open" for r in rows if r["pool_lv"] == params["name"]}
    known = {"extent": int(group["vg_extent_size"]), "free": int(group["vg_free"])}
    return {"_group": known, "_have": read(host, params), "_thin": thin, "_profile": host.read(profile_path(params))}


def read(host: Any, params: Params) -> State | None:
    named = (params["vg"], params["name"])
    row = next((r for r in report(host, "lvs", COLUMNS) if (r["vg_name"], r["lv_name"]) == named), None)
    if row is None:
        return None
    if row["segtype"] != "thin-pool":
        raise Failure(f"{'/'.join(named)} is a volume of another kind ({row['segtype']}). Choose another name.")
    return {
        "size": int(row["lv_size"]),
        "metadata_size": int(row["lv_metadata_size"]),
        "chunk_kib": int(row["chunk_size"]) // 1024,
        "discards": row["discards"],
        "error_when_full": row["lv_when_full"] == "error",
        "profile": row["lv_profile"],
        "profile_text": host.read(profile_path(params)) or "",
        "monitored": row["seg_monitor"] == "monitored",
        **{key: float(row[key] or 0) for key in ("data_percent", "metadata_percent")},
    }


RESOURCE = Resource(
    noun="thin pool",
    options=OPTIONS,
    want=pool_want,
    resolve=resolve,
    read=read,
    steps=pool_steps,
    name=lambda params: f"{params['vg']}/{params['name']}",
    immutable={"chunk_kib": "Move its volumes elsewhere, remove it and make it again."},
    constraints={"mutually_exclusive": [("size_gib", "free_percent")]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
