#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pool
short_description: Group guests and storages in a pool
version_added: 0.1.0
description:
  - Creates, changes and removes resource pools, which group guests and storages so that rights can be given on them.
options:
  poolid:
    description: Id of the pool. On Proxmox VE 8.1 and later, pools nest, as in V(lab/web).
    type: str
    required: true
  comment:
    description: Text kept with the pool. V("") removes it.
    type: str
  vms:
    description:
      - Guests in the pool, each by its id or its name.
      - The list is the whole of it, unless O(append=true). An empty list takes all of them out.
    type: list
    elements: str
  storage:
    description:
      - Storages in the pool.
      - The list is the whole of it, unless O(append=true). An empty list takes all of them out.
    type: list
    elements: str
  append:
    description: Add what O(vms) and O(storage) name, and leave other members in the pool.
    type: bool
    default: false
  allow_move:
    description:
      - Take guests out of the pool that they are in now. A guest can be in one pool only, and without this a task that
        names one of another pool fails.
      - Needs Proxmox VE 8.2 or later.
    type: bool
    default: false
  remove_members:
    description: With O(state=absent), take all members out first. They are not removed themselves.
    type: bool
    default: false
  state:
    description:
      - Whether there is to be such a pool.
      - V(absent) fails while the pool has members, unless O(remove_members=true), and while other pools are nested in
        it.
    type: str
    choices: [present, absent]
    default: present
notes:
  - In check mode, guests and storages that do not exist yet count as ones that an earlier task creates. A warning says
    so.
seealso:
  - module: pvelab.proxmox.vm
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A pool for the drills, with exactly these members
  pvelab.proxmox.pool:
    poolid: drills
    comment: Guests that may be broken
    vms: [web1, web2, 140]
    storage: [fast]

- name: One more member
  pvelab.proxmox.pool:
    poolid: drills
    vms: [db1]
    append: true

- name: Dissolve the pool
  pvelab.proxmox.pool:
    poolid: drills
    state: absent
    remove_members: true
"""

RETURN = r"""
object:
  description: The pool as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    comment:
      description: Its text.
      type: str
    vms:
      description: Ids of its guests.
      type: list
      elements: int
    storage:
      description: Its storages.
      type: list
      elements: str
  sample: {comment: Guests that may be broken, storage: [fast], vms: [104, 105, 140]}
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.options import listed
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.pool_reads import look, survey

OPTIONS = {
    "poolid": {"type": "str", "required": True},
    "comment": {"type": "str"},
    "vms": {"type": "list", "elements": "str"},
    "storage": {"type": "list", "elements": "str"},
    "append": {"type": "bool", "default": False},
    "allow_move": {"type": "bool", "default": False},
    "remove_members": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    had = params.get("_had") or {}
    state: State = {"comment": params["comment"]}
    for key, named in (("vms", params.get("_vms", params["vms"])), ("storage", params["storage"])):
        kept = had.get(key, []) if params["append"] else []
        state[key] = None if named is None else sorted({*named, *kept})
    return state


def steps(plan: Plan, params: Params) -> Sequence[Call]:
    poolid, have = params["poolid"], plan.have or {}
    if plan.action == "delete":
        return [*_emptied(have, params), Call(*_address("DELETE", params), label=f"remove pool {poolid}")]
    calls, changes = [], {k: c.after for k, c in plan.changes.items()}
    if plan.action == "create":
        sent = {"poolid": poolid, "comment": changes.pop("comment", None) or None}
        calls.append(Call("POST", "/pools", sent, label=f"create pool {poolid}"))
    come, leave = {}, {}
    for key in [k for k in ("vms", "storage") if k in changes]:
        come[key] = [m for m in changes[key] if m not in have.get(key, [])]
        leave[key] = [m for m in have.get(key, []) if m not in changes[key]]
    if any(leave.values()):
        calls.append(_members(params, "take out of", leave, {"delete": 1}))
    if any(come.values()):
        calls.append(_members(params, "put into", come, {"allow-move": 1} if params["allow_move"] else {}))
    if "comment" in changes:
        method, path, sent = _address("PUT", params)
        calls.append(Call(method, path, {**sent, "comment": changes["comment"]}, label=f"comment on pool {poolid}"))
    return calls


def _emptied(have: State, params: Params) -> list[Call]:
    if params["_nested"]:
        raise Failure(f"it holds the pool {listed(params['_nested'])}. Remove that first.")
    members = {k: have[k] for k in ("vms", "storage") if have[k]}
    if not members:
        return []
    if not params["remove_members"]:
        named = [*(f"guest {m}" for m in have["vms"]), *(f"storage {m}" for m in have["storage"])]
        raise Failure(f"it has members: {listed(named)}. Set remove_members: true to take them out of it first.")
    return [_members(params, "take out of", members, {"delete": 1})]


def _members(params: Params, verb: str, members: dict[str, list[Any]], extra: dict[str, int]) -> Call:
    method, path, sent = _address("PUT", params)
    lists = {k: ",".join(str(m) for m in sorted(v)) for k, v in members.items() if v}
    named = " and ".join(f"{'guest' if k == 'vms' else k} {v}" for k, v in lists.items())
    return Call(method, path, {**sent, **lists, **extra}, label=f"{verb} pool {params['poolid']}: {named}")


def _address(method: str, params: Params) -> tuple[str, str, dict[str, Any]]:
    """Until 8.1 the pool is part of the path, where an id with a slash has no place; since then it is a parameter."""
    if params["_by_path"]:
        return method, f"/pools/{quote(params['poolid'], safe='')}", {}
    return method, "/pools", {"poolid": params["poolid"]}


RESOURCE = Resource(
    noun="pool",
    options=OPTIONS,
    want=want,
    resolve=survey,
    read=look,
    steps=steps,
    name=lambda params: str(params["poolid"]),
)


def main() -> None:
    run(RESOURCE, Api)


if __name__ == "__main__":
    main()
