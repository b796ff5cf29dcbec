#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: answer_partition
short_description: Put an answer file on an image of a partition for the installer of Proxmox VE
version_added: 1.0.0
description:
  - Makes an image of a file system with nothing but the answer file, which the installer finds by its label when its
    ISO was prepared with C(--fetch-from partition).
  - The image is a FAT file system of 1.44 MB. Write it to a USB stick, attach it as a disk, or as a floppy.
  - It is made without privileges and without a program. The same answer file gives the same bytes.
  - It runs on the host where the image is to be.
options:
  path:
    description: The image. Its directory must be there.
    type: str
    required: true
  source:
    description:
      - The answer file on the same host, as M(pvelab.proxmox.answer_file) writes it.
      - Required with O(state=present).
    type: str
  label:
    description:
      - Label of the file system, of at most 11 characters. FAT keeps it in capitals; the installer looks for both.
      - Another one than the default has to be given to C(prepare-iso --partition-label), too, which 8.3 was the first
        to know.
    type: str
    default: proxmox-ais
  state:
    description: Whether there is to be such an image.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.answer_file
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: An image for a machine that no network reaches
  pvelab.proxmox.answer_partition:
    path: /srv/images/pve1-answer.img
    source: /var/lib/pvelab-answers/answers/pve1.toml

- name: No image any more, because it holds secrets
  pvelab.proxmox.answer_partition:
    path: /srv/images/pve1-answer.img
    state: absent
"""

RETURN = r"""
object:
  description: The image; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    sha256:
      description: SHA-256 of the image.
      type: str
    mode:
      description: Mode of the file.
      type: str
  sample: {sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, mode: "600"}
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import answer_files, answer_toml, fat
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Missing, Write
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "path": {"type": "str", "required": True},
    "source": {"type": "str"},
    "label": {"type": "str", "default": "proxmox-ais"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    if params["state"] == "absent":
        return {}
    text = host.read(params["source"])
    if text is None:
        raise Missing(f"there is no {params['source']} yet. Write it with answer_file first.")
    if "global.fqdn" not in answer_toml.parse(text) and "global.fqdn.source" not in answer_toml.parse(text):
        raise Failure(f"{params['source']} is no answer file: it says nothing of global.fqdn. Name another source.")
    return {"_image": fat.image(params["label"], "answer.toml", text.encode())}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    made = {"sha256": sha256(params["_image"]).hexdigest()} if "_image" in params else {}
    return {**made, "mode": answer_files.MODE}


def read(host: Any, params: Params) -> State | None:
    folder, _slash, name = params["path"].rpartition("/")
    if name not in host.names(folder or "/"):
        return None
    digest = host.query(("sha256sum", params["path"])).split()[0].lstrip("\\")
    return {"sha256": digest, "mode": host.query(("stat", "--format=%a", params["path"])).strip()}


def steps(plan: Plan, params: Params) -> Sequence[Write]:
    if plan.action == "delete":
        return [answer_files.remove(params["path"])]
    return [answer_files.write(params["path"], params["_image"])]


RESOURCE = Resource(
    noun="answer partition",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: params["path"],
    constraints={"required_if": [("state", "present", ["source"])]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
