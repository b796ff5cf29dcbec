# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the inventory share: a source file, and what `ansible-inventory` makes of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT


class Inventory:
    """What `ansible-inventory --list` said: ``hosts`` by name with their variables, ``groups`` by name."""

    def __init__(self, said: subprocess.CompletedProcess[str]) -> None:
        self.told = said.stderr
        self.rc = said.returncode
        # What comes from outside is marked as text that is never a template.
        found = json.loads(said.stdout or "{}", object_hook=lambda it: it.get("__ansible_unsafe", it))
        self.hosts: dict[str, dict[str, Any]] = found.get("_meta", {}).get("hostvars", {})
        self.groups: dict[str, list[str]] = {
            name: sorted(group["hosts"]) for name, group in found.items() if "hosts" in group
        }


def listed(
    folder: Path, environment: Mapping[str, str], options: Mapping[str, Any], name: str = "lab.guests.proxmox.yml"
) -> Inventory:
    """Write a source with these options and list it."""
    source = folder / name
    source.write_text(yaml.safe_dump({"plugin": "pvelab.proxmox.guests", **options}), encoding="utf-8")
    command = [BIN / "ansible-inventory", "-i", source, "--list"]
    # A source that fails ends the run, as it does for those who have set it so.
    env = {**environment, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
    said = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120, check=False)
    return Inventory(said)
