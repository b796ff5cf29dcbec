# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guests of a cluster as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: guests
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
version_added: 1.0.0
short_description: The guests of a Proxmox VE cluster as hosts
description:
  - Makes a host of each virtual machine and container that the user may see, with what the cluster knows of it as
    variables, the address to reach it by, and groups.
  - The source is a YAML file of any name whose O(plugin) is this one. A file that names no plugin is refused with a
    sentence if its name ends in C(guests.proxmox.yml) or C(pvelab.yml), and left to other plugins if not.
  - One run logs in once and reads over a few connections at once that are kept. It takes two reads, one more for each
    node and kind of guest, one for each guest (O(want_config)), and one for each that runs and has an agent
    (O(want_addresses)).
  - Agents are asked last, because a node answers with few processes at once. One that does not answer costs
    O(agent_timeout_s), all of them together no more than O(agents_timeout_s).
  - Guests of one name get their id behind it, V(web1-104), all of them and with a warning. A guest that has no name
    is called V(qemu-104) or V(lxc-104).
  - Guests on a node that is down are hosts, too, with the status V(unknown), as far as the cluster remembers them.
  - The text options of the connection may be templates, to take a secret from a vault or a password store.
extends_documentation_fragment:
  - pvelab.proxmox.connection
  - pvelab.proxmox.connection.plugin
  - constructed
  - inventory_cache
options:
  plugin:
    description: Says that the file is one of this plugin.
    type: str
    required: true
    choices: [pvelab.proxmox.guests]
  want_config:
    description:
      - Whether to read the configuration of each guest, which gives RV(ignore:proxmox_config), the groups by operating
        system, and addresses set with cloud-init.
    type: bool
    default: true
  want_addresses:
    description:
      - Whether to ask guest agents for addresses. Only the agents of guests are asked that run and have O(want_config)
        tell that they have an agent. Containers are asked without one.
    type: bool
    default: true
  want_qmpstatus:
    description:
      - Whether to ask each running virtual machine what QEMU itself says, such as C(paused) or C(io-error).
    type: bool
    default: false
  want_templates:
    description: Whether templates are hosts, too.
    type: bool
    default: false
  agent_timeout_s:
    description: Seconds to wait for one agent. Proxmox VE itself gives up after a few.
    type: int
    default: 5
  agents_timeout_s:
    description: Seconds for all agents together. Those that are not reached in time are left out with a warning.
    type: int
    default: 30
  parallel:
    description: How many requests to send at once, each over a connection of its own.
    type: int
    default: 8
  address_families:
    description: Which addresses C(ansible_host) may be, in the order of preference.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  address_networks:
    description:
      - Networks that C(ansible_host) has to be in, in the order of preference. With none, it may be in any.
    type: list
    elements: str
    default: []
  address_ignored_interfaces:
    description: Patterns of interfaces inside a guest by which nobody reaches it.
    type: list
    elements: str
    default: [lo, docker*, br-*, veth*, virbr*, cni*, flannel*, cali*, podman*, lxcbr*, lxdbr*]
  group_by:
    description:
      - What to make groups of. With the default O(group_prefix) they are called C(proxmox_kind_qemu),
        C(proxmox_node_pve1), C(proxmox_pool_lab), C(proxmox_tag_web), C(proxmox_status_running) and
        C(proxmox_ostype_l26). What a group's name cannot hold becomes an underscore.
      - The group C(proxmox_guests) holds all of them.
    type: list
    elements: str
    choices: [kind, node, pool, tag, status, ostype]
    default: [kind, node, pool, tag, status, ostype]
  group_prefix:
    description: What the names of these groups begin with.
    type: str
    default: proxmox_
  facts_prefix:
    description: What the names of the variables begin with.
    type: str
    default: proxmox_
  filters:
    description:
      - Conditions over a guest's variables, in the order in which they are looked at.
      - A plain one has to hold, or the guest is left out. Of C(include) and C(exclude) the first whose condition holds
        decides. A guest that comes to the end is a host.
      - A condition that cannot be evaluated does not hold. It is warned of, or ends the run with O(strict).
    type: list
    elements: raw
    default: []
notes:
  - B(Variables.) V(proxmox_vmid), V(proxmox_kind) (C(qemu) or C(lxc)), V(proxmox_name), V(proxmox_node),
    V(proxmox_status), V(proxmox_tags), V(proxmox_pool), V(proxmox_template) and V(proxmox_lock) are always there.
    V(proxmox_config) is the configuration, for virtual machines by the names of the options of M(pvelab.proxmox.vm).
    V(proxmox_agent) is C(running), C(not asked) or why the agent did not answer, V(proxmox_agent_interfaces) what it
    told. V(proxmox_qmpstatus) comes with O(want_qmpstatus).
  - C(ansible_host) is the first address that is not of a loopback, a link or one of O(address_ignored_interfaces),
    else one that cloud-init or the configuration of a container sets. Without any, Ansible uses the name. C(compose)
    overrides it.
  - B(Coming from community.proxmox.proxmox.) O(facts_prefix), O(group_prefix), O(filters), O(strict), O(compose),
    O(groups), O(keyed_groups), V(proxmox_vmid), V(proxmox_node), V(proxmox_status), V(proxmox_agent_interfaces) and
    V(proxmox_qmpstatus) mean the same.
  - C(url) and E(PROXMOX_URL) are O(api_host) and O(api_port); C(user), C(password), C(token_id) and C(token_secret)
    have C(api_) before them here.
  - C(want_facts) is O(want_config) and C(qemu_extended_statuses) O(want_qmpstatus); both may be set by themselves.
  - C(proxmox_vmtype) is V(proxmox_kind), C(proxmox_tags_parsed) V(proxmox_tags), C(proxmox_ipconfig0.ip)
    V(proxmox_config.ipconfig0.ip) and any other C(proxmox_KEY) a key of V(proxmox_config). There are no
    C(proxmox_snapshots); ask M(pvelab.proxmox.vm_info).
  - The groups C(proxmox_all_qemu), C(proxmox_all_running), C(proxmox_pve1_qemu) and C(proxmox_pool_lab) are
    C(proxmox_kind_qemu), C(proxmox_status_running), the intersection C(proxmox_node_pve1:&proxmox_kind_qemu) and
    C(proxmox_pool_lab).
  - Nodes are no hosts here (C(exclude_nodes), C(want_proxmox_nodes_ansible_host)); list them by hand.
  - C(ansible_host) is set here; there it is left to C(compose).
seealso:
  - module: pvelab.proxmox.vm_info
"""

EXAMPLES = r"""
# lab.guests.proxmox.yml: who and where comes from PROXMOX_HOST, PROXMOX_TOKEN_ID, PROXMOX_TOKEN_SECRET
# and PROXMOX_FINGERPRINT
plugin: pvelab.proxmox.guests

---
# Only guests that run and are ours, in groups by what they do, reached over the management network.
plugin: pvelab.proxmox.guests
api_host: pve.example.test
api_token_id: ansible@pve!inventory
api_token_secret: "{{ lookup('ansible.builtin.file', '~/.proxmox-token') }}"
filters:
  - proxmox_status == 'running'
  - exclude: "'scratch' in proxmox_tags"
address_networks: [192.0.2.0/24]
keyed_groups:
  - key: proxmox_tags
    prefix: role
groups:
  big: proxmox_config.memory | int > 8192
compose:
  ansible_user: "'debian' if proxmox_config.ostype == 'l26' else 'Administrator'"
strict: true

---
# As few reads as can be, and those no more than once in ten minutes.
plugin: pvelab.proxmox.guests
want_config: false
want_addresses: false
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible-inventory
cache_timeout: 600
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_options import CONNECTION
from ansible_collections.pvelab.proxmox.plugins.module_utils.core import inventory as core
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_inventory import Guest, Wants, survey

# Anybody may write a file of this name, but this much of it says whose it is.
_HEAD = 1 << 16


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The plugin."""

    NAME = "pvelab.proxmox.guests"

    def verify_file(self, path: str) -> bool:
        """Whether a file is a source of this plugin."""
        if not super().verify_file(path) or not Path(path).is_file():
            return False
        with open(path, encoding="utf-8", errors="replace") as source:
            return core.is_ours(path, source.read(_HEAD), self.NAME)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory. Raises AnsibleParserError with one sentence."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            self._populate(self._guests(path, cache))
        except Failure as failure:
            missing = f"the Python library {failure.library} is missing: " if failure.library else ""
            raise AnsibleParserError(f"Unable to read the guests for {path}: {missing}{failure.msg}") from failure

    def _guests(self, path: str, cache: bool) -> list[Guest]:
        """The guests, from the cache where it has them by the same reads."""
        wants = self._wants()
        with Api.for_many(self._connection(), read_only=True) as api:
            kept = self.get_option("cache")
            key, reads = self.get_cache_key(path), {"from": repr(api), **asdict(wants)}
            stored = self._stored(key) if kept and cache else None
            if stored is not None and stored.get("reads") == reads:
                return list(stored["guests"])
            found = survey(api, wants, self.display.warning)
            if kept:
                self._cache[key] = {"reads": reads, "guests": found}
            for text in api.warnings:
                self.display.warning(text)
            return found

    def _stored(self, key: str) -> Mapping[str, Any] | None:
        try:
            found = self._cache[key]
        except KeyError:
            return None
        return found if isinstance(found, Mapping) else None

    def _connection(self) -> dict[str, Any]:
        """The connection's options, with their templates filled in."""
        try:
            return {name: self.templar.template(self._given(name)) for name in CONNECTION}
        except AnsibleError as error:
            raise Failure(f"an option of the connection cannot be filled in: {error}") from error

    def _given(self, name: str) -> Any:
        """An option; a variable of the environment that is empty says nothing, as for the modules."""
        value, origin = self.get_option_and_origin(name)
        return None if str(origin).startswith("env:") and value in ("", [""]) else value

    def _wants(self) -> Wants:
        config = bool(self.get_option("want_config"))
        return Wants(
            config=config,
            qmpstatus=bool(self.get_option("want_qmpstatus")),
            addresses=bool(self.get_option("want_addresses")),
            templates=bool(self.get_option("want_templates")),
            parallel=int(self.get_option("parallel")),
            agent_timeout_s=float(self.get_option("agent_timeout_s")),
            agents_timeout_s=float(self.get_option("agents_timeout_s")),
        )

    def _populate(self, guests: list[Guest]) -> None:
        options = ("address_families", "address_networks", "address_ignored_interfaces")
        preferred = core.preference(*(self.get_option(name) for name in options))
        names, warnings = core.names(guests)
        for text in warnings:
            self.display.warning(text)
        everyone = core.safe(f"{self.get_option('group_prefix')}guests")
        self.inventory.add_group(everyone)
        for guest in guests:
            variables = core.variables(guest, self.get_option("facts_prefix"))
            address = core.address(guest, preferred)
            if address:
                variables["ansible_host"] = address
            name = names[int(guest["vmid"])]
            if core.kept(self.get_option("filters"), partial(self._holds, variables, name)):
                self._add(name, variables, [everyone, *self._groups_of(guest)])

    def _groups_of(self, guest: Guest) -> list[str]:
        return core.groups(guest, self.get_option("group_by"), self.get_option("group_prefix"))

    def _holds(self, variables: Mapping[str, Any], host: str, condition: str) -> bool:
        try:
            return bool(self._compose(condition, variables))
        except AnsibleError as error:
            text = f"the filter '{condition}' cannot be evaluated for {host}: {error}"
            if self.get_option("strict"):
                raise Failure(text) from error
            self.display.warning(f"{text}. It is taken for one that does not hold.")
            return False

    def _add(self, name: str, variables: Mapping[str, Any], groups: list[str]) -> None:
        self.inventory.add_host(name)
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        for group in groups:
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        known = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), known, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), known, name, strict=strict)
