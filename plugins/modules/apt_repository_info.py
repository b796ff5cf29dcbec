#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_repository_info
short_description: Look at a package repository before a host trusts it
version_added: 1.0.0
description:
  - Asks a repository of Debian packages, from the host that the task runs on and with the apt of that host, whether it
    can be reached, is signed by the given key, has the wanted components, and is neither out of date nor from the
    future.
  - It fails with one sentence that says which of these is wrong. Nothing of the host is changed, apt's lists included.
options:
  uri:
    description: Address of the repository.
    type: str
    required: true
  suite:
    description: The release, such as V(trixie).
    type: str
    required: true
  components:
    description: The components, such as V(pve-no-subscription). Each has to be there.
    type: list
    elements: str
    required: true
  key:
    description: The public key, armoured or its bytes in base64.
    type: str
  key_url:
    description: Where the host gets the public key. It is not believed unless it has one of the O(fingerprints).
    type: str
  fingerprints:
    description: Fingerprints that keys may have. A keyring with any other key in it is refused.
    type: list
    elements: str
    default: []
  packages:
    description: Packages to look for.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pvelab.proxmox.attributes.info
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See that the repository is the one that it says it is
  pvelab.proxmox.apt_repository_info:
    uri: http://download.proxmox.com/debian/pve
    suite: trixie
    components: [pve-no-subscription]
    key_url: https://enterprise.proxmox.com/debian/proxmox-release-trixie.gpg
    fingerprints: [24B30F06ECC1836A4E5EFECBA7BCD1420BFE778E]
    packages: [proxmox-ve]
  register: repository

- name: See that a mirror of one's own is signed by one's own key
  pvelab.proxmox.apt_repository_info:
    uri: https://mirror.example.com/debian
    suite: trixie
    components: [main]
    key: "{{ lookup('ansible.builtin.file', 'mirror.asc') }}"
"""

RETURN = r"""
key:
  description: The key, armoured.
  returned: success
  type: str
fingerprints:
  description: The fingerprints of its primary keys.
  returned: success
  type: list
  elements: str
  sample: [24B30F06ECC1836A4E5EFECBA7BCD1420BFE778E]
origin:
  description: Who the repository says that it is of.
  returned: success
  type: str
  sample: Proxmox
label:
  description: What the repository calls itself.
  returned: success
  type: str
codename:
  description: The release's name.
  returned: success
  type: str
  sample: trixie
date:
  description: When the release was made.
  returned: success
  type: str
versions:
  description: The newest version of each of the O(packages) that it has.
  returned: success
  type: dict
  sample: {proxmox-ve: 9.0.0}
"""

from ansible_collections.pvelab.proxmox.plugins.module_utils.apt_reads import repository
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Query
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

# A public key is no secret.
OPTIONS = {
    "uri": {"type": "str", "required": True},
    "suite": {"type": "str", "required": True},
    "components": {"type": "list", "elements": "str", "required": True},
    "key": {"type": "str", "no_log": False},
    "key_url": {"type": "str", "no_log": False},
    "fingerprints": {"type": "list", "elements": "str", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
}

RESOURCE = Query(
    noun="package repository",
    options=OPTIONS,
    read=repository,
    constraints={"mutually_exclusive": [("key", "key_url")], "required_one_of": [("key", "key_url")]},
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()
