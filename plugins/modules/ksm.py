#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ksm
short_description: Set how a host merges equal pages of memory
version_added: 1.0.0
description:
  - Sets the kernel's same-page merging on the host that the task runs on, now and for the next boot, or leaves it to
    the daemon C(ksmtuned).
  - Each setting has two values, the one that the kernel runs with and the one that it gets at boot. Where either
    differs, the task changes it.
options:
  state:
    description:
      - Whether the kernel looks for equal pages. With V(stopped), pages that are merged stay so. With V(unmerged), they
        are taken apart, for which the host needs the memory; the task refuses it where there is not enough.
    type: str
    choices: [running, stopped, unmerged]
  pages_to_scan:
    description: How many pages the kernel looks at before it sleeps.
    type: int
  sleep_millisecs:
    description: For how long it sleeps then.
    type: int
  merge_across_nodes:
    description:
      - Merge pages of different NUMA nodes, too.
      - The kernel takes a change only while no page is merged. The task takes merged pages apart first, and starts the
        merging again if it was running.
    type: bool
  max_page_sharing:
    description:
      - How many places may share one page. What holds for a change of O(merge_across_nodes) holds here, too.
    type: int
  use_zero_pages:
    description: Merge empty pages with the kernel's zero page.
    type: bool
  smart_scan:
    description: Skip pages that could not be merged before. Takes Linux 6.7 or later.
    type: bool
  advisor_mode:
    description:
      - Let the kernel find O(pages_to_scan) by itself, so that a scan takes as long as it should. Takes Linux 6.8 or
        later, and excludes O(pages_to_scan) and ksmtuned.
    type: str
    choices: [none, scan-time]
  advisor_max_cpu:
    description: How much of a processor the advisor may use, in percent.
    type: int
  advisor_min_pages_to_scan:
    description: The least that the advisor sets.
    type: int
  advisor_max_pages_to_scan:
    description: The most that the advisor sets.
    type: int
  advisor_target_scan_time:
    description: How long a scan of everything should take, in seconds.
    type: int
  persist:
    description: Set the same for the next boot, in C(/etc/tmpfiles.d/pvelab-ksm.conf).
    type: bool
    default: true
  ksmtuned:
    description:
      - Whether C(ksmtuned.service) is enabled and running. It starts the merging when memory gets scarce, and sets
        O(state), O(pages_to_scan) and O(sleep_millisecs) by itself, so a task that gives those needs V(false).
    type: bool
  ksmtuned_settings:
    description:
      - Settings in C(/etc/ksmtuned.conf), such as C(KSM_THRES_COEF). Other lines of the file stay as they are. A daemon
        that runs is restarted.
    type: dict
notes:
  - systemd writes the values at boot through tmpfiles.d, which takes no service of its own, skips what another kernel
    does not have, and goes on where the kernel refuses a value.
seealso:
  - module: pvelab.proxmox.ksm_info
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Merge pages within each NUMA node, without ksmtuned
  pvelab.proxmox.ksm:
    state: running
    pages_to_scan: 1000
    sleep_millisecs: 50
    merge_across_nodes: false
    ksmtuned: false

- name: Leave it to ksmtuned, from 30 percent of free memory on
  pvelab.proxmox.ksm:
    ksmtuned: true
    ksmtuned_settings:
      KSM_THRES_COEF: 30

- name: No page is shared between guests any more
  pvelab.proxmox.ksm:
    state: unmerged
    ksmtuned: false
"""

RETURN = r"""
object:
  description: What the kernel runs with, what it gets at boot, and ksmtuned; before the change in check mode.
  returned: success
  type: dict
  contains:
    runtime:
      description: The settings, whether it is C(running), and whether pages are C(merged).
      type: dict
    persisted:
      description: The settings for the boot.
      type: dict
    ksmtuned:
      description: Whether it is C(enabled) and C(active), and its settings.
      type: dict
  sample:
    runtime: {running: true, merged: false, pages_to_scan: 1000, sleep_millisecs: 50, merge_across_nodes: false}
    persisted: {running: true, pages_to_scan: 1000, sleep_millisecs: 50, merge_across_nodes: false}
    ksmtuned: {enabled: false, active: false}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.ksm import steps, wanted
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Resource
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.ksm_reads import look, survey
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "state": {"type": "str", "choices": ["running", "stopped", "unmerged"]},
    "pages_to_scan": {"type": "int"},
    "sleep_millisecs": {"type": "int"},
    "merge_across_nodes": {"type": "bool"},
    "max_page_sharing": {"type": "int"},
    "use_zero_pages": {"type": "bool"},
    "smart_scan": {"type": "bool"},
    "advisor_mode": {"type": "str", "choices": ["none", "scan-time"]},
    "advisor_max_cpu": {"type": "int"},
    "advisor_min_pages_to_scan": {"type": "int"},
    "advisor_max_pages_to_scan": {"type": "int"},
    "advisor_target_scan_time": {"type": "int"},
    "persist": {"type": "bool", "default": True},
    "ksmtuned": {"type": "bool"},
    "ksmtuned_settings": {"type": "dict"},
}

RESOURCE = Resource(
    noun="same-page merging",
    options=OPTIONS,
    want=wanted,
    resolve=survey,
    read=look,
    steps=steps,
    name=lambda _params: "of this host",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
