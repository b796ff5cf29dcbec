#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_abort
short_description: Undo every failure drill of a host
version_added: 1.0.0
description:
  - Ends a failure drill that runs, undoes what any drill has armed, and disarms it.
  - May be run at any time, and again. Where nothing runs and nothing is armed it does nothing.
  - A drill that runs is told to end, undoes its fault by itself, and is waited for.
  - Runs on the host, as root, or for O(supervisor=process) as the user who has begun the runs.
options:
  program:
    description: The program that runs drills, as the role P(pvelab.proxmox.drill#role) has installed it.
    type: path
    default: /usr/local/lib/pvelab/drill.pyz
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
  python:
    description: What runs the program. It has to be 3.11 or later.
    type: path
    default: /usr/bin/python3
seealso:
  - module: pvelab.proxmox.drill_info
  - module: pvelab.proxmox.drill_run
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Undo whatever drill is not undone yet
  pvelab.proxmox.drill_abort:

- name: Undo the drills of a node whose guests are a user's processes
  pvelab.proxmox.drill_abort:
    program: /home/lab/drill/usr/local/lib/pvelab/drill.pyz
    directory: /home/lab/drill/var/lib/pvelab/drills
    supervisor: process
"""

RETURN = r"""
object:
  description: The runs by their names; before the change in check mode.
  returned: success
  type: dict
  contains:
    undone:
      description: What ran or was armed before, and does not and is not any more.
      type: list
      elements: str
    running:
      description: What runs now.
      type: list
      elements: str
    armed:
      description: What is armed now.
      type: list
      elements: str
  sample: {undone: [20261122T021500Z-storage_full-1a2b3c], running: [], armed: []}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_start import (
    PYTHON,
    RUNNER,
    SUPERVISORS,
    unit,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, State, Verb
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Run
from ansible_collections.pvelab.proxmox.plugins.module_utils.drill_reads import DIRECTORY, PROGRAM, is_open, runs
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "program": {"type": "path", "default": PROGRAM},
    "directory": {"type": "path", "default": DIRECTORY},
    "supervisor": {"type": "str", "choices": list(SUPERVISORS), "default": "systemd"},
    "python": {"type": "path", "default": PYTHON},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    there = host.link(params["program"]) is not None
    return {"_there": there, "_open": [row["run"] for row in _runs(host, params) if is_open(row)]}


def read(host: Any, params: Params) -> State | None:
    rows = _runs(host, params)
    now = {key: [row["run"] for row in rows if row[key]] for key in ("running", "armed")}
    return {"undone": [name for name in params["_open"] if name not in (*now["running"], *now["armed"])], **now}


def _runs(host: Any, params: Params) -> list[dict[str, Any]]:
    return runs(host, params["directory"], params["supervisor"])


def _by_hand(now: State, params: Params) -> str:
    """What does it without the program, as a line of shell."""
    stop = [f"systemctl stop {unit(name)}" for name in now["running"]]
    if params["supervisor"] != "systemd":
        stop = [f"kill $(cut -d' ' -f1 {params['directory']}/{name}/{RUNNER})" for name in now["running"]]
    undo = [f"/bin/sh {params['directory']}/{name}/undo.sh" for name in now["armed"]]
    who = "as root" if params["supervisor"] == "systemd" else "as the user who has begun them"
    return f"{who}: {'; '.join([*stop, *undo])}"


def steps(have: State | None, params: Params) -> Sequence[Run]:
    now: State = have or {}
    if not (now["running"] or now["armed"]):
        return []
    if not params["_there"]:
        raise Failure(
            f"there is no {params['program']}, which would do it. Bring it with the role drill, or run on the host,"
            f" {_by_hand(now, params)}"
        )
    return [
        Run((params["python"], params["program"], "abort", params["directory"]), label="undo and disarm", timeout_s=700)
    ]


RESOURCE = Verb(
    noun="drills",
    verb="abort",
    options=OPTIONS,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: f"in {params['directory']}",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
