#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: task_info
short_description: Look at tasks and their logs
version_added: 0.1.0
description:
  - Tells how a task stands or ended, and the end of its log, where the reason of an error is.
  - Finds tasks by guest, kind, user, time and outcome.
options:
  upid:
    description: The task to look at, by its id. Excludes the options that find tasks.
    type: str
  node:
    description: Look at the tasks of this node only. By default at those of every node that is online.
    type: str
  source:
    description: Which tasks to find, those that have ended (V(archive)), those that run (V(active)), or both (V(all)).
    type: str
    choices: [archive, active, all]
    default: all
  vmid:
    description: Tasks of this guest.
    type: int
  type:
    description: Tasks of this kind, as Proxmox VE names it, such as V(qmsnapshot) or V(vzdump).
    type: str
  user:
    description: Tasks of users whose name contains this.
    type: str
  errors:
    description: Only tasks that ended in an error. Warnings are none.
    type: bool
    default: false
  since:
    description: Tasks that began at this time or later, in seconds since 1970.
    type: int
  until:
    description: Tasks that began at this time or earlier, in seconds since 1970.
    type: int
  limit:
    description: How many tasks to find on each node at most, the newest first.
    type: int
    default: 50
  log_lines:
    description:
      - How many lines from the end of each task's log to return. V(0) means none.
      - By default 20 with O(upid), and none otherwise, because each log is a request of its own.
    type: int
seealso:
  - module: pvelab.proxmox.node_info
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Why did it fail
  pvelab.proxmox.task_info:
    upid: "UPID:pve1:000002A9:0007E434:6B014FAB:imgdel:100@pool1:root@pam:"
    log_lines: 50
  register: failed

- name: What went wrong with a guest in the last hour, and the end of each log
  pvelab.proxmox.task_info:
    vmid: 104
    errors: true
    since: "{{ now(utc=true).timestamp() | int - 3600 }}"
    log_lines: 5

- name: Wait until nothing is at work any longer
  pvelab.proxmox.task_info:
    source: active
  register: busy
  until: not busy.tasks
  retries: 60
  delay: 5
"""

RETURN = r"""
tasks:
  description: The tasks, the newest first.
  returned: success
  type: list
  elements: dict
  contains:
    upid:
      description: Id of the task.
      type: str
    node:
      description: The node that it runs on.
      type: str
    type:
      description: What kind of task it is.
      type: str
    id:
      description: What it is about, such as the id of a guest. May be empty.
      type: str
    user:
      description: Who started it, a token with its name.
      type: str
    running:
      description: Whether it still runs.
      type: bool
    ok:
      description: Whether it has ended well. Warnings count as well.
      type: bool
    exitstatus:
      description: V(OK), V(WARNINGS) with their number, or the error; empty while it runs.
      type: str
    start_epoch_s:
      description: When it began, in seconds since 1970.
      type: int
    end_epoch_s:
      description: When it ended, in seconds since 1970. Null while it runs, and where the node does not tell.
      type: int
    log:
      description: The end of its log.
      returned: with log_lines or upid
      type: list
      elements: str
  sample:
    - upid: "UPID:pve1:000002A9:0007E434:6B014FAB:imgdel:100@pool1:root@pam:"
      node: pve1
      type: imgdel
      id: 100@pool1
      user: root@pam
      running: false
      ok: true
      exitstatus: OK
      start_epoch_s: 1795248043
      end_epoch_s: 1795248043
      log: ["Removed volume 'pool1:100/vm-100-disk-9.qcow2'", TASK OK]
"""

from typing import Any
from urllib.parse import quote

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.nodes import task
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.reads import choose_node, online_nodes

OPTIONS = {
    "upid": {"type": "str"},
    "node": {"type": "str"},
    "source": {"type": "str", "choices": ["archive", "active", "all"], "default": "all"},
    "vmid": {"type": "int"},
    "type": {"type": "str"},
    "user": {"type": "str"},
    "errors": {"type": "bool", "default": False},
    "since": {"type": "int"},
    "until": {"type": "int"},
    "limit": {"type": "int", "default": 50},
    "log_lines": {"type": "int"},
}


def read(api: Any, params: Params) -> dict[str, Any]:
    tasks = [_one(api, params["upid"])] if params["upid"] else _found(api, params)
    lines = params["log_lines"] if params["log_lines"] is not None else 20 * bool(params["upid"])
    if lines:
        tasks = [{**t, "log": api.log(t["upid"], lines)} for t in tasks]
    return {"tasks": tasks}


def _one(api: Any, upid: str) -> dict[str, Any]:
    parts = upid.split(":")
    if len(parts) < 9 or parts[0] != "UPID":
        raise Failure(f"'{upid}' is not the id of a task. It looks like UPID:node:pid:pstart:starttime:type:id:user:")
    return task(api.get(f"/nodes/{quote(choose_node(api, parts[1]), safe='')}/tasks/{quote(upid, safe='')}/status"))


def _found(api: Any, params: Params) -> list[dict[str, Any]]:
    sent = {"source": params["source"], "vmid": params["vmid"], "typefilter": params["type"], "limit": params["limit"]}
    sent |= {"userfilter": params["user"], "errors": int(params["errors"]) or None}
    sent |= {"since": params["since"], "until": params["until"]}
    nodes = [choose_node(api, params["node"])] if params["node"] else online_nodes(api)
    tasks = [task(t) for node in nodes for t in api.get(f"/nodes/{quote(node, safe='')}/tasks", **sent)]
    return sorted(tasks, key=lambda t: (-int(t["start_epoch_s"]), str(t["upid"])))


RESOURCE = Query(
    noun="tasks",
    options=OPTIONS,
    read=read,
    constraints={"mutually_exclusive": [("upid", o) for o in ("node", "vmid", "type", "user", "since", "until")]},
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
