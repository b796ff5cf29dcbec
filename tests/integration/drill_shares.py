# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the shares of processors and memory have in common: a host whose kernel and systemd are files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    FakeNode,
    Package,
    Stands,
    takes,
    wanted,
)

UNIT = f"pvelab-hog-{RUN}.service"
MIB = 1 << 10  # in KiB, as the kernel counts
CONTROL = """#!/bin/sh
cd {state}
echo "$*" >> calls
verb=$1
shift
case $verb in
show) [ -e "$2" ] && echo ActiveState=active || echo ActiveState=inactive ;;
stop) [ -e "$1" ] || exit 5
    rm -f "$1"
    case $1 in pvelab-hog-*) rm -rf {slices}/*/"$1" ;; esac ;;
start) : > "$1" ;;
*) exit 64 ;;
esac
"""
# It has the unit's control group, which the kernel would fill by itself.
RUNS = """#!/bin/sh
printf '%s\\n' "$@" > {state}/argv
for word in "$@"; do
    case $word in --unit=*) unit=${{word#*=}} ;; --slice=*) slice=${{word#*=}} ;; esac
done
: > {state}/"$unit"
mkdir -p {slices}/"$slice"/"$unit"
cd {slices}/"$slice"/"$unit"
printf '1\\n2\\n3\\n4\\n' > cgroup.procs
echo "max 100000" > cpu.max
printf 'anon 104857600\\nfile 4096\\n' > memory.stat
"""


class Shares(Stands):
    """A host with a slice of guests, and what its kernel counts: all of it files below the folder."""

    def __init__(self, drill: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(drill, folder, monkeypatch)
        self.patch, self.proc, self.ksm = monkeypatch, folder / "proc", folder / "ksm"
        self.slices = folder / "cgroup"
        self.group = self.slices / "qemu.slice/103.scope"
        self.hog = self.slices / f"qemu.slice/{UNIT}"
        self.node = FakeNode(folder)
        self.processes = {vmid: subprocess.Popen(["sleep", "600"]) for vmid in (101, 103)}
        for path in (self.group, self.slices / "system.slice", self.ksm, self.proc / "pressure", self.proc / "sys/vm"):
            path.mkdir(parents=True)
        for vmid, process in self.processes.items():
            (folder / f"{vmid}.pid").write_text(f"{process.pid}\n")
            (self.proc / f"{process.pid}/task/1").mkdir(parents=True)
            (self.proc / f"{process.pid}/oom_score_adj").write_text("0\n")
        state = {"state": self.systemd.state, "slices": self.slices}
        self.program("systemctl", CONTROL.format(**state))
        self.program("systemd-run", RUNS.format(**state))
        (folder / "drill.py").write_text(
            f"import sys\nopen('{folder}/asked', 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        )
        monkeypatch.setattr(drill.faults.hogs, "PROC", self.proc)
        monkeypatch.setattr(drill.faults.sharing, "KSM", self.ksm)
        monkeypatch.setattr(drill.site, "CGROUPS", self.slices)
        monkeypatch.setattr(drill.site, "cgroup", lambda _plan, _vmid: self.group)
        monkeypatch.setattr(drill.faults.hogs, "processors", lambda: 2)
        (self.group / "cpu.weight").write_text("100\n")
        for name, value in {"run": 1, "pages_to_scan": 200, "sleep_millisecs": 100, "pages_sharing": 0}.items():
            (self.ksm / name).write_text(f"{value}\n")
        for name in ("panic_on_oom", "oom_kill_allocating_task", "overcommit_memory"):
            (self.proc / "sys/vm" / name).write_text("0\n")
        self.count(100.0, waited_ms=1000, pressed_ms=2000)
        self.memory(1024)
        self.has(103, 96)

    def count(self, uptime: float, *, waited_ms: int = 0, pressed_ms: int = 0) -> None:
        """What the kernel has counted at a time: the half of it by each of the victim's two threads."""
        (self.proc / "uptime").write_text(f"{uptime:.2f} 1.00\n")
        (self.proc / "pressure/cpu").write_text(
            f"some avg10=0.00 avg60=0.00 avg300=0.00 total={pressed_ms * 1000}\nfull avg10=0.00 total=77\n"
        )
        for thread in ("1", "2"):
            task = self.proc / f"{self.processes[103].pid}/task/{thread}"
            task.mkdir(exist_ok=True)
            (task / "schedstat").write_text(f"123456789 {waited_ms * 500_000} 42\n")

    def memory(self, available_mib: int, swap_mib: int = 0) -> None:
        (self.proc / "meminfo").write_text(
            f"MemTotal:        {2048 * MIB} kB\nMemFree:  1 kB\nMemAvailable:    {available_mib * MIB} kB\n"
            f"SwapTotal:  {swap_mib * MIB} kB\n"
        )

    def has(self, vmid: int, mib: int, **config: Any) -> None:
        """What a guest's balloon has left it."""
        self.node.answers[f"/nodes/{{node}}/qemu/{vmid}/status/current"] = {"balloon": mib << 20}
        self.node.answers[f"/nodes/{{node}}/qemu/{vmid}/config"] = {"memory": "96", **config}

    def made(self, kind: str, *, more: dict[str, Any] | None = None, **options: Any) -> Any:
        data = {**wanted(self.folder, **(more or {})), "fault": {"kind": kind, "options": options}}
        plan = self.drill.plan.from_json(data)
        plan.home.mkdir(parents=True, exist_ok=True)
        found = self.drill.faults.prepare(plan, self.node)
        for text in (found.inject, found.relief, found.undo):
            takes(text)
        assert found.targets and found.signs and not found.outage
        return found

    @property
    def argv(self) -> list[str]:
        """What systemd was to run, and how."""
        return (self.systemd.state / "argv").read_text().splitlines()

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def looks(self, fault: Any) -> dict[str, list[str]]:
        return {name: look() for name, look in fault.looks.items()}

    def knobs(self) -> tuple[str, ...]:
        return tuple((self.ksm / name).read_text().strip() for name in ("run", "pages_to_scan", "sleep_millisecs"))

    @property
    def skip(self) -> Any:
        """What is raised where this host cannot have a fault."""
        return self.drill.faults.fault.Skip

    @property
    def trouble(self) -> Any:
        return self.drill.shell.Trouble

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
