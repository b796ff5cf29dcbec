#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: storage
short_description: Define storages of a Proxmox VE cluster
version_added: 0.1.0
description:
  - Creates, changes and removes the definitions of storages, which hold for the whole cluster.
  - It does not make volume groups, pools or shares. They have to exist where the definition points.
  - What is not given is left alone. V("") or an empty list takes a setting away, so that Proxmox VE's default applies.
options:
  storage:
    description: Id of the storage.
    type: str
    required: true
  type:
    description:
      - What kind of storage it is. Needed to create one, and cannot be changed.
    type: str
    choices: [btrfs, cifs, dir, lvm, lvmthin, nfs, pbs, zfspool]
  content:
    description:
      - What the storage may hold. The order does not matter.
      - What is possible depends on the type. Block storages (V(lvm), V(lvmthin), V(zfspool)) take V(images) and
        V(rootdir) only.
    type: list
    elements: str
    choices: [images, rootdir, vztmpl, iso, backup, snippets, import, none]
  nodes:
    description: The nodes that have this storage. An empty list means all of them.
    type: list
    elements: str
  disable:
    description: Keep the definition but do not use the storage.
    type: bool
  shared:
    description:
      - Tell Proxmox VE that all nodes see the same content here. It does not make it so.
      - For the types V(btrfs), V(dir) and V(lvm). Network storages are shared anyway.
    type: bool
  path:
    description:
      - Directory on the node. Needed for V(btrfs) and V(dir), and settled when the storage is created.
      - For V(cifs) and V(nfs) it is where the share is mounted, by default C(/mnt/pve/STORAGE).
    type: str
  content_dirs:
    description:
      - Other subdirectories for some kinds of content, such as C(iso) in C(media/iso). For V(cifs), V(dir) and V(nfs).
    type: dict
  mkdir:
    description:
      - Create the directory and its subdirectories.
      - Proxmox VE calls it outdated. Use O(create_base_path) and O(create_subdirs).
    type: bool
  create_base_path:
    description: Create O(path) if it is missing. Proxmox VE does unless told otherwise.
    type: bool
  create_subdirs:
    description: Create the usual subdirectories below O(path). Proxmox VE does unless told otherwise.
    type: bool
  is_mountpoint:
    description:
      - V(yes) if O(path) is a mount point that somebody else looks after. While nothing is mounted there, the storage
        counts as offline. A path in place of V(yes) names the mount point if it lies above O(path).
      - For V(btrfs) and V(dir).
    type: str
  format:
    description: Format of new disk images unless a task names one. For storages that keep files.
    type: str
    choices: [raw, qcow2, subvol, vmdk]
  preallocation:
    description: How much of a new image is reserved at once. For storages that keep files.
    type: str
    choices: ["off", metadata, falloc, full]
  snapshot_as_volume_chain:
    description:
      - Keep snapshots as a chain of volumes, each with the one before it as its base.
      - Settled when the storage is created for V(cifs), V(dir) and V(nfs). On V(lvm) a change concerns new volumes.
    type: bool
  nocow:
    description: Switch off copy-on-write, and with it the checksums, for files on V(btrfs).
    type: bool
  bwlimit:
    description: Limits on reading and writing, in KiB/s. V({}) takes them all away.
    type: dict
    suboptions:
      default:
        description: For whatever has no limit of its own.
        type: float
      restore:
        description: When a guest is restored from a backup.
        type: float
      migration:
        description: When a guest is migrated.
        type: float
      move:
        description: When a disk is moved.
        type: float
      clone:
        description: When a disk is cloned.
        type: float
  prune_backups:
    description: Which backups to keep. V({}) takes the rule away.
    type: dict
    suboptions:
      keep_all:
        description: Keep all of them. Cannot go together with the others.
        type: bool
      keep_last:
        description: How many of the newest.
        type: int
      keep_hourly:
        description: For how many hours one each.
        type: int
      keep_daily:
        description: For how many days one each.
        type: int
      keep_weekly:
        description: For how many weeks one each.
        type: int
      keep_monthly:
        description: For how many months one each.
        type: int
      keep_yearly:
        description: For how many years one each.
        type: int
  max_protected_backups:
    description: How many backups of one guest may be protected. V(-1) means any number.
    type: int
  vgname:
    description: Volume group. Needed for V(lvm) and V(lvmthin), and settled when the storage is created.
    type: str
  thinpool:
    description: Thin pool in the volume group. Needed for V(lvmthin), and settled when the storage is created.
    type: str
  base:
    description: Volume, usually on iSCSI, that holds the volume group of V(lvm). Settled when the storage is created.
    type: str
  tagged_only:
    description: Only see volumes of V(lvm) that carry the tag C(pve-vm-ID).
    type: bool
  saferemove:
    description: Overwrite volumes of V(lvm) with zeros when they are removed.
    type: bool
  saferemove_stepsize:
    description: How much to overwrite at a time, in MiB. Proxmox VE's default is 32.
    type: int
    choices: [1, 2, 4, 8, 16, 32]
  saferemove_throughput:
    description: How fast to overwrite, in bytes per second.
    type: str
  pool:
    description: ZFS pool or dataset. Needed for V(zfspool), and settled when the storage is created.
    type: str
  blocksize:
    description: Block size of new volumes on V(zfspool), such as V(16k).
    type: str
  sparse:
    description: Do not reserve the space of new volumes on V(zfspool).
    type: bool
  mountpoint:
    description: Where the dataset of V(zfspool) is mounted. Proxmox VE asks ZFS when the storage is created.
    type: str
  server:
    description:
      - Address or name of the server. Needed for V(cifs), V(nfs) and V(pbs), and settled when the storage is created.
    type: str
  port:
    description: Port of the backup server (V(pbs)) if it is not the usual one.
    type: int
  export:
    description: Path that the server exports. Needed for V(nfs), and settled when the storage is created.
    type: str
  options:
    description: Mount options for V(cifs) and V(nfs), separated by commas, such as V(vers=4.2,soft).
    type: str
  share:
    description: Name of the share. Needed for V(cifs), and settled when the storage is created.
    type: str
  subdir:
    description: Directory of the share to mount. For V(cifs).
    type: str
  domain:
    description: Domain of the user. For V(cifs).
    type: str
  smbversion:
    description: Version of the protocol. For V(cifs).
    type: str
    choices: [default, "2.0", "2.1", "3", "3.0", "3.11"]
  username:
    description: User on the server, for V(cifs) and V(pbs).
    type: str
  password:
    description: Password of the user, for V(cifs) and V(pbs). See O(update_secret).
    type: str
  datastore:
    description: Datastore of the backup server. Needed for V(pbs), and settled when the storage is created.
    type: str
  namespace:
    description: Namespace in the datastore. For V(pbs).
    type: str
  fingerprint:
    description: SHA-256 fingerprint of the backup server's certificate. For V(pbs).
    type: str
  encryption_key:
    description:
      - Key, as the JSON text that the backup client writes, to encrypt backups with. For V(pbs).
      - V(autogen) has the node make one. Save it from there, or the backups are worth nothing without the node.
      - See O(update_secret).
    type: str
  master_pubkey:
    description:
      - Public RSA key, PEM in base64, with which each backup's key is deposited. For V(pbs). See O(update_secret).
    type: str
  update_secret:
    description:
      - When to send O(password), O(encryption_key) and O(master_pubkey), which cannot be read back.
      - V(on_create) sends them with a new definition, and a key also where the node says that it has none. It stays
        unnoticed that a password has changed.
      - V(always) sends them on every run, which then always counts as changed.
    type: str
    choices: [on_create, always]
    default: on_create
  state:
    description:
      - Whether the storage is to be defined.
      - V(absent) removes the definition only. Disks, images and backups stay where they are, and nothing can reach
        them through Proxmox VE until the storage is defined again.
    type: str
    choices: [present, absent]
    default: present
attributes:
  idempotent:
    support: partial
    details: Except with O(update_secret=always).
notes:
  - Proxmox VE tries a new storage on the node that it is asked on, and refuses the definition if it cannot be activated
    there. Other nodes are not looked at.
  - An update carries the digest of what was read, so that it fails if somebody else changed the storages in between.
seealso:
  - module: pvelab.proxmox.image
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A directory for images that guests are made from
  pvelab.proxmox.storage:
    storage: templates
    type: dir
    path: /srv/templates
    content: [import, iso]

- name: Let the built-in storage hold images to import, too, and keep a week of backups
  pvelab.proxmox.storage:
    storage: local
    content: [backup, import, iso, vztmpl]
    prune_backups:
      keep_daily: 7

- name: A thin pool on two of the nodes
  pvelab.proxmox.storage:
    storage: fast
    type: lvmthin
    vgname: nvme
    thinpool: data
    content: [images, rootdir]
    nodes: [pve1, pve2]

- name: The backup server
  pvelab.proxmox.storage:
    storage: backups
    type: pbs
    server: pbs.example.test
    datastore: lab
    username: lab@pbs
    password: "{{ pbs_password }}"
    fingerprint: "{{ pbs_fingerprint }}"

- name: On all nodes again, without limits
  pvelab.proxmox.storage:
    storage: fast
    nodes: []
    bwlimit: {}

- name: Forget the storage (its data stays)
  pvelab.proxmox.storage:
    storage: templates
    state: absent
"""

RETURN = r"""
object:
  description:
    - The definition as it is now; before the change in check mode. Null if there is none.
    - Keys are named as in Proxmox VE. Lists are sorted and secrets are masked.
  returned: success
  type: dict
  sample:
    content: [images, iso]
    digest: 9fc10469b51f2791d0a458909d5ddfe333bd8746
    path: /srv/pool1
    prune-backups: {keep-last: 3}
    shared: false
    type: dir
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.state import is_cleared
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.storages import (
    SECRETS,
    check_create,
    check_fixed,
    check_keys,
    observed,
    rendered,
    wanted,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "storage": {"type": "str", "required": True},
    "type": {"type": "str", "choices": ["btrfs", "cifs", "dir", "lvm", "lvmthin", "nfs", "pbs", "zfspool"]},
    "content": {
        "type": "list",
        "elements": "str",
        "choices": ["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"],
    },
    "nodes": {"type": "list", "elements": "str"},
    "disable": {"type": "bool"},
    "shared": {"type": "bool"},
    "path": {"type": "str"},
    "content_dirs": {"type": "dict"},
    "mkdir": {"type": "bool"},
    "create_base_path": {"type": "bool"},
    "create_subdirs": {"type": "bool"},
    "is_mountpoint": {"type": "str"},
    "format": {"type": "str", "choices": ["raw", "qcow2", "subvol", "vmdk"]},
    "preallocation": {"type": "str", "choices": ["off", "metadata", "falloc", "full"]},
    "snapshot_as_volume_chain": {"type": "bool"},
    "nocow": {"type": "bool"},
    "bwlimit": {
        "type": "dict",
        "options": {k: {"type": "float"} for k in ("default", "restore", "migration", "move", "clone")},
    },
    "prune_backups": {
        "type": "dict",
        "options": {
            "keep_all": {"type": "bool"},
            **{f"keep_{k}": {"type": "int"} for k in ("last", "hourly", "daily", "weekly", "monthly", "yearly")},
        },
    },
    "max_protected_backups": {"type": "int"},
    "vgname": {"type": "str"},
    "thinpool": {"type": "str"},
    "base": {"type": "str"},
    "tagged_only": {"type": "bool"},
    "saferemove": {"type": "bool"},
    "saferemove_stepsize": {"type": "int", "choices": [1, 2, 4, 8, 16, 32]},
    "saferemove_throughput": {"type": "str"},
    "pool": {"type": "str"},
    "blocksize": {"type": "str"},
    "sparse": {"type": "bool"},
    "mountpoint": {"type": "str"},
    "server": {"type": "str"},
    "port": {"type": "int"},
    "export": {"type": "str"},
    "options": {"type": "str"},
    "share": {"type": "str"},
    "subdir": {"type": "str"},
    "domain": {"type": "str"},
    "smbversion": {"type": "str", "choices": ["default", "2.0", "2.1", "3", "3.0", "3.11"]},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "datastore": {"type": "str"},
    "namespace": {"type": "str"},
    "fingerprint": {"type": "str"},
    "encryption_key": {"type": "str", "no_log": True},
    "master_pubkey": {"type": "str", "no_log": True},
    "update_secret": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def want(params: Params) -> State | None:
    return wanted(params) if params["state"] == "present" else None


def read(api: Any, params: Params) -> State | None:
    found = next((s for s in api.get("/storage") if s["storage"] == params["storage"]), None)
    return observed(found, resend_secrets=params["update_secret"] == "always") if found else None


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    storage, path = params["storage"], f"/storage/{params['storage']}"
    if plan.action == "delete":
        return [Call("DELETE", path, label=f"remove the definition of storage {storage}; its data stays where it is")]
    changes = {k: c.after for k, c in plan.changes.items()}
    sent = {k: rendered(k, v) for k, v in changes.items() if k != "type" and not is_cleared(v)}
    if plan.action == "create":
        check_create(plan.want or {})
        sent = {"storage": storage, "type": params["type"], **sent}
        return [Call("POST", "/storage", sent, label=f"define storage {storage}")]
    have = plan.have or {}
    check_keys(have["type"], plan.want or {})
    check_fixed(have["type"], plan.changes)
    sent |= {"delete": ",".join(k for k, v in changes.items() if is_cleared(v)) or None, "digest": have.get("digest")}
    return [Call("PUT", path, sent, label=f"change storage {storage}")]


RESOURCE = Resource(
    noun="storage",
    options=OPTIONS,
    want=want,
    read=read,
    steps=steps,
    name=lambda params: str(params["storage"]),
    secret=frozenset(SECRETS),
    write_only=frozenset(SECRETS),
    unseen=frozenset(SECRETS),
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
