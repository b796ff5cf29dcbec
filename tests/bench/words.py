# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be known of the figures: the machine, and what was done how."""

from __future__ import annotations

import os
import platform
import re
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.bench.clients import Ours
from ansible_collections.pvelab.proxmox.tests.bench.fleet import ACTIONS
from ansible_collections.pvelab.proxmox.tests.bench.report import shown

THEIRS = Path(sysconfig.get_path("purelib"), "ansible_collections/community/proxmox")


@dataclass(frozen=True)
class Starts:
    """Seconds on the clock of a task of ours for one guest that is right: its module started by Ansible, and a copy.

    ``import_s``: what ansible-playbook imports of ours before the first such task. ``ansible_cpu_s``: seconds of CPU of
    a playbook without a module. ``lists_s``: of a task whose module takes a list of so many guests and does nothing.
    """

    module_s: float
    copy_s: float
    import_s: float
    ansible_cpu_s: float
    lists_s: Mapping[int, float]


def machine() -> list[str]:
    """Where this runs, as far as it decides about the figures."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.+)$", info, re.MULTILINE)
    manifest = yaml_load((THEIRS / "MANIFEST.json").read_text(encoding="utf-8"))
    memory = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ansible-core", "requests", "proxmoxer"))
    theirs = f"community.proxmox {manifest['collection_info']['version']}"
    processor = model[1] if model else platform.machine()
    return [
        f"- {os.cpu_count()} processors ({processor}), {memory:.0f} GiB, Linux {platform.release()}",
        f"- Python {platform.python_version()}, {libraries}, {theirs}; labnode's state on {_file_system()}",
    ]


def _file_system() -> str:
    """The kind of file system that the nodes keep their state on."""
    folder = Path(tempfile.gettempdir()).resolve()
    mounts = [p for p in psutil.disk_partitions(all=True) if folder.is_relative_to(p.mountpoint)]
    return str(max(mounts, key=lambda mount: len(mount.mountpoint)).fstype)


def meaning(disk_gib: int, workers: int, rounds: int) -> list[str]:
    """Who is measured, at what, and how."""
    disk = f"one qcow2 disk of {disk_gib} GiB on a storage of files" if disk_gib else "no disk"
    ours = Ours()
    ways: dict[str, list[str]] = {}
    for action in ACTIONS:
        ways.setdefault(ours.how(action), []).append(action)
    how = "; ".join(f"{way} ({', '.join(actions)})" for way, actions in ways.items())
    return [
        f"- The guests have {disk} and one network card, and are never started.",
        "- Every client has an API token. For drift every tenth guest was given other memory behind its back.",
        f"- ours: {how}.",
        "- loop: proxmox_kvm, for snapshot proxmox_snap, of community.proxmox in a loop. It takes a guest that exists",
        "  for one that is right, so it cannot see a drift: there it gets `update: true` for all guests.",
        f"- bare: {workers} threads with a connection each. They send what has to be sent and look at nothing else.",
        f"- Seconds: medians of {rounds} rounds. A round goes through all sizes and, for each, all clients in turn,",
        "  with a node of its own for each; what loops ran once. Those of ours and loop are of the task, as Ansible",
        "  tells them, without the start of ansible-playbook.",
        "- CPU: of all processes of a client, and apart from them of labnode with its tools.",
        "- Calls and connections: as labnode counted them.",
        "- peak MiB: of the largest process of a client, ansible-playbook's own among them.",
        "- After each action each guest was looked at. Had a client left something undone, there would be no table.",
    ]


def before(started: Starts) -> list[str]:
    """What goes by before the first request."""
    lists = ", ".join(f"{shown(seconds)} s for {count}" for count, seconds in started.lists_s.items())
    return [
        "A task of ours for one guest that is as it should be:",
        "",
        f"- {shown(started.module_s)} s where Ansible starts its module (`pvelab_direct: false`): that is a start.",
        f"- {shown(started.copy_s)} s where the module begins as a copy of Ansible's worker, as in all tables here.",
        f"  What ansible-playbook imports for that, once and before the task, takes {shown(started.import_s)} s.",
        "",
        f"A module that is handed our list of guests and does nothing takes {lists}.",
        f"ansible-playbook itself, with a task that starts no module, takes {shown(started.ansible_cpu_s)} s of CPU.",
    ]
