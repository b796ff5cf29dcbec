#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: Describe the network of a host, with a way back
version_added: 1.0.0
description:
  - Writes bridges, bonds, VLANs and addresses into C(/etc/network/interfaces) as ifupdown2 reads it, and reloads them.
  - What the file holds beside that stays byte for byte, comments and the stanzas of others among it.
  - The file and what runs are compared both, so that a host that has drifted is put right, too.
  - The change is kept only if M(pvelab.proxmox.network_confirm) confirms it in time. Otherwise the host goes back to
    the old file by itself, also after a reboot.
  - Runs on the host, as root. Mistakes that ifupdown2 accepts are refused before anything is written.
options:
  interfaces:
    description: The interfaces that are managed. Others are left alone.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the interface, 15 characters at most.
        type: str
        required: true
      type:
        description: What it is.
        type: str
        choices: [eth, bridge, bond, vlan, ovs_bridge, ovs_bond, ovs_port, ovs_int_port]
        required: true
      state:
        description: Whether the file has it.
        type: str
        choices: [present, absent]
        default: present
      address:
        description: All of its addresses, IPv4 and IPv6, with their prefix lengths. An empty list takes them away.
        type: list
        elements: str
      method:
        description: How it gets its IPv4 address. Follows from O(interfaces[].address) if not given.
        type: str
        choices: [static, manual, dhcp]
      gateway:
        description: The default gateway for IPv4. V("") takes it away.
        type: str
      gateway6:
        description: The default gateway for IPv6. V("") takes it away.
        type: str
      ports:
        description: All ports of a bridge or a bond. Ports of guests are not named here and stay plugged in.
        type: list
        elements: str
      vlan_aware:
        description: Whether a bridge tells VLANs apart.
        type: bool
      vids:
        description: The VLANs that the ports of a bridge carry, such as V(10) or V(2-4094).
        type: list
        elements: str
      mtu:
        description: Largest packet, in bytes.
        type: int
      bond_mode:
        description: How a bond uses its ports.
        type: str
        choices: [balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb]
      bond_hash:
        description: By what a bond spreads the packets, such as V(layer2+3).
        type: str
      bond_miimon:
        description: How often a bond looks at its links, in milliseconds.
        type: int
      vlan_device:
        description: What a VLAN is on. Not needed with a name such as V(eno1.10).
        type: str
      vlan_id:
        description: Number of a VLAN. Not needed with a name such as V(eno1.10).
        type: int
      ovs_on:
        description: The Open vSwitch bridge that an interface is on.
        type: str
      ovs_options:
        description: Further options for Open vSwitch, such as V(tag=10).
        type: str
      autostart:
        description: Bring it up at boot. All but network cards are, unless this says otherwise.
        type: bool
      comment:
        description: Text in its stanza. V("") takes it away.
        type: str
      options:
        description:
          - Further options of ifupdown2, one value each. V("") takes one away.
          - A name that is nearly one of its options is refused, because ifupdown2 takes it and does nothing. Whether an
            option has come into force is compared where C(ifquery --check) can tell.
        type: dict
  confirm_within_s:
    description: Seconds until the host goes back if nobody confirms, 20 to 3600.
    type: int
    default: 120
  management_address:
    description:
      - The address by which the host is managed. A change that takes it away is refused.
      - That at which this module's own SSH connection has arrived, if not given.
    type: str
  allow_management_change:
    description: Take O(management_address) away nevertheless.
    type: bool
    default: false
notes:
  - What Open vSwitch runs is not compared, only what the file says of it.
  - On a bridge it writes C(bridge-ports-condone-regex) if there is none, because otherwise the ifupdown2 of Debian
    unplugs the guests at each reload.
seealso:
  - module: pvelab.proxmox.network_confirm
  - module: pvelab.proxmox.network_path_info
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A bridge for the lab that tells VLANs apart
  pvelab.proxmox.network:
    interfaces:
      - name: vmbr1
        type: bridge
        ports: [eno2]
        vlan_aware: true
        vids: [2-4094]
        address: [198.51.100.1/24]
  register: change

- name: Leave the old connection
  ansible.builtin.meta: reset_connection

- name: Keep it, over a new connection, as soon as the reload is over
  pvelab.proxmox.network_confirm:
    token: "{{ change.object.pending }}"
  register: kept
  until: kept is success or 'not over yet' not in kept.msg
  retries: 30
  delay: 2

- name: Two cards as one, and a bridge on them that takes the address over; with time to look at it
  pvelab.proxmox.network:
    interfaces:
      - {name: bond0, type: bond, ports: [eno1, eno2], bond_mode: active-backup}
      - {name: vmbr0, type: bridge, ports: [bond0], address: [192.0.2.10/24], gateway: 192.0.2.1}
    allow_management_change: true
    confirm_within_s: 300
"""

RETURN = r"""
object:
  description: The managed interfaces as they are now.
  returned: success
  type: dict
  contains:
    file:
      description: What the file says, by name.
      type: dict
    live:
      description: What runs, by name. The reload follows a moment after this module ends.
      type: dict
    pending:
      description: The token of the change that waits for its confirmation; empty if none does.
      type: str
  sample: {file: {vmbr1: {present: true}}, live: {vmbr1: {present: true}}, pending: 0001-5f1d2c3b}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.interfaces import render
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.network_apply import (
    pruning,
    running,
    token_of,
    transaction,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.network_lint import lint
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.networks import edited, in_file, live, named, wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Step
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.network_reads import (
    Observed,
    known_options,
    observe,
    unlike,
)

_BONDS = ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]
_TYPES = ["eth", "bridge", "bond", "vlan", "ovs_bridge", "ovs_bond", "ovs_port", "ovs_int_port"]
OPTIONS = {
    "interfaces": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "choices": _TYPES, "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "list", "elements": "str"},
            "method": {"type": "str", "choices": ["static", "manual", "dhcp"]},
            "gateway": {"type": "str"},
            "gateway6": {"type": "str"},
            "ports": {"type": "list", "elements": "str"},
            "vlan_aware": {"type": "bool"},
            "vids": {"type": "list", "elements": "str"},
            "mtu": {"type": "int"},
            "bond_mode": {"type": "str", "choices": _BONDS},
            "bond_hash": {"type": "str"},
            "bond_miimon": {"type": "int"},
            "vlan_device": {"type": "str"},
            "vlan_id": {"type": "int"},
            "ovs_on": {"type": "str"},
            "ovs_options": {"type": "str"},
            "autostart": {"type": "bool"},
            "comment": {"type": "str"},
            "options": {"type": "dict"},
        },
    },
    "confirm_within_s": {"type": "int", "default": 120},
    "management_address": {"type": "str"},
    "allow_management_change": {"type": "bool", "default": False},
}


def want(params: Params) -> State | None:
    return wanted(params["interfaces"])


def look(host: Any, params: Params) -> dict[str, Any]:
    seen = observe(host)
    new = any(k not in dict(seen.file.options(i["name"])) for i in params["interfaces"] for k in named(i))
    return {"_seen": seen, "_known": known_options(host) if new else frozenset()}


def read(host: Any, params: Params) -> State | None:
    now = observe(host)
    state: State = {"pending": now.pending}
    given = [i["name"] for i in params["interfaces"] if named(i) and now.file.of(i["name"])]
    otherwise = unlike(host, given)
    for item in params["interfaces"]:
        runs = live(item, now.links, now.vlans, now.routes, otherwise.get(item["name"], {}))
        sides = {"file": in_file(now.file, item), "live": runs}
        state.update({f"{side}.{item['name']}.{k}": v for side, found in sides.items() for k, v in found.items()})
    return state


def steps(plan: Plan, params: Params) -> Sequence[Step]:
    seen: Observed = params["_seen"]
    differs = ", ".join(sorted(plan.changes)[:6])
    if seen.pending:
        raise Failure(
            f"{differs} is not as wanted, and the change {seen.pending} still waits for its confirmation. Wait until "
            "it is confirmed (network_confirm) or the host has gone back."
        )
    within_s = params["confirm_within_s"]
    if not 20 <= within_s <= 3600:
        raise Failure(f"confirm_within_s is {within_s}; give 20 to 3600 seconds.")
    after = edited(seen.file, params["interfaces"])
    keep = None if params["allow_management_change"] else params["management_address"] or seen.came_by
    known = params["_known"]
    wrong = lint(params["interfaces"], after, seen.links, seen.elsewhere, keep=keep, known_options=known)
    if wrong:
        raise Failure(" ".join(wrong))
    text = render(after)
    token = token_of(seen.runs, seen.text, text)
    now = running(seen.links, seen.vlan_rows)
    return [*pruning(seen.runs), *transaction(token, text, now, within_s)]


RESOURCE = Resource(
    noun="network",
    options=OPTIONS,
    want=want,
    resolve=look,
    read=read,
    steps=steps,
    name=lambda params: ", ".join(i["name"] for i in params["interfaces"]),
    unseen=frozenset({"live.*"}),
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
