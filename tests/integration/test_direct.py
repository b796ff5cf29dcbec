# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that begin as a copy of Ansible's worker: the same result as of those that Ansible starts itself."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab

COPIED = "begins as a copy of process"
DISK = {"slot": "scsi0", "storage": "local", "size": "1G", "format": "qcow2"}
GUEST: dict[str, Any] = {"vmid": 300, "name": "same", "memory": 32, "tags": ["one", "two"], "disks": [DISK]}
# None of them changes anything, so they can be carried out twice.
TASKS: dict[str, dict[str, Any]] = {
    "foreseen": {"check_mode": True, "diff": True, "pvelab.proxmox.vm": {**GUEST, "vmid": 301, "name": "new"}},
    "unchanged": {"pvelab.proxmox.vm": GUEST},
    "many": {"check_mode": True, "diff": True, "pvelab.proxmox.guests": {"guests": [GUEST, {"name": "new2"}]}},
    "many that fail": {"pvelab.proxmox.guests": {"guests": [{**GUEST, "pool": "nowhere"}]}},
    "a question": {"pvelab.proxmox.vm_info": {"vmid": 300, "config": True}},
    "a refusal": {"pvelab.proxmox.vm": {"vmid": 300, "state": "absent"}},
    "a wrong option": {"pvelab.proxmox.vm": {"vmid": "three"}},
    "another user": {"environment": {"PROXMOX_PASSWORD": "wrong"}, "pvelab.proxmox.vm": GUEST},
    "a warning": {"check_mode": True, "pvelab.proxmox.vm": {"name": "new", "pool": "nowhere"}},
    "a file beside the playbook": {
        "check_mode": True,
        "pvelab.proxmox.image": {"storage": "local", "src": "tiny.iso"},
    },
}


@pytest.fixture(scope="module", autouse=True)
def guest(lab: Lab) -> None:
    assert lab.module("vm", GUEST)["changed"]


def played(
    lab: Lab, folder: Path, tasks: list[dict[str, Any]], host: str = "localhost", **variables: Any
) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """What Ansible tells while it runs these tasks, each of which may fail, and their results by their names."""
    play = {"hosts": host, "gather_facts": False, "ignore_errors": True, "vars": variables, "tasks": tasks}
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    done = subprocess.run(
        [BIN / "ansible-playbook", "-vvv", playbook, *(["-i", f"{host},"] if host != "localhost" else [])],
        env={**lab.environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told, _brace, report = done.stdout.partition("\n{\n")
    plays = json.loads("{" + report)["plays"]
    return told, {t["task"]["name"]: next(iter(t["hosts"].values())) for p in plays for t in p["tasks"]}


def test_a_task_says_the_same_however_it_begins(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "tiny.iso").write_bytes(b"\0" * 4096)
    tasks = [{"name": name, **task} for name, task in TASKS.items()]
    here, copied = played(lab, tmp_path, tasks)
    apart, started = played(lab, tmp_path, tasks, pvelab_direct=False)
    assert (here.count(COPIED), here.count("Using module file")) == (len(TASKS), 0)
    assert (apart.count(COPIED), apart.count("Using module file")) == (0, len(TASKS))
    assert copied["foreseen"]["changed"] and copied["foreseen"]["diff"]["after"]
    assert "refused the login" in copied["another user"]["msg"]
    assert "three" in copied["a wrong option"]["msg"]
    assert "nowhere" in str(copied["a warning"]["warnings"])
    assert copied["a file beside the playbook"]["changed"], copied["a file beside the playbook"]
    for name in TASKS:
        assert copied[name] == started[name], name


def test_a_delegated_task_of_another_host_begins_here(lab: Lab, tmp_path: Path) -> None:
    play = [{"name": "elsewhere", "delegate_to": "localhost", "pvelab.proxmox.vm": GUEST}]
    told, found = played(lab, tmp_path, play, "web1")
    assert told.count(COPIED) == 1
    assert not found["elsewhere"]["changed"]


def test_a_task_with_a_time_limit_leaves_no_module_behind(lab: Lab, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        node = {"api_host": "127.0.0.1", "api_port": deaf.getsockname()[1]}
        task = {"name": "late", "timeout": 1, "pvelab.proxmox.vm": {**GUEST, **node}}
        before = {p.pid for p in psutil.process_iter()}
        _told, found = played(lab, tmp_path, [task])
        left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
    assert "1 second" in found["late"]["msg"]
    assert [p.info["cmdline"] for p in left if str(tmp_path) in str(p.info["cmdline"])] == []
