# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of AWX's configuration share: its data as Ansible reads it, and runs of its playbook."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT

DATA = ROOT / "playbooks/vars/awx"
PLAYBOOK = ROOT / "playbooks/awx.yml"


def loaded(path: Path) -> Any:
    """A file of variables, templates unfilled."""
    return plain(tagged(path))


def tagged(path: Path) -> Any:
    """The same with what Ansible notes of each value: where it comes from, and whether it may be a template."""
    return DataLoader().load_from_file(str(path), trusted_as_template=True)


def plain(data: Any) -> Any:
    """Without Ansible's notes. A template is filled in when it is looked at, so each value is."""
    if isinstance(data, dict):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [plain(value) for value in data]
    return json.loads(json.dumps(data))


def variables() -> dict[str, Any]:
    """What the playbook loads, filled in as a play would see it."""
    found: dict[str, Any] = {}
    for name in loaded(PLAYBOOK)[0]["vars_files"]:
        found.update(tagged(PLAYBOOK.parent / name))
    filled: dict[str, Any] = plain(Templar(loader=DataLoader(), variables=found).template(found))
    return filled


def configure(folder: Path, environment: dict[str, str], *more: str) -> Any:
    """Run the playbook; the report of the JSON callback, with ``rc``."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "CONTROLLER_", "TOWER_"))}
    done = subprocess.run(
        [BIN / "ansible-playbook", PLAYBOOK, *more],
        env={
            **inherited,
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "HOME": str(folder),
            **environment,
        },
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    start = done.stdout.find("{")
    assert start >= 0, done.stdout + done.stderr
    return {**json.loads(done.stdout[start:]), "rc": done.returncode}


def items(report: Any, what: str) -> list[str]:
    """ "Task: item" for each item of which ``what`` ("changed", "failed") is true."""
    return [
        f"{task['task']['name']}: {item.get('name', '')} {item.get('msg', '')}".strip()
        for task in report["plays"][0]["tasks"]
        for result in task["hosts"].values()
        for item in result.get("results", [result])
        if item.get(what)
    ]
