#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_journal
short_description: Put what was seen from outside into the journal of a failure drill
version_added: 1.0.0
description:
  - Adds to a journal what M(pvelab.proxmox.drill_vantage) has seen from a machine that the drill did not break, with
    all times by the clock of the host, and by how much that may be wrong.
  - It runs where the journal is, and needs the C(samples.jsonl) beside it to know how the host's clocks stood. A
    C(vantage.jsonl) beside it is named among the evidence.
  - The same is put in once, however often it runs. The verdict stays what it was.
options:
  journal:
    description: The C(journal.json) of the drill.
    type: path
    required: true
  seen:
    description: What was seen, as M(pvelab.proxmox.drill_vantage) returns it.
    type: dict
    required: true
seealso:
  - module: pvelab.proxmox.drill_vantage
  - module: pvelab.proxmox.drill_report
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Put what was seen from outside into the journal
  pvelab.proxmox.drill_journal:
    journal: "{{ drill_reports }}/20261122T021500Z-storage_full-1a2b3c/journal.json"
    seen: "{{ outside.object.seen }}"
  delegate_to: localhost

- name: Put what a second machine saw beside it
  pvelab.proxmox.drill_journal:
    journal: /var/lib/pvelab-drills/20261122T021500Z-network_cut-4d5e6f/journal.json
    seen: "{{ hostvars.watcher.outside.object.seen }}"
"""

RETURN = r"""
object:
  description: What the journal says of it, as C(docs/drills/journal.schema.json) has C(vantage).
  returned: success
  type: dict
  contains:
    sha256:
      description: The checksum of the journal as it is now.
      type: str
  sample:
    sha256: 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_outside, drill_render
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import NAME, read_samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Missing, Write
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "journal": {"type": "path", "required": True},
    "seen": {"type": "dict", "required": True},
}


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    path = params["journal"]
    text = host.read(path)
    if text is None:
        raise Missing(f"there is no journal at {path}. Run the drill first, or correct the path.")
    samples = read_samples(host.read(drill_render.beside(path, NAME)), ()).rows
    tries = host.read(drill_render.beside(path, drill_outside.TRIES))
    return {"_text": drill_outside.put_in(text, path, params["seen"], samples, tries)}


def want(params: Params) -> State | None:
    return {"sha256": _sum(params.get("_text"))}


def read(host: Any, params: Params) -> State | None:
    return {"sha256": _sum(host.read(params["journal"]))}


def _sum(text: str | None) -> str | None:
    return None if text is None else sha256(text.encode()).hexdigest()


def steps(plan: Plan, params: Params) -> Sequence[Write]:
    return [Write(params["journal"], params["_text"], label="put in what was seen from outside", backup=False)]


RESOURCE = Resource(
    noun="journal",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: params["journal"],
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
