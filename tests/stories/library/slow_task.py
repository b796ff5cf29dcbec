#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module for tests: it counts some objects, then waits for a task of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Verb
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run


def read(api: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing is read, but much is told."""
    api.progress.tell(done=3, running=2, failed=1, total=8)
    return {}


RESOURCE = Verb(
    noun="thing",
    verb="wait for",
    options={"name": {"type": "str", "required": True}},
    read=read,
    steps=lambda state, params: [Call("POST", "/nodes/pve1/slow")],
    name=lambda params: params["name"],
)

if __name__ == "__main__":
    run(RESOURCE, Api)
