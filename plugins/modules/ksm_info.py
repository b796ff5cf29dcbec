#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ksm_info
short_description: Look at what same-page merging saves on a host
version_added: 1.0.0
description:
  - Tells how the kernel of the host that the task runs on merges equal pages of memory, what that saves, and what of it
    comes from which guest.
options: {}
notes:
  - It reads the counters of processes of other users, which takes root.
seealso:
  - module: pvelab.proxmox.ksm
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at same-page merging
  pvelab.proxmox.ksm_info:
  register: merging

- name: Stop here if it costs more memory than it saves
  ansible.builtin.assert:
    that: merging.counters.general_profit >= 0
    fail_msg: "Same-page merging loses {{ - merging.counters.general_profit }} bytes"

- name: Wait until merging has saved something
  pvelab.proxmox.ksm_info:
  register: merging
  until: merging.saved_bytes > 0
  retries: 30
  delay: 10
"""

RETURN = r"""
available:
  description: Whether this kernel can merge pages. If not, there are no C(settings) and no C(counters).
  returned: success
  type: bool
running:
  description: Whether it looks for equal pages now.
  returned: success
  type: bool
settings:
  description: What the kernel runs with, by the names of its files in C(/sys/kernel/mm/ksm).
  returned: success
  type: dict
counters:
  description:
    - The kernel's counters by their names, such as C(pages_shared) (pages that are kept), C(pages_sharing) (places that
      need none of their own), C(pages_unshared), C(pages_volatile), C(full_scans), C(ksm_zero_pages) and
      C(general_profit) (bytes, less than zero where the bookkeeping takes more than merging saves).
    - What this kernel does not count is not there.
  returned: success
  type: dict
page_bytes:
  description: Size of a page.
  returned: success
  type: int
saved_bytes:
  description: What merged pages and merged empty pages save, without the bookkeeping.
  returned: success
  type: int
processes:
  description: The QEMU processes, by pid.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Id of the process.
      type: int
    vmid:
      description: Id of the guest; null for a process that no node has started.
      type: int
    name:
      description: Name of the guest.
      type: str
    merging_pages:
      description: How many of its pages are merged. This and the following are null where the kernel does not count.
      type: int
    zero_pages:
      description: How many of its empty pages are merged with the kernel's zero page.
      type: int
    rmap_items:
      description: How many of its pages the kernel keeps book of.
      type: int
    profit_bytes:
      description: What merging saves in this process, less the bookkeeping.
      type: int
  sample:
    - {pid: 4242, vmid: 104, name: web1, merging_pages: 5121, zero_pages: 0, rmap_items: 20480, profit_bytes: 19664896}
"""

from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.ksm import KNOBS, SYSFS, value
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.ksm_guests import processes
from ansible_collections.pvelab.proxmox.plugins.module_utils.ksm_reads import page_bytes
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS: dict[str, Any] = {}


def read(host: Any, _params: Params) -> dict[str, Any]:
    texts = {name: host.read(f"{SYSFS}/{name}") for name in host.names(SYSFS)}
    counters = {n: int(t) for n, t in texts.items() if n not in KNOBS and n != "run"}
    size = page_bytes(host)
    return {
        "available": bool(texts),
        "running": texts.get("run", "0").strip() == "1",
        "settings": {name: value(name, texts[name]) for name in KNOBS if name in texts},
        "counters": counters,
        "page_bytes": size,
        "saved_bytes": (counters.get("pages_sharing", 0) + counters.get("ksm_zero_pages", 0)) * size,
        "processes": processes(host),
    }


RESOURCE = Query(noun="same-page merging of this host", options=OPTIONS, read=read)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
