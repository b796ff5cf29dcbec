#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: answer_file
short_description: Write an answer file for the unattended installation of Proxmox VE
version_added: 1.0.0
description:
  - Writes the file that tells the installer of Proxmox VE what it would otherwise ask for, and checks it as thoroughly
    as C(proxmox-auto-install-assistant validate-answer) would, and beyond, before a machine is erased for it.
  - A file that says the same in other words is left as it is.
  - The file has mode 0600. A password is put into it as a hash only, unless told otherwise.
  - It runs on the host where the file is to be.
options:
  path:
    description: The file. Its directory must be there.
    type: str
    required: true
  host:
    description: The name of the machine that is to be installed, as messages give it.
    type: str
    required: true
  version:
    description:
      - The release on the ISO, such as V(9.1). It says which keys there are, and how they are spelled.
      - Those of 8.2 and 8.3 are written with underscores.
      - Required with O(state=present).
    type: str
  answer:
    description:
      - The sections of the answer file with their keys as the documentation of Proxmox VE has them,
        C(global), C(network), C(disk-setup), C(post-installation-webhook) and C(first-boot).
      - Keys may have dashes or underscores.
      - Secrets are no part of it but options of their own.
      - Required with O(state=present).
    type: dict
  root_password:
    description: Password of root in the clear, of 8 characters or more. It is hashed before it is written.
    type: str
  root_password_hashed:
    description: Password of root as crypt has it, instead of O(root_password).
    type: str
  plain_password:
    description:
      - Write O(root_password) in the clear.
      - The installer of Proxmox VE 8.2 takes nothing else.
    type: bool
    default: false
  subscription_key:
    description: Key of a subscription, which is activated at the first boot.
    type: str
  webhook_token:
    description: What the installer sends to C(post-installation-webhook) to be known by.
    type: str
  state:
    description: Whether there is to be such a file.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: pvelab.proxmox.answer_partition
  - module: pvelab.proxmox.answer_rules
  - name: Automated installation
    description: What the keys mean.
    link: https://pve.proxmox.com/wiki/Automated_Installation
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: An answer for a machine with two equal disks
  pvelab.proxmox.answer_file:
    path: /var/lib/pvelab-answers/answers/pve1.toml
    host: pve1
    version: "9.1"
    root_password: "{{ vault_root_password }}"
    answer:
      global:
        keyboard: en-us
        country: at
        timezone: Europe/Vienna
        mailto: admin@example.com
        fqdn: pve1.example.com
        root-ssh-keys: ["{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"]
      network:
        source: from-answer
        cidr: 192.0.2.11/24
        gateway: 192.0.2.1
        dns: 192.0.2.1
        filter: {ID_NET_NAME_MAC: "*525400123456"}
      disk-setup:
        filesystem: zfs
        zfs: {raid: raid1}
        filter: {ID_MODEL: "SAMSUNG_MZ7*"}

- name: An answer for one disk and an address by DHCP, with a password that is a hash already
  pvelab.proxmox.answer_file:
    path: /var/lib/pvelab-answers/answers/pve2.toml
    host: pve2
    version: "8.4"
    root_password_hashed: "{{ vault_root_hash }}"
    answer:
      global:
        keyboard: de
        country: at
        timezone: Europe/Vienna
        mailto: admin@example.com
        fqdn: pve2.example.com
      network: {source: from-dhcp}
      disk-setup: {filesystem: ext4, disk-list: [sda]}

- name: No answer for a machine that is installed
  pvelab.proxmox.answer_file:
    path: /var/lib/pvelab-answers/answers/pve1.toml
    host: pve1
    state: absent
"""

RETURN = r"""
object:
  description:
    - The keys and values of the file, and its mode; before the change in check mode. Null if there is no file.
    - Secrets are masked.
  returned: success
  type: dict
  sample: {global: {fqdn: pve1.example.com}, disk-setup: {filesystem: ext4, disk-list: [sda]}, mode: "600"}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import answer, answer_files, answer_toml
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Write
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "path": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "version": {"type": "str"},
    "answer": {"type": "dict"},
    "root_password": {"type": "str", "no_log": True},
    "root_password_hashed": {"type": "str", "no_log": True},
    "plain_password": {"type": "bool", "default": False, "no_log": False},
    "subscription_key": {"type": "str", "no_log": True},
    "webhook_token": {"type": "str", "no_log": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    if params["state"] == "absent":
        return {}
    checked = answer_files.assembled(params)
    version = answer.release(params["version"])
    old = answer_toml.parse(host.read(params["path"]) or "")
    if not params["plain_password"]:
        salt = (host.read("/proc/sys/kernel/random/uuid") or "").replace("-", "")[:16]
        checked = answer_files.with_hash(checked, old, salt, version)
    return {"_text": answer_toml.render(answer_toml.styled(checked, version)), "_old": old}


def want(params: Params) -> State | None:
    return answer_files.wanted(params["_text"], params["_old"]) if params["state"] == "present" else None


def read(host: Any, params: Params) -> State | None:
    text = host.read(params["path"])
    if text is None:
        return None
    mode = host.query(("stat", "--format=%a", params["path"])).strip()
    return {**answer_toml.parse(text), "mode": mode}


def steps(plan: Plan, params: Params) -> Sequence[Write]:
    if plan.action == "delete":
        return [answer_files.remove(params["path"])]
    return [answer_files.write(params["path"], params["_text"])]


RESOURCE = Resource(
    noun="answer file",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: f"of {params['host']} ({params['path']})",
    secret=answer.SECRET,
    constraints={"required_if": [("state", "present", ["version", "answer"])]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
