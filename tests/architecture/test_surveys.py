# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX's surveys say what the argument specs say: an option that is added, renamed or described anew is in them, too."""

from __future__ import annotations

import subprocess
import sys

from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT


def test_surveys_are_made_of_the_argument_specs_as_they_are() -> None:
    command = [sys.executable, ROOT / "tools/surveys.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
