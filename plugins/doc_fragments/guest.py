# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a task says which guest it means."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of core/options.py."""

    DOCUMENTATION = r"""
options:
  vmid:
    description:
      - Id of the guest.
      - It goes before O(name) if both are given.
    type: int
  name:
    description:
      - Name of the guest, in place of its id.
      - Names are not unique in Proxmox VE. If several guests have this one, the task fails and lists their ids.
    type: str
  node:
    description:
      - Look for O(name) on this node only.
      - It is not needed to find a guest, wherever in the cluster it is.
    type: str
"""
