#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot
short_description: Take, describe, keep and remove snapshots of a guest
version_added: 0.1.0
description:
  - Takes a snapshot of a guest's disks and configuration, and on request of its memory.
  - Keeps the newest snapshots of a series and removes the older ones (O(retention)).
  - Names snapshots that were cut off half way, and removes them on request.
options:
  snapname:
    description:
      - Name of the snapshot, 2 to 40 letters, digits, V(-) and V(_), beginning with a letter.
      - Without it the task only carries out O(retention).
    type: str
  description:
    description:
      - Text kept with the snapshot. It is changed if it differs, and V("") removes it.
      - Left alone if not given.
    type: str
  vmstate:
    description:
      - Save the memory of the running guest, too, so that a rollback resumes it where it was.
      - What a snapshot holds is settled when it is taken. If an existing one differs, the task fails and says so.
    type: bool
  retention:
    description:
      - Which snapshots of a series to keep. The others of the series are removed, oldest first and one at a time,
        after the new snapshot is complete.
      - A snapshot is data, and elsewhere it takes O(allow_data_loss) to remove one. Here the number to keep is the
        consent.
    type: dict
    suboptions:
      keep:
        description: How many of the newest to keep, the one of O(snapname) among them if it belongs to the series.
        type: int
        required: true
      pattern:
        description:
          - Which snapshots make up the series, by a pattern of their names (V(*), V(?) and V([abc]) as in a shell).
          - Others are never touched.
        type: str
        required: true
  force:
    description:
      - Also remove a snapshot that was cut off half way (C(snapstate) is C(prepare) or C(delete)), with the lock that
        it left on the guest. With O(state=present) it is then taken again.
      - Lifting the lock takes a login as root@pam with its password; Proxmox VE allows it to nobody else.
      - While a task still works on the snapshot, nothing is removed.
    type: bool
    default: false
  allow_data_loss:
    description: Confirm that what only O(state=absent) is going to remove may be lost.
    type: bool
    default: false
  state:
    description:
      - Whether there is to be such a snapshot.
      - Where there is no such guest, there is no such snapshot, and V(absent) is content.
    type: str
    choices: [present, absent]
    default: present
notes:
  - In check mode, a guest that does not exist yet counts as one that an earlier task creates. A warning says so.
  - Half snapshots take no part in O(retention). A warning names those of the series.
seealso:
  - module: pvelab.proxmox.snapshot_rollback
extends_documentation_fragment:
  - pvelab.proxmox.guest
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Keep a way back before the upgrade
  pvelab.proxmox.snapshot:
    name: web1
    snapname: before-upgrade
    description: Debian 12, last known good

- name: Take one with RAM, and keep the three newest of the nightly series
  pvelab.proxmox.snapshot:
    vmid: 104
    snapname: "nightly-{{ now(utc=true, fmt='%Y%m%d') }}"
    vmstate: true
    retention:
      keep: 3
      pattern: nightly-*

- name: Only thin out the series
  pvelab.proxmox.snapshot:
    vmid: 104
    retention:
      keep: 3
      pattern: nightly-*

- name: Remove a snapshot
  pvelab.proxmox.snapshot:
    name: web1
    snapname: before-upgrade
    state: absent
    allow_data_loss: true

- name: Clear away what a node that died in the middle left behind
  pvelab.proxmox.snapshot:
    name: web1
    snapname: before-upgrade
    state: absent
    force: true
    allow_data_loss: true
"""

RETURN = r"""
object:
  description: The snapshot as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    snapname:
      description: Its name.
      type: str
    description:
      description: Its text.
      type: str
    vmstate:
      description: Whether it holds the guest's memory.
      type: bool
    taken:
      description: When it was taken.
      type: str
    parent:
      description: The snapshot that it follows; empty if there is none.
      type: str
    snapstate:
      description: V(prepare) or V(delete) if it was cut off half way, else empty.
      type: str
    series:
      description: All snapshots that match the pattern of O(retention), by name. Only with O(retention).
      type: list
      elements: str
  sample:
    description: Debian 12, last known good
    parent: ""
    snapname: before-upgrade
    snapstate: ""
    taken: 2026-11-21 08:00:19 UTC
    vmstate: false
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.options import GUEST, ONE_GUEST, guest, moment
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.snapshots import Listing, remove
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.snapshot_reads import survey

OPTIONS = {
    **GUEST,
    "snapname": {"type": "str"},
    "description": {"type": "str"},
    "vmstate": {"type": "bool"},
    "retention": {
        "type": "dict",
        "options": {"keep": {"type": "int", "required": True}, "pattern": {"type": "str", "required": True}},
    },
    "force": {"type": "bool", "default": False},
    "allow_data_loss": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def name(params: Params) -> str:
    what = params["snapname"] or f"series {(params['retention'] or {}).get('pattern')}"
    return f"{what} of guest {guest(params)}"


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    kept, before = params["retention"], params.get("_before", Listing((), False, ""))
    series = before.retained(kept["pattern"], kept["keep"], params["snapname"]) if kept else None
    if params["snapname"] is None:
        return {"series": series}
    text = params["description"]
    told = None if text is None else text.rstrip("\n")
    return {"description": told, "vmstate": params["vmstate"], "snapstate": "", "series": series}


def read(api: Any, params: Params) -> State | None:
    if params["_guest"] is None:
        return None
    now = Listing.of(api.get(f"{params['_guest'].path}/snapshot"))
    series = {"series": sorted(now.matching(params["retention"]["pattern"]))} if params["retention"] else {}
    if params["snapname"] is None:
        return series
    found = now.get(params["snapname"])
    if found is None:
        return None
    told = {"description": found.description, "vmstate": found.ram, "parent": found.parent, "snapstate": found.half}
    return {"snapname": found.name, "taken": moment(found.time), **told, **series}


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    ref, before, asked = params["_guest"], params["_before"], params["snapname"]
    found, calls, kept = before.get(asked), [], params["retention"]
    if plan.action == "delete":
        return remove(ref, found, params)
    if found and found.half:
        calls += remove(ref, found, params)
    if plan.action == "create" or (plan.action == "update" and found and found.half):
        sent = {"snapname": asked, "description": params["description"] or None}
        sent["vmstate"] = None if params["vmstate"] is None else int(params["vmstate"])
        calls.append(Call("POST", f"{ref.path}/snapshot", sent, label=f"take snapshot {asked} of guest {ref}"))
    elif "vmstate" in plan.changes:
        has = "holds" if found.ram else "does not hold"
        raise Failure(f"it {has} the guest's RAM, and that cannot be changed. Remove it and take it again.")
    elif "description" in plan.changes:
        sent = {"description": plan.changes["description"].after}
        calls.append(Call("PUT", f"{ref.path}/snapshot/{asked}/config", sent, label=f"describe snapshot {asked}"))
    surplus = before.surplus(kept["pattern"], kept["keep"], asked) if kept else []
    return [
        *calls,
        *(Call("DELETE", f"{ref.path}/snapshot/{n}", label=f"remove snapshot {before.get(n)}") for n in surplus),
    ]


RESOURCE = Resource(
    noun="snapshot",
    options=OPTIONS,
    want=want,
    resolve=survey,
    read=read,
    steps=steps,
    name=name,
    constraints={"required_one_of": [("snapname", "retention"), *ONE_GUEST["required_one_of"]]},
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
