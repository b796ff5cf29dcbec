# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether an object is to be there, and what may be lost on the way."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that all modules for objects share."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - Whether the object is to be there or not.
    type: str
    choices: [present, absent]
    default: present
  allow_data_loss:
    description:
      - Allow steps that destroy data. Without it the task names what would be lost and changes nothing.
    type: bool
    default: false
"""
