# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd says of a unit that a role writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.pvelab.proxmox.tests.lab import ROOT


def unit_of(role: str, template: str, path: Path, **variables: Any) -> str:
    """Write the unit that a role's template makes of its defaults and variables to ``path``; its text."""
    known: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        for name, value in yaml_load((ROOT / "roles" / role / part / "main.yml").read_text()).items():
            known[name] = _trusted(value)
    source = trust_as_template((ROOT / "roles" / role / "templates" / template).read_text())
    path.write_text(str(Templar(DataLoader(), {**known, **variables}).template(source)))
    return path.read_text()


def _trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _trusted(part) for key, part in value.items()}
    return trust_as_template(value) if isinstance(value, str) else value


def systemd_takes(unit: Path, exposure: int) -> None:
    """systemd finds no fault with a unit, and rates its exposure below a number of tenths; without any setting a
    service has 96."""
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd is not on this machine")
    done = subprocess.run([program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    argv = [program, "security", "--offline=true", f"--threshold={exposure}", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
