#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: network_confirm
short_description: Keep a change of a host's network
version_added: 1.0.0
description:
  - Confirms a change that M(pvelab.proxmox.network) has made, so that the host does not go back to the old network.
  - That this module reaches the host is the proof that the new network works; run it over a new connection.
  - A default gateway that the change has brought has to answer, because whoever is in the same subnet would not notice.
  - Runs on the host, as root.
options:
  token:
    description: Which change is meant (C(object.pending) of M(pvelab.proxmox.network)). The latest one if not given.
    type: str
notes:
  - It fails while the reload is under way; try again until it is over, as the role network does.
seealso:
  - module: pvelab.proxmox.network
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Keep the new network, as soon as the reload is over
  pvelab.proxmox.network_confirm:
    token: "{{ change.object.pending }}"
  register: kept
  until: kept is success or 'not over yet' not in kept.msg
  retries: 30
  delay: 2

- name: Keep whatever was changed last
  pvelab.proxmox.network_confirm:
"""

RETURN = r"""
object:
  description: How the change stands.
  returned: success
  type: dict
  contains:
    token:
      description: Which change it is; empty if the host has never seen one.
      type: str
    status:
      description: C(armed), C(confirmed), C(reverting), C(reverted) or, if it never got so far, empty.
      type: str
  sample: {token: 0001-5f1d2c3b, status: confirmed}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.network_apply import DIRECTORY, confirmation
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, State, Verb
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Step
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run
from ansible_collections.pvelab.proxmox.plugins.module_utils.network_reads import silent_gateways, status

# It names a change and is no secret.
OPTIONS = {"token": {"type": "str", "no_log": False}}


def read(host: Any, params: Params) -> State | None:
    runs = host.names(DIRECTORY)
    token = params["token"] or (runs[-1] if runs else "")
    if token and token not in runs:
        raise Failure(f"this host has no change {token}; name one that the module network has made here.")
    if not token:
        return {"token": "", "status": ""}
    code = (host.read(f"{DIRECTORY}/{token}/reload.rc") or "").strip()
    log = (host.read(f"{DIRECTORY}/{token}/reload.log") or "").strip()
    now = status(host, token)
    silent = silent_gateways(host, token) if (now, code) == ("armed", "0") else []
    return {"token": token, "status": now, "reload": code, "log": "" if code == "0" else log[-500:], "silent": silent}


def steps(have: State | None, params: Params) -> Sequence[Step]:
    now: State = have or {}
    if now["status"] == "reverting":
        raise Failure("the host is about to go back to the old network.")
    if now["status"] == "reverted":
        why = f": ifreload ended with {now['reload']}, {now['log']}" if now["reload"] not in ("", "0") else ""
        raise Failure(f"the host has gone back to the old network by itself{why or ', as nobody confirmed in time'}.")
    if now["status"] != "armed":
        return []
    if now["reload"] != "0":
        raise Failure("the reload of the network is not over yet; try again in a few seconds.")
    if now["silent"]:
        raise Failure(f"nobody answers for the new default gateway {', '.join(now['silent'])}, so it is not confirmed.")
    return confirmation(now["token"])


RESOURCE = Verb(
    noun="network",
    verb="confirm",
    options=OPTIONS,
    read=read,
    steps=steps,
    name=lambda params: params["token"] or "as it is",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
