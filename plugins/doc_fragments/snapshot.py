# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a snapshot is to be."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of snapshot_resource.py."""

    DOCUMENTATION = r"""
options:
  snapname:
    description:
      - Name of the snapshot, 2 to 40 letters, digits, V(-) and V(_), beginning with a letter.
      - Without it the task only carries out O(retention).
    type: str
  description:
    description:
      - Text kept with the snapshot. It is changed if it differs, and V("") removes it.
      - Left alone if not given.
    type: str
  vmstate:
    description:
      - Save the memory of the running guest, too, so that a rollback resumes it where it was.
      - What a snapshot holds is settled when it is taken. If an existing one differs, the task fails and says so.
    type: bool
  retention:
    description:
      - Which snapshots of a series to keep. The others of the series are removed, oldest first and one at a time,
        after the new snapshot is complete.
      - A snapshot is data, and elsewhere it takes O(allow_data_loss) to remove one. Here the number to keep is the
        consent.
    type: dict
    suboptions:
      keep:
        description: How many of the newest to keep, the one of O(snapname) among them if it belongs to the series.
        type: int
        required: true
      pattern:
        description:
          - Which snapshots make up the series, by a pattern of their names (V(*), V(?) and V([abc]) as in a shell).
          - Others are never touched.
        type: str
        required: true
  force:
    description:
      - Also remove a snapshot that was cut off half way (C(snapstate) is C(prepare) or C(delete)), with the lock that
        it left on the guest. With O(state=present) it is then taken again.
      - Lifting the lock takes a login as root@pam with its password; Proxmox VE allows it to nobody else.
      - While a task still works on the snapshot, nothing is removed.
    type: bool
    default: false
  allow_data_loss:
    description: Confirm that what only O(state=absent) is going to remove may be lost.
    type: bool
    default: false
  state:
    description:
      - Whether there is to be such a snapshot.
      - Where there is no such guest, there is no such snapshot, and V(absent) is content.
    type: str
    choices: [present, absent]
    default: present
"""
