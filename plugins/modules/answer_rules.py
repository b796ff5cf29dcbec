#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: answer_rules
short_description: Say by what the answer server tells the machines apart that ask it
version_added: 1.0.0
description:
  - Writes the table of hosts that the answer server of the role C(pvelab.proxmox.installer) reads with each request.
  - A host is the one that asks if everything that its entry says is true of it. Where O(hosts[].macs) has several
    addresses, one of them is enough.
  - Two hosts with a mark in common are refused.
  - It runs on the host of the answer server.
options:
  path:
    description: The table. Its directory must be there.
    type: str
    required: true
  hosts:
    description: Every host that is to get an answer. Others get none.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host. Its answer is C(NAME.toml) beside the table.
        type: str
        required: true
      macs:
        description: MAC addresses of its network cards.
        type: list
        elements: str
      serial:
        description: Serial number of the machine, C(/sys/class/dmi/id/product_serial).
        type: str
      uuid:
        description: UUID of the machine, C(/sys/class/dmi/id/product_uuid).
        type: str
      once:
        description: Give the answer only once, until the answer is another one.
        type: bool
        default: false
      expires:
        description: Until when the answer is given, such as V(2030-01-31T18:00:00Z).
        type: str
  state:
    description: Whether there is to be such a table.
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
- name: Two machines, of which one is given its answer only once
  pvelab.proxmox.answer_rules:
    path: /var/lib/pvelab-answers/answers/rules.json
    hosts:
      - {name: pve1, macs: ["52:54:00:12:34:56"], once: true}
      - {name: pve2, uuid: 0b0ce0a1-6a04-5f2c-9d8a-0f4f4c7f3a10}

- name: One machine by its serial number, for this week only
  pvelab.proxmox.answer_rules:
    path: /var/lib/pvelab-answers/answers/rules.json
    hosts:
      - {name: pve3, serial: CZ12345678, expires: "2027-01-08T00:00:00Z"}
"""

RETURN = r"""
object:
  description: The hosts by name and the mode of the file; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  sample: {hosts: {pve1: {macs: ["52:54:00:12:34:56"], once: true}}, mode: "600"}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import answer_files, answer_matching
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Write
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "path": {"type": "str", "required": True},
    "hosts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "macs": {"type": "list", "elements": "str"},
            "serial": {"type": "str"},
            "uuid": {"type": "str"},
            "once": {"type": "bool", "default": False},
            "expires": {"type": "str"},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    return {"hosts": answer_matching.table(params["hosts"]), "mode": answer_files.MODE}


def read(host: Any, params: Params) -> State | None:
    text = host.read(params["path"])
    if text is None:
        return None
    mode = host.query(("stat", "--format=%a", params["path"])).strip()
    return {"hosts": answer_matching.parse(text), "mode": mode}


def steps(plan: Plan, params: Params) -> Sequence[Write]:
    if plan.action == "delete":
        return [answer_files.remove(params["path"])]
    return [answer_files.write(params["path"], answer_matching.render(plan.after("hosts")))]


RESOURCE = Resource(
    noun="answer rules",
    options=OPTIONS,
    want=want,
    read=read,
    steps=steps,
    name=lambda params: params["path"],
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
