#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Bring installation media, disk images and container templates onto a storage
version_added: 0.1.0
description:
  - Uploads a file, or has the node download one, so that guests can be installed or made from it.
  - Takes ISO images, disk images to import, and container templates. Proxmox VE lets no other files through its API,
    snippets among them.
options:
  storage:
    description: The storage to hold the file. It keeps files (a directory, NFS, CIFS) and has O(content) enabled.
    type: str
    required: true
  node:
    description:
      - The node that has the storage and, with O(url), downloads. Not needed if the cluster has one node only.
    type: str
  src:
    description:
      - File to upload, on the machine that runs the task. That is the controller for hosts with a local connection.
      - It is sent in pieces and never held in memory.
    type: path
  url:
    description: Address that the node downloads from, with C(http) or C(https).
    type: str
  filename:
    description:
      - Name on the storage. By default that of O(src) or of the last part of O(url).
      - Every character but letters, digits, V(.), V(-) and V(_) becomes V(_), as Proxmox VE does it.
      - Its ending has to fit O(content).
    type: str
  content:
    description: What the file is. By default its ending decides.
    type: str
    choices: [iso, import, vztmpl]
  checksum:
    description:
      - The checksum that the file has to have, in hexadecimal.
      - A file to upload is checked before anything is sent, and by the node once more. A download is checked by the
        node, which keeps nothing that does not fit.
      - Proxmox VE tells no checksum of a file that it has, so one that is there already is not checked.
    type: str
  checksum_algorithm:
    description: How O(checksum) was made.
    type: str
    choices: [md5, sha1, sha224, sha256, sha384, sha512]
    default: sha256
  compression:
    description: The download is packed with this; the node unpacks it. For C(iso) only.
    type: str
    choices: [gz, lzo, zst, bz2]
  verify_certificates:
    description: Whether the node insists on a valid certificate of the server that it downloads from.
    type: bool
    default: true
  compare:
    description:
      - How to tell whether the file that is there is the right one.
      - V(name) takes any file of this name for right. It is the default with O(url).
      - V(size) compares the size as well. It is the default with O(src). With O(url) the node asks the server for the
        size on every run, which takes the right to look at the node's network.
      - A file with the right name and size but other content goes unnoticed. Name new images differently, or use
        O(force).
    type: str
    choices: [name, size]
  force:
    description:
      - Replace a file that is there, whether or not it differs. Every run does, and counts as changed.
      - With O(url), the old file is removed before the download begins, because Proxmox VE does not overwrite it.
    type: bool
    default: false
  timeout_s:
    description: How long the node may take for the download or for taking in the upload, in seconds.
    type: int
    default: 3600
  allow_data_loss:
    description: Confirm that the file may be lost. Needed for O(state=absent).
    type: bool
    default: false
  state:
    description:
      - Whether the file is to be there.
      - Where there is no such storage, there is no such file, and V(absent) is content.
    type: str
    choices: [present, absent]
    default: present
attributes:
  idempotent:
    support: partial
    details: Except with O(force=true).
notes:
  - In check mode, a storage that does not exist yet, or does not take O(content) yet, counts as one that an earlier
    task sees to. A warning says so. The same goes for O(src).
seealso:
  - module: pvelab.proxmox.storage
  - module: pvelab.proxmox.vm
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Have the node fetch a cloud image that guests are made from
  pvelab.proxmox.image:
    storage: templates
    url: https://cloud.example.test/debian-13-generic-amd64.qcow2
    checksum: "{{ debian_sha512 }}"
    checksum_algorithm: sha512

- name: Upload an image that was built here
  pvelab.proxmox.image:
    storage: local
    src: build/guest.qcow2
    filename: guest-1.4.qcow2

- name: Fetch a packed installation medium and unpack it
  pvelab.proxmox.image:
    storage: local
    url: https://download.example.test/appliance.iso.zst
    filename: appliance.iso
    compression: zst

- name: Remove an image that nothing uses any longer
  pvelab.proxmox.image:
    storage: local
    filename: guest-1.3.qcow2
    state: absent
    allow_data_loss: true
"""

RETURN = r"""
object:
  description: The file as the storage shows it now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    volid:
      description: Its volume id, which M(pvelab.proxmox.vm) takes for disks and drives.
      type: str
    size:
      description: Its size in bytes.
      type: int
    format:
      description: Its format.
      type: str
  sample: {format: qcow2, size: 38141952, volid: "local:import/guest-1.4.qcow2"}
"""

from collections.abc import Sequence
from urllib.parse import quote

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.images import (
    ALGORITHMS,
    CONTENT,
    content_of,
    file_name,
    human,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.image_reads import locate, look
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "storage": {"type": "str", "required": True},
    "node": {"type": "str"},
    "src": {"type": "path"},
    "url": {"type": "str"},
    "filename": {"type": "str"},
    "content": {"type": "str", "choices": list(CONTENT)},
    "checksum": {"type": "str"},
    "checksum_algorithm": {"type": "str", "choices": list(ALGORITHMS), "default": "sha256"},
    "compression": {"type": "str", "choices": ["gz", "lzo", "zst", "bz2"]},
    "verify_certificates": {"type": "bool", "default": True},
    "compare": {"type": "str", "choices": ["name", "size"]},
    "force": {"type": "bool", "default": False},
    "timeout_s": {"type": "int", "default": 3600},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    name = file_name(params)
    volid = f"{params['storage']}:{content_of(name, params['content'])}/{name}"
    replace = True if params["force"] and params.get("_there") else None
    return {"volid": volid, "size": params.get("_size"), "replaced": replace}


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    volid, path = params["_volid"], params["_path"]
    there = plan.have or {}
    remove = Call("DELETE", f"{path}/content/{quote(volid, safe='')}", label=f"remove {volid}")
    if plan.action == "delete":
        return [Call(remove.method, remove.path, label=remove.label, destroys=f"{volid} ({human(there['size'])})")]
    if plan.action == "update" and not params["force"]:
        raise Failure(
            f"the storage has {volid} with {there['size']} bytes, and it should have {params['_size']}. "
            "Set force: true to replace it, or give the new file another name with filename."
        )
    sent = {"content": params["_content"], "filename": volid.partition("/")[2]}
    if params["checksum"]:
        sent |= {"checksum": params["checksum"], "checksum-algorithm": params["checksum_algorithm"]}
    wait_s = params["timeout_s"]
    if params["src"]:
        label = f"upload {params['src']} as {volid}"
        return [Call("POST", f"{path}/upload", sent, label=label, file=params["src"], timeout_s=wait_s)]
    sent |= {"url": params["url"], "compression": params["compression"]}
    sent |= {"verify-certificates": None if params["verify_certificates"] else 0}
    download = Call("POST", f"{path}/download-url", sent, label=f"download {volid}", timeout_s=wait_s)
    return [remove, download] if plan.have else [download]


RESOURCE = Resource(
    noun="image",
    options=OPTIONS,
    want=want,
    resolve=locate,
    read=look,
    steps=steps,
    name=lambda params: f"{file_name(params)} on storage {params['storage']}",
    unseen=frozenset({"replaced"}),
    constraints={
        "mutually_exclusive": [("src", "url")],
        "required_if": [
            ("state", "present", ("src", "url"), True),
            ("state", "absent", ("filename", "src", "url"), True),
        ],
    },
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
