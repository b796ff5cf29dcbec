#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_vantage
short_description: Look at a host from outside while a failure drill runs on it
version_added: 1.0.0
description:
  - Starts a process on this machine that asks a host and its guests up to ten times a second whether they answer, and
    ends it. M(pvelab.proxmox.drill_journal) puts what it has seen into the journal of the drill.
  - The process belongs to nobody. Where nobody ends it, it ends after O(ends_s) and takes away what it has written.
  - From the dates in the answers of an API it is known how the clocks of both machines stand, to about the time that an
    answer takes.
  - Runs on Linux, as any user. Echo requests (C(ping)) need root, or a group that net.ipv4.ping_group_range names.
options:
  state:
    description: Whether somebody is to look.
    type: str
    choices: [started, ended]
    default: started
  directory:
    description: A directory of its own for what is asked and what is seen. It is made if it is not there.
    type: path
    required: true
  name:
    description: What the report calls this machine.
    type: str
    default: the controller
  probes:
    description:
      - What is to answer, a list of dictionaries. Each has C(name), C(to) (a name or an address), and one of C(tcp) (a
        port on which connections are accepted), C(banner) (one on which the first words come from there, as SSH has
        it), C(https) (one on which requests are answered) and C(ping) (true).
      - C(hz) says how many times a second, up to 10, and C(host) that it is the drill's host itself.
    type: list
    elements: dict
    default: []
  ends_s:
    description: After how many seconds it ends by itself.
    type: float
    default: 3600
  program:
    description: The program that runs drills, as the role P(pvelab.proxmox.drill#role) brings it.
    type: path
    default: /usr/local/lib/pvelab/drill.pyz
  python:
    description: What runs the program; 3.11 or later.
    type: path
    default: /usr/bin/python3
notes:
  - Since OpenSSH 9.8 a server refuses an address from which many connections have come that did not log in. Ask for the
    first words of SSH not more than once in three seconds, or Ansible itself is refused, too.
seealso:
  - module: pvelab.proxmox.drill_journal
  - module: pvelab.proxmox.drill_run
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at a host from the machine that runs Ansible
  pvelab.proxmox.drill_vantage:
    directory: /var/tmp/pvelab-vantage
    program: /var/tmp/drill.pyz
    ends_s: 900
    probes:
      - {name: API, to: pve1.example.test, https: 8006, host: true}
      - {name: SSH, to: pve1.example.test, banner: 22, hz: 0.33, host: true}
      - {name: web1, to: 192.0.2.11, ping: true}
  delegate_to: localhost

- name: Look no longer
  pvelab.proxmox.drill_vantage:
    state: ended
    directory: /var/tmp/pvelab-vantage
    program: /var/tmp/drill.pyz
  delegate_to: localhost
  register: outside
"""

RETURN = r"""
object:
  description: Whoever looks.
  returned: success
  type: dict
  contains:
    looks:
      description: Whether somebody looks now.
      type: bool
    seen:
      description:
        - What was seen, with O(state=ended), for M(pvelab.proxmox.drill_journal). Times are of this machine's
          CLOCK_MONOTONIC.
        - Empty where nobody has looked.
      type: dict
  sample: {looks: true, seen: {}}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_post
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_start import PYTHON
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Step
from ansible_collections.pvelab.proxmox.plugins.module_utils.drill_reads import PROGRAM, lives
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "state": {"type": "str", "choices": ["started", "ended"], "default": "started"},
    "directory": {"type": "path", "required": True},
    "name": {"type": "str", "default": "the controller"},
    "probes": {"type": "list", "elements": "dict", "default": []},
    "ends_s": {"type": "float", "default": 3600},
    "program": {"type": "path", "default": PROGRAM},
    "python": {"type": "path", "default": PYTHON},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    drill_post.check(params)
    return {}


def want(params: Params) -> State | None:
    return {"looks": params["state"] == "started"}


def read(host: Any, params: Params) -> State | None:
    looks = lives(host, drill_post.file(params, drill_post.LIFE))
    over = params["state"] == "ended" and not looks and drill_post.POST in host.names(params["directory"])
    return {"looks": looks, "seen": drill_post.told(host.query(drill_post.ask(params))) if over else {}}


def steps(plan: Plan, params: Params) -> Sequence[Step]:
    return drill_post.start(params) if params["state"] == "started" else drill_post.end(params)


RESOURCE = Resource(
    noun="vantage point",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: f"{params['name']} ({params['directory']})",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
