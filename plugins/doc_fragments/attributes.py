# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module promises."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of modules that change something, and of those that only look."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode, where it tells what it would do and sends no write.
    support: full
  diff_mode:
    description: Shows what it changes, or would change, in diff mode.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode, where it tells what it would do and sends no write.
    support: full
    details:
      - It only reads.
  diff_mode:
    description: Shows what it changes, or would change, in diff mode.
    support: N/A
    details:
      - It only reads.
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
"""
