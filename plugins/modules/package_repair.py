#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: package_repair
short_description: Finish what an interrupted package manager left half done
version_added: 1.0.0
description:
  - Configures packages that were unpacked and no more, and installs what they lack, on the host that the task runs on.
  - Without that, apt refuses every further work after a power failure or a lost connection. Nothing is ever removed.
  - Configuration files that were changed on the host stay as they are.
options: {}
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Finish what was interrupted
  pvelab.proxmox.package_repair:

- name: See whether something was interrupted
  pvelab.proxmox.package_repair:
  check_mode: true
  register: packages
"""

RETURN = r"""
object:
  description: The packages that are neither installed nor gone; before the change in check mode.
  returned: success
  type: dict
  sample: {broken: []}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.apt_reads import broken
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Run
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS: dict[str, Any] = {}
QUIETLY = ("env", "DEBIAN_FRONTEND=noninteractive")


def want(_params: Params) -> State:
    return {"broken": []}


def read(host: Any, _params: Params) -> State:
    return {"broken": broken(host)}


def steps(_plan: Plan, _params: Params) -> Sequence[Run]:
    # the first leaves alone what lacks a dependency (1); the second brings that, and configures the rest
    keep = ("--force-confdef", "--force-confold")
    options = tuple(word for option in keep for word in ("-o", f"Dpkg::Options::={option}"))
    return [
        Run((*QUIETLY, "dpkg", *keep, "--configure", "-a"), label="configure", timeout_s=1800, ok_rcs=(0, 1)),
        Run(
            (*QUIETLY, "apt-get", "-y", "-q", "--no-remove", *options, "--fix-broken", "install"),
            label="bring what is lacking",
            timeout_s=1800,
        ),
    ]


RESOURCE = Resource(
    noun="packages",
    options=OPTIONS,
    want=want,
    read=read,
    steps=steps,
    name=lambda _params: "of this host",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
