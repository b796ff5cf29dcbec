#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: template
short_description: Turn a guest into a template
version_added: 0.1.0
description:
  - Turns a stopped guest into a template, from which others are cloned with M(pvelab.proxmox.vm).
  - Its disks become read-only base images, which linked clones share.
  - There is no way back. A template can be cloned or removed, but it never becomes an ordinary guest again.
options:
  state:
    description:
      - With V(present) the guest is a template afterwards.
      - V(absent) asserts that the guest is not a template. It changes nothing, and fails where the guest is one.
        Remove a template with O(pvelab.proxmox.vm#module:state=absent).
    type: str
    choices: [present, absent]
    default: present
  when_running:
    description:
      - What to do with a guest that runs, because only a stopped guest can become a template.
      - V(refuse) fails and says so.
      - V(shutdown) asks the guest to shut down, and fails if it has not done so in O(shutdown_timeout_s).
      - V(stop) does the same but then cuts the power.
    type: str
    choices: [refuse, shutdown, stop]
    default: refuse
  shutdown_timeout_s:
    description: How long the guest may take to shut down, in seconds.
    type: int
    default: 180
notes:
  - A guest with snapshots cannot become a template. The task fails and names them.
seealso:
  - module: pvelab.proxmox.vm
  - module: pvelab.proxmox.snapshot
extends_documentation_fragment:
  - pvelab.proxmox.guest
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Make a template of the guest that was prepared
  pvelab.proxmox.template:
    name: debian-13

- name: Seal an image that was installed and configured while it ran
  pvelab.proxmox.template:
    vmid: 9000
    when_running: shutdown
    shutdown_timeout_s: 60

- name: Make sure that nobody sealed the machine that is still being worked on
  pvelab.proxmox.template:
    vmid: 9001
    state: absent
"""

RETURN = r"""
object:
  description: The template as it is now. Before the change in check mode.
  returned: success
  type: dict
  contains:
    template:
      description: Always true.
      type: bool
    vmid:
      description: Its id.
      type: int
    name:
      description: Its name.
      type: str
    node:
      description: The node that it is on.
      type: str
  sample: {name: debian-13, node: pve1, template: true, vmid: 9000}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.options import GUEST, ONE_GUEST, guest, listed
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.snapshots import Listing
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.reads import find_guest

OPTIONS = {
    **GUEST,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "when_running": {"type": "str", "choices": ["refuse", "shutdown", "stop"], "default": "refuse"},
    "shutdown_timeout_s": {"type": "int", "default": 180},
}


def want(params: Params) -> State | None:
    return {"template": True} if params["state"] == "present" else None


def resolve(api: Any, params: Params) -> dict[str, Any]:
    ref = find_guest(api, params)
    return {"_guest": ref, "_snapshots": Listing.of(api.get(f"{ref.path}/snapshot")) if ref else None}


def read(api: Any, params: Params) -> State | None:
    ref = params["_guest"]
    config = api.get(f"{ref.path}/config") if ref else {}
    if not int(config.get("template") or 0):
        return None
    return {"template": True, "vmid": ref.vmid, "name": config.get("name", ""), "node": ref.node}


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    ref, snapshots = params["_guest"], params["_snapshots"]
    if plan.action == "delete":
        raise Failure(
            "a template cannot be turned back into an ordinary guest. Clone it in full instead, "
            "or remove it with pvelab.proxmox.vm and state: absent."
        )
    if snapshots.names:
        raise Failure(
            f"guest {ref} has snapshots ({listed(snapshots.names)}), and a guest with snapshots cannot become a "
            "template. Remove them with pvelab.proxmox.snapshot."
        )
    convert = Call("POST", f"{ref.path}/template", label=f"turn guest {ref} into a template")
    return [*_stop(ref, params), convert] if snapshots.running else [convert]


def _stop(ref: Any, params: Params) -> list[Call]:
    if params["when_running"] == "refuse":
        raise Failure(
            f"guest {ref} is running, and only a stopped guest can become a template. "
            "Stop it first, or set when_running to shutdown or stop."
        )
    wait_s = params["shutdown_timeout_s"]
    asked = {"timeout": wait_s, "forceStop": int(params["when_running"] == "stop")}
    return [Call("POST", f"{ref.path}/status/shutdown", asked, label=f"shut down guest {ref}", timeout_s=wait_s + 60)]


RESOURCE = Resource(
    noun="template",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=guest,
    constraints=ONE_GUEST,
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
