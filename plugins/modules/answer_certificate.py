#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: answer_certificate
short_description: Keep a certificate that the installer of Proxmox VE knows by its fingerprint
version_added: 1.0.0
description:
  - Makes a key and a certificate that signs itself, and tells the SHA-256 fingerprint that
    C(proxmox-auto-install-assistant prepare-iso --cert-fingerprint) takes.
  - The certificate is made anew when it has expired, when its key is gone, or when O(names) are others. An ISO that was
    prepared with the fingerprint of the old one has to be prepared anew, too.
  - It needs openssl on the host that it runs on.
options:
  path:
    description: The certificate, in PEM. Its directory must be there.
    type: str
    required: true
  key_path:
    description: Its key, in PEM, with mode 0600. Its directory must be there.
    type: str
    required: true
  names:
    description: Addresses and names under which the server is asked.
    type: list
    elements: str
    required: true
  days:
    description: How long a new certificate is valid.
    type: int
    default: 3650
seealso:
  - module: pvelab.proxmox.answer_file
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: A certificate for the answer server
  pvelab.proxmox.answer_certificate:
    path: /var/lib/pvelab-answers/tls/certificate.pem
    key_path: /var/lib/pvelab-answers/tls/key.pem
    names: [192.0.2.1, provision.example.com]
  register: certificate

- name: What prepare-iso wants to know
  ansible.builtin.debug:
    var: certificate.object.fingerprint

- name: One for another year, of a server that has two names
  pvelab.proxmox.answer_certificate:
    path: /srv/answers/tls/certificate.pem
    key_path: /srv/answers/tls/key.pem
    names: [provision.example.com, answers.example.com]
    days: 365
"""

RETURN = r"""
object:
  description: The certificate as it is now; before the change in check mode. Null if there is none.
  returned: success
  type: dict
  contains:
    fingerprint:
      description: SHA-256 of the certificate, in pairs of digits with colons.
      type: str
    names:
      description: What it is for.
      type: list
      elements: str
    valid:
      description: Whether it has not expired.
      type: bool
    key_mode:
      description: Mode of the key's file; empty if it is gone.
      type: str
  sample: {fingerprint: "98:BD:87:8E:…", names: ["IP:192.0.2.1"], valid: true, key_mode: "600"}
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import certificates
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Run
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

OPTIONS = {
    "path": {"type": "str", "required": True},
    "key_path": {"type": "str", "required": True, "no_log": False},
    "names": {"type": "list", "elements": "str", "required": True},
    "days": {"type": "int", "default": 3650},
}


def want(params: Params) -> State | None:
    return {"names": certificates.names(params["names"]), "valid": True, "key_mode": "600"}


def read(host: Any, params: Params) -> State | None:
    if host.read(params["path"]) is None:
        return None
    shown = ("-noout", "-sha256", "-fingerprint", "-ext", "subjectAltName", "-checkend", "0")
    text = host.query(("openssl", "x509", "-in", params["path"], *shown), ok_rcs=(0, 1))
    folder, _slash, name = params["key_path"].rpartition("/")
    there = name in host.names(folder or "/")
    mode = host.query(("stat", "--format=%a", params["key_path"])).strip() if there else ""
    return {**certificates.parse(text), "key_mode": mode}


def steps(plan: Plan, params: Params) -> Sequence[Run]:
    made = certificates.make(params["path"], params["key_path"], plan.after("names"), params["days"])
    only_mode = set(plan.changes) == {"key_mode"} and plan.changes["key_mode"].before
    return made[1:] if only_mode else made


RESOURCE = Resource(
    noun="certificate",
    options=OPTIONS,
    want=want,
    read=read,
    steps=steps,
    name=lambda params: params["path"],
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
