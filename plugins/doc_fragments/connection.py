# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a task reaches the Proxmox VE API."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of module_utils/api_options.py."""

    DOCUMENTATION = r"""
options:
  api_host:
    description:
      - Name or address of a node of the cluster, with a port if it is not O(api_port).
      - Without it, and on a node itself, the task works through C(pvesh) as C(root@pam) and needs no login.
    type: str
  api_hosts:
    description:
      - More nodes of the same cluster. They are tried in turn, after O(api_host), when one cannot be reached.
    type: list
    elements: str
  api_port:
    description:
      - Port of the API.
    type: int
    default: 8006
  api_local:
    description:
      - Work through C(pvesh) even if O(api_host) is set, in the environment for instance.
    type: bool
    default: false
  api_user:
    description:
      - User with its realm. O(api_token_id) may carry it instead.
    type: str
    default: root@pam
  api_password:
    description:
      - Password of the user. It goes before O(api_token_id) if both are given.
    type: str
  api_otp:
    description:
      - Second factor of the user, for O(api_password). A plain code is taken for a timed one, 44 letters for a
        Yubikey's and four groups of four hexadecimal digits for a recovery key. Name the kind to be sure, as in
        V(totp:123456).
      - A code is good for one login and every task logs in, so this serves single tasks. Use a token for playbooks.
    type: str
  api_token_id:
    description:
      - Name of an API token of O(api_user), or user and token as in V(root@pam!ansible).
    type: str
  api_token_secret:
    description:
      - Secret of the token.
    type: str
  api_fingerprint:
    description:
      - Pin the certificate of the node by its SHA-256 fingerprint, V(AA:BB:…) or plain hexadecimal.
        No other check of the certificate is made then.
      - With several hosts, list the fingerprint of each.
    type: list
    elements: str
  ca_path:
    description:
      - File or directory with the certificates to trust, for instance a copy of C(/etc/pve/pve-root-ca.pem).
      - Without it E(REQUESTS_CA_BUNDLE) or E(CURL_CA_BUNDLE) count, and without those the certificates of the machine.
    type: path
  validate_certs:
    description:
      - Check the certificate of the node. V(false) gives the password or token to whoever answers;
        O(api_fingerprint) is as easy and safe.
    type: bool
    default: true
  api_timeout:
    description:
      - Seconds to wait for the answer to a read. An answer to a write, which may have to activate a storage first,
        is given at least 120 seconds.
    type: int
    default: 30
  api_task_timeout:
    description:
      - Seconds to wait for a task of the node. A task that takes longer goes on, but the Ansible task fails.
    type: int
    default: 1800
  api_lock_timeout:
    description:
      - Seconds to wait for a guest that another task of the node has locked. A lock is never skipped.
    type: int
    default: 120
  api_retries:
    description:
      - How often a read is repeated that got no answer, or one that may pass. A write is repeated only if it certainly
        was not carried out.
    type: int
    default: 3
requirements:
  - python >= 3.11
  - proxmoxer >= 2.3
  - requests >= 2.32.2
  - requests_toolbelt (for uploads of more than 10 MiB)
notes:
  - If an option is not set, the environment may stand in for it.
    E(PROXMOX_HOST), E(PROXMOX_HOSTS), E(PROXMOX_PORT), E(PROXMOX_LOCAL), E(PROXMOX_USER), E(PROXMOX_PASSWORD),
    E(PROXMOX_OTP), E(PROXMOX_TOKEN_ID), E(PROXMOX_TOKEN_SECRET), E(PROXMOX_FINGERPRINT), E(PROXMOX_CA_PATH),
    E(PROXMOX_VALIDATE_CERTS), E(PROXMOX_API_TIMEOUT), E(PROXMOX_TASK_TIMEOUT), E(PROXMOX_LOCK_TIMEOUT) and
    E(PROXMOX_RETRIES) do so for the options of those names.
  - A proxy of the environment (E(HTTPS_PROXY), E(NO_PROXY)) is used, but never to reach the machine's own loopback.
  - Set the connection once for all modules with C(module_defaults) and C(group/pvelab.proxmox.api).
attributes:
  action_group:
    description: Connection options can be set for all modules of the group in C(module_defaults).
    support: full
    membership:
      - pvelab.proxmox.api
"""

    # Beside the fragment itself: what Ansible looks up for a plugin, a module does by itself (api_options.py).
    PLUGIN = r"""
options:
  api_host:
    env:
      - name: PROXMOX_HOST
  api_hosts:
    env:
      - name: PROXMOX_HOSTS
  api_port:
    env:
      - name: PROXMOX_PORT
  api_local:
    env:
      - name: PROXMOX_LOCAL
  api_user:
    env:
      - name: PROXMOX_USER
  api_password:
    env:
      - name: PROXMOX_PASSWORD
  api_otp:
    env:
      - name: PROXMOX_OTP
  api_token_id:
    env:
      - name: PROXMOX_TOKEN_ID
  api_token_secret:
    env:
      - name: PROXMOX_TOKEN_SECRET
  api_fingerprint:
    env:
      - name: PROXMOX_FINGERPRINT
  ca_path:
    env:
      - name: PROXMOX_CA_PATH
  validate_certs:
    env:
      - name: PROXMOX_VALIDATE_CERTS
  api_timeout:
    env:
      - name: PROXMOX_API_TIMEOUT
  api_task_timeout:
    env:
      - name: PROXMOX_TASK_TIMEOUT
  api_lock_timeout:
    env:
      - name: PROXMOX_LOCK_TIMEOUT
  api_retries:
    env:
      - name: PROXMOX_RETRIES
"""
