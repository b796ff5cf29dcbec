# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who are measured, each run as its users run it.

Time of the two that Ansible runs is that of the task alone, as Ansible itself tells it: with sending and starting the
modules, without the start of ansible-playbook. CPU is that of the whole tree of processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.pvelab.proxmox.tests.bench.fleet import NODE, SNAPSHOT, Fleet
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab

HERE = Path(__file__).resolve().parent
GUESTS = ROOT / "plugins/modules/guests.py"
LIMIT_S = 4 * 3600.0


@dataclass(frozen=True)
class Ran:
    """One run. ``rss_mib`` is the most memory that one process of the client held; 0 where nobody looked."""

    wall_s: float
    cpu_s: float
    rss_mib: float = 0.0
    changed: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a client works: a node, and the token with which it does so."""

    lab: Lab
    token: tuple[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """A token spares each client a login."""
        name, secret = self.token
        return self.lab.environment(PROXMOX_PASSWORD=None, PROXMOX_TOKEN_ID=name, PROXMOX_TOKEN_SECRET=secret)


class Client(Protocol):
    """What is measured."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def loops(self, action: str) -> bool:
        """Whether it starts a module for each guest."""

    def run(self, place: Place, fleet: Fleet, action: str) -> Ran:
        """Carry the action out on the whole fleet. Raises RuntimeError when it fails."""


@dataclass(frozen=True)
class Bare:
    """``bare_client.py`` in a process of its own."""

    workers: int = 8
    name: str = "bare"

    def loops(self, action: str) -> bool:
        return False

    def run(self, place: Place, fleet: Fleet, action: str) -> Ran:
        order = {
            "host": "127.0.0.1",
            "port": place.lab.port,
            "node": NODE,
            "token": f"root@pam!{place.token[0]}={place.token[1]}",
            "action": action,
            "workers": self.workers,
            "guests": {str(vmid): fleet.form(vmid) for vmid in fleet.vmids},
            "drifted": {str(vmid): fleet.repair() for vmid in fleet.drifting},
            "snapname": SNAPSHOT,
        }
        done = subprocess.run(
            [sys.executable, HERE / "bare_client.py"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"bare client, {action}: {done.stderr}")
        told = json.loads(done.stdout)
        return Ran(told["wall_s"], told["cpu_s"], told["rss_mib"])


@dataclass(frozen=True)
class Loop:
    """A task of community.proxmox for each guest, by Ansible's own loop: the way of those who do not have ours.

    Without ``update`` its module takes a guest that exists for one that is right, which is what costs it least, and
    with it, it writes always. So ``unchanged`` is without, and ``drift``, which it cannot see, is ``update`` for all.
    """

    name: str = "loop"

    def loops(self, action: str) -> bool:
        return True

    def run(self, place: Place, fleet: Fleet, action: str) -> Ran:
        module = f"community.proxmox.proxmox_{'snap' if action == 'snapshot' else 'kvm'}"
        return play(place, looped(module, [self._item(fleet, action, vmid) for vmid in fleet.vmids]))

    def _item(self, fleet: Fleet, action: str, vmid: int) -> dict[str, Any]:
        if action == "snapshot":
            return {"vmid": vmid, "snapname": SNAPSHOT, "state": "present"}
        if action == "delete":
            return {"vmid": vmid, "state": "absent"}
        return {**fleet.theirs(vmid), **({"update": True} if action == "drift" else {})}


@dataclass(frozen=True)
class Ours:
    """One task of pvelab.proxmox.guests. Where there is no such module, or none for the action, a loop of ours.

    ``direct`` is what the variable of that name says: whether modules begin as copies of Ansible's worker.
    """

    name: str = "ours"
    direct: bool = True
    whole: bool = field(default_factory=GUESTS.exists)

    def loops(self, action: str) -> bool:
        return "loop" in self.task(Fleet(1), action)

    def run(self, place: Place, fleet: Fleet, action: str) -> Ran:
        return play(place, self.task(fleet, action), pvelab_direct=self.direct)

    def task(self, fleet: Fleet, action: str) -> dict[str, Any]:
        """The task, and how it goes about the list."""
        entries = [self._entry(fleet, action, vmid) for vmid in fleet.vmids]
        if action == "snapshot":
            if self.whole:
                return {"pvelab.proxmox.snapshots": {"guests": fleet.vmids, "snapname": SNAPSHOT}}
            return looped("pvelab.proxmox.snapshot", entries)
        if self.whole:
            return {"pvelab.proxmox.guests": {"guests": entries}}
        return looped("pvelab.proxmox.vm", entries)

    def how(self, action: str) -> str:
        """The task in words."""
        module = next(iter(self.task(Fleet(1), action)))
        return f"a loop of {module}" if self.loops(action) else f"one task of {module}"

    def _entry(self, fleet: Fleet, action: str, vmid: int) -> dict[str, Any]:
        if action == "snapshot":
            return {"vmid": vmid, "snapname": SNAPSHOT}
        if action == "delete":
            return {"vmid": vmid, "state": "absent", "allow_data_loss": True}
        return fleet.ours(vmid)


def looped(module: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """A task for each entry, in the way people write it: each option a field of the item."""
    return {module: {option: f"{{{{ item['{option}'] }}}}" for option in entries[0]}, "loop": entries}


def play(place: Place, task: Mapping[str, Any], **variables: Any) -> Ran:
    """Run one task on this machine. Raises RuntimeError with what Ansible said when it fails."""
    folder = place.lab.folder
    playbook, out, err = folder / "bench.yml", folder / "bench.out", folder / "bench.err"
    told = {"ansible_python_interpreter": sys.executable, **variables}
    here = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": told}
    playbook.write_text(json.dumps([{**here, "tasks": [{"name": "bench", **task}]}]), encoding="utf-8")
    environment = {
        **place.environment,
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LIBRARY": str(HERE / "library"),
    }
    with out.open("wb") as said, err.open("wb") as complained:
        process = subprocess.Popen(
            [BIN / "ansible-playbook", "-i", "localhost,", playbook],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            env=environment,
            cwd=ROOT,
        )
        try:
            _pid, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
    text = out.read_text(encoding="utf-8")
    if process.returncode:
        raise RuntimeError(f"ansible-playbook: {text[-4000:]}{err.read_text(encoding='utf-8')[-2000:]}")
    report = json.loads(text[text.index("{") :])
    ran = _ran(report, loop="loop" in task)
    # Of the largest process that was there, which began with what this one holds.
    peak_mib = used.ru_maxrss / 1024
    return replace(ran, cpu_s=used.ru_utime + used.ru_stime, rss_mib=peak_mib)


def _ran(report: Mapping[str, Any], *, loop: bool) -> Ran:
    """The figures of the one task that a report of the JSON callback knows."""
    task = report["plays"][0]["tasks"][0]
    begin, end = (datetime.fromisoformat(task["task"]["duration"][edge]) for edge in ("start", "end"))
    result = task["hosts"]["localhost"]
    results = result["results"] if loop else [result]
    return Ran((end - begin).total_seconds(), 0.0, changed=sum(bool(item.get("changed")) for item in results))
