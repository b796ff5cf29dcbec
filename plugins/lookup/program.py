# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A Python package of a role as one file to bring to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: program
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
version_added: 1.0.0
short_description: Make one file of a Python package
description:
  - Puts the C(.py) files of a package together as an archive that Python runs (C(python3 name.pyz)), and gives back its
    path.
  - The archive lies in the directory of this run of Ansible, which Ansible removes at its end. The same sources make
    the same bytes, so a task that copies it changes something only where a source has changed.
  - One file is brought to a host in the time that each file of a package would take.
options:
  _terms:
    description: Directories of packages, each with a C(__main__.py) that has a function C(main).
    required: true
    type: list
    elements: path
"""

EXAMPLES = r"""
- name: Install the program
  ansible.builtin.copy:
    src: "{{ lookup('pvelab.proxmox.program', role_path ~ '/files/guest_watch') }}"
    dest: /usr/local/lib/pvelab/guest_watch.pyz
    mode: "0755"

- name: Keep it beside the playbook, to look at what a host would be given
  ansible.builtin.copy:
    src: "{{ lookup('pvelab.proxmox.program', 'roles/drill/files/drill') }}"
    dest: build/drill.pyz
    mode: "0755"
  delegate_to: localhost
"""

RETURN = r"""
_raw:
  description: The paths of the archives, on the machine that runs Ansible.
  type: list
  elements: path
"""

import zipfile
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase


def build(package: Path, archive: Path) -> None:
    """Write the archive of a package. Raises OSError where it cannot be read, or not be written."""
    start = f"from {package.name}.__main__ import main\nraise SystemExit(main())\n"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(package.rglob("*.py")):
            out.writestr(
                zipfile.ZipInfo(str(path.relative_to(package.parent))), path.read_bytes(), zipfile.ZIP_DEFLATED
            )
        out.writestr(zipfile.ZipInfo("__main__.py"), start)


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Paths of the archives, one for each package."""
        return [self._archive(Path(term)) for term in terms]

    @staticmethod
    def _archive(package: Path) -> str:
        if not (package / "__main__.py").is_file():
            raise AnsibleLookupError(f"{package} is no package that can be run: it has no __main__.py")
        archive = Path(constants.DEFAULT_LOCAL_TMP) / f"{package.name}.pyz"
        # Built beside it first: several hosts may be served at once.
        draft = archive.with_suffix(f".{id(package)}")
        build(package, draft)
        draft.replace(archive)
        return str(archive)
