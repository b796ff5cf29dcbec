#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_run
short_description: Start a failure drill on a host
version_added: 1.0.0
description:
  - Starts one failure drill as a service of systemd, or where the plan says C(supervisor=process), as processes of the
    user. From then on the host does all of it by itself, and the module does not wait;
    M(pvelab.proxmox.drill_info) tells how it goes.
  - In check mode it shows whether the host would refuse, what would be broken, and how it would be undone.
  - A drill that the host refuses, or cannot have, is started all the same, breaks nothing, and leaves a journal that
    says why.
  - A run that has begun before is left as it is, however it went. Another run needs another name.
  - Runs on the host, as root, or for C(supervisor=process) as the user whose guests these are.
options:
  plan:
    description:
      - What is to be done, as the role P(pvelab.proxmox.drill#role) puts it together; C(run) is the name of the run,
        and C(directory) has a directory for each.
      - It is shown and kept in the clear. The token that opens the node's API lies in the file C(api.token_file).
    type: dict
    required: true
  program:
    description: The program that runs drills, as the role P(pvelab.proxmox.drill#role) has installed it.
    type: path
    default: /usr/local/lib/pvelab/drill.pyz
seealso:
  - module: pvelab.proxmox.drill_info
  - module: pvelab.proxmox.drill_abort
  - module: pvelab.proxmox.drill_report
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Hold a guest for a while, and let it go again
  pvelab.proxmox.drill_run:
    plan:
      run: 20261122T021500Z-guest_hang-1a2b3c
      drill:
        name: guest_hang
        title: A guest hangs
        hypothesis: Its canary falls silent at once, and its neighbours notice nothing.
        blast_radius: guest
        learn: [A process that is there is not a guest that works.]
        remedy: The process was let go on.
      fault: {kind: guest_hang}
      node: pve1
      api: {url: "https://127.0.0.1:8006", token_file: /etc/pvelab/drill.token, ca_file: /etc/pve/pve-root-ca.pem}
      victims: [103]
      bystanders: [101, 102]
      places:
        serial: /var/run/qemu-server/{vmid}.serial0
        pid: /var/run/qemu-server/{vmid}.pid
        images: images
      guards: {allow: true}
      directory: /var/lib/pvelab/drills
      program: /usr/local/lib/pvelab/drill.pyz

- name: See what would be broken, and how it would be undone
  pvelab.proxmox.drill_run:
    plan: "{{ lookup('ansible.builtin.file', 'plans/storage_full.json') | from_json }}"
  check_mode: true
  register: foreseen
"""

RETURN = r"""
object:
  description: The run.
  returned: success
  type: dict
  contains:
    run:
      description: Its name.
      type: str
    unit:
      description: The service in which it runs, or where there is no systemd, the file that names its processes.
      type: str
    began:
      description: Whether its plan is on the host; as it was before in check mode.
      type: bool
    would:
      description:
        - What was foreseen of it, C(run), or C(be refused) or C(be skipped) and why.
        - Of a run that has begun before, that it is left as it is.
      type: str
    targets:
      description: What it hits.
      type: list
      elements: str
    inject:
      description: What breaks it, in lines of shell.
      type: list
      elements: str
    relief:
      description: What an operator would do against it while it is there, in lines of shell; empty where nothing helps.
      type: list
      elements: str
    undo:
      description: What undoes it, in lines of shell.
      type: list
      elements: str
    signs:
      description: By what it is known.
      type: list
      elements: str
  sample:
    run: 20261122T021500Z-guest_hang-1a2b3c
    unit: pvelab-drill-20261122T021500Z-guest_hang-1a2b3c.service
    began: true
    would: run
    targets: [guest 103 (process 4242)]
    inject: [kill -STOP 4242]
    relief: []
    undo: [kill -CONT 4242]
    signs: [the canary of guest 103 is silent]
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_start
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, State, Verb
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Missing, Step
from ansible_collections.pvelab.proxmox.plugins.module_utils.drill_reads import PROGRAM
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "plan": {"type": "dict", "required": True},
    "program": {"type": "path", "default": PROGRAM},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    plan, program = params["plan"], params["program"]
    drill_start.check(plan, program)
    journal = host.read(f"{drill_start.home(plan)}/journal.json")
    if journal is not None:
        return {"_ran": True, "_known": drill_start.recorded(journal)}
    if host.link(program) is None:
        raise Missing(f"there is no {program}; the role drill brings it.")
    argv = [drill_start.python(plan), program, "look", "-"]
    return {"_ran": False, "_known": drill_start.foreseen(host.query(argv, stdin=json.dumps(plan), timeout_s=120))}


def read(host: Any, params: Params) -> State | None:
    plan = params["plan"]
    began = "plan.json" in host.names(drill_start.home(plan))
    return {"run": plan["run"], "unit": drill_start.keeper(plan), "began": began, **params["_known"]}


def steps(_have: State | None, params: Params) -> Sequence[Step]:
    return [] if params["_ran"] else drill_start.start(params["plan"], params["program"])


RESOURCE = Verb(
    noun="drill",
    verb="start",
    options=OPTIONS,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: str(params["plan"].get("run", "")),
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
