#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_info
short_description: Look at the failure drills of a host
version_added: 1.0.0
description:
  - Tells which failure drills the host has run, how they went, whether one runs now, and whether the way back of one is
    armed.
  - Runs on the host, as root, or for O(supervisor=process) as the user who has begun the runs.
options:
  directory:
    description: Where the runs are kept. There may be no such directory.
    type: path
    default: /var/lib/pvelab/drills
  supervisor:
    description:
      - Who holds the runs that there are, as their plans say it. V(process) is for hosts without systemd.
    type: str
    choices: [systemd, process]
    default: systemd
  run:
    description: Tell of the run of this name only.
    type: str
notes:
  - A run that is not over goes on by itself, whoever looks.
seealso:
  - module: pvelab.proxmox.drill_run
  - module: pvelab.proxmox.drill_abort
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Wait until the drill is over
  pvelab.proxmox.drill_info:
    run: 20261122T021500Z-storage_full-1a2b3c
  register: drills
  until: drills is success and drills.runs | selectattr('running') | length == 0
  retries: 720
  delay: 5

- name: Look whether any way back is armed
  pvelab.proxmox.drill_info:
  register: drills
  failed_when: drills is failed or drills.runs | selectattr('armed') | length > 0
"""

RETURN = r"""
runs:
  description: The runs, the newest first. What is not known is null.
  returned: success
  type: list
  elements: dict
  contains:
    run:
      description: Name of the run, which is that of its directory.
      type: str
    drill:
      description: Which drill it is.
      type: str
    running:
      description: Whether it runs now, or undoes what it has done.
      type: bool
    armed:
      description: Whether the host will undo the fault by itself, because nobody else has done it yet.
      type: bool
    state:
      description: The last state that has ended, from C(preflight) to C(report).
      type: str
    verdict:
      description: C(passed), or what else was proved.
      type: str
    because:
      description: Why, in a sentence; or why the journal does not say it.
      type: str
    began_utc:
      description: When it began.
      type: str
  sample:
    - run: 20261122T021500Z-storage_full-1a2b3c
      drill: storage_full
      running: false
      armed: false
      state: report
      verdict: passed
      because: The fault was seen, its signs were seen, service came back, and no acknowledged write is missing.
      began_utc: "2026-11-22T02:15:03.120Z"
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_start import SUPERVISORS
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.drill_reads import DIRECTORY, runs
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "directory": {"type": "path", "default": DIRECTORY},
    "supervisor": {"type": "str", "choices": list(SUPERVISORS), "default": "systemd"},
    "run": {"type": "str"},
}


def read(host: Any, params: Params) -> dict[str, Any]:
    return {"runs": runs(host, params["directory"], params["supervisor"], params["run"])}


RESOURCE = Query(noun="drills of this host", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
