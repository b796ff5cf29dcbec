#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: node_config
short_description: Set options of a node
version_added: 1.0.0
description:
  - Sets the options that Proxmox VE keeps for each node, such as the share of memory from which on it takes memory back
    from guests (ballooning).
  - What is not given is left alone. To take something away, name it in O(unset).
options:
  node:
    description: Name of the node. Not needed where there is only one.
    type: str
  ballooning_target:
    description:
      - Share of the host's memory in percent, 0 to 100. Where more is in use, Proxmox VE takes memory back from guests
        whose C(balloon) is less than their C(memory), and gives it back where less is.
      - Proxmox VE takes V(80) when it is not set. Needs Proxmox VE 8.4.
    type: int
  startall_onboot_delay:
    description: How long the node waits after its boot before it starts guests, in seconds, 0 to 300.
    type: int
  description:
    description: Notes about the node, which are shown in the web interface.
    type: str
  wakeonlan:
    description: How the node is woken up by others of its cluster. What is not given of it is taken away.
    type: dict
    suboptions:
      mac:
        description: The MAC address that wakes it up.
        type: str
        required: true
      bind_interface:
        description: The interface that others send the packet from. It is that of their default route if not given.
        type: str
      broadcast_address:
        description: The address that they send it to. It is V(255.255.255.255) if not given.
        type: str
  unset:
    description: What to take away. Proxmox VE's own default applies then.
    type: list
    elements: str
    choices: [ballooning_target, startall_onboot_delay, description, wakeonlan]
    default: []
notes:
  - Accounts and domains for ACME are not managed.
seealso:
  - module: pvelab.proxmox.node_info
  - module: pvelab.proxmox.ksm
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Take memory back from guests where more than 90 percent are in use
  pvelab.proxmox.node_config:
    ballooning_target: 90

- name: No notes any more
  pvelab.proxmox.node_config:
    node: pve1
    unset: [description]
"""

RETURN = r"""
object:
  description: The options that are set; before the change in check mode.
  returned: success
  type: dict
  sample: {ballooning_target: 90, description: The lab's first node}
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core import propstring
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.reads import choose_node

KEYS = {
    "ballooning_target": "ballooning-target",
    "startall_onboot_delay": "startall-onboot-delay",
    "description": "description",
    "wakeonlan": "wakeonlan",
}
LIMITS = {"ballooning_target": 100, "startall_onboot_delay": 300}

OPTIONS = {
    "node": {"type": "str"},
    "ballooning_target": {"type": "int"},
    "startall_onboot_delay": {"type": "int"},
    "description": {"type": "str"},
    "wakeonlan": {
        "type": "dict",
        "options": {
            "mac": {"type": "str", "required": True},
            "bind_interface": {"type": "str"},
            "broadcast_address": {"type": "str"},
        },
    },
    "unset": {"type": "list", "elements": "str", "choices": list(KEYS), "default": []},
}


def want(params: Params) -> State:
    for name, most in LIMITS.items():
        if params[name] is not None and not 0 <= params[name] <= most:
            raise Failure(f"{name} is {params[name]}. It takes 0 to {most}.")
    both = [name for name in params["unset"] if params[name] is not None]
    if both:
        raise Failure(f"unset: {both[0]} and a value for it contradict each other. Leave one of the two out.")
    waking = params["wakeonlan"] and {k.replace("_", "-"): v for k, v in params["wakeonlan"].items()}
    return {
        **{name: params[name] for name in LIMITS},
        "description": params["description"] and params["description"].rstrip("\n"),
        "wakeonlan": _waking(waking) if waking else None,
        **dict.fromkeys(params["unset"], ""),
    }


def _waking(values: Mapping[str, Any]) -> str:
    try:
        return propstring.render({**values, "mac": str(values["mac"]).lower()}, "mac")
    except ValueError as error:
        raise Failure(f"wakeonlan: {error}.") from error


def resolve(api: Any, params: Params) -> Mapping[str, Any]:
    return {"_node": choose_node(api, params["node"])}


def read(api: Any, params: Params) -> State:
    found = api.get(f"/nodes/{quote(params['_node'], safe='')}/config")
    state: State = {name: int(found[KEYS[name]]) for name in LIMITS if KEYS[name] in found}
    state |= {"description": str(found["description"]).rstrip("\n")} if "description" in found else {}
    if "wakeonlan" in found:
        state["wakeonlan"] = _waking(propstring.parse(str(found["wakeonlan"]), "mac"))
    return state | ({"digest": found["digest"]} if "digest" in found else {})


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    after = {KEYS[name]: change.after for name, change in plan.changes.items()}
    sent = {key: value for key, value in after.items() if value != ""}
    gone = ",".join(sorted(key for key, value in after.items() if value == "")) or None
    path = f"/nodes/{quote(params['_node'], safe='')}/config"
    digest = (plan.have or {}).get("digest")
    return [Call("PUT", path, {**sent, "delete": gone, "digest": digest}, label="set options of the node")]


RESOURCE = Resource(
    noun="options of node",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: str(params.get("_node") or params["node"] or ""),
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
