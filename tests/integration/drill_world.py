# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which each drill of the catalogue can be run from its guards to its verdict, though nothing of it is real
but the drill itself: its fault as it is prepared for that host, its texts in a real shell, its signs, its runner.

All that the host has is files below one folder, ``$W``. Stand-ins of the host's programs change them; a world says what
follows from that, as a kernel or a node would. A process that is forked sees the same host as the one it comes from.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.integration import drill_parts
from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import RUN, FakeNode, Package, program
from ansible_collections.pvelab.proxmox.tests.lab import ROOT

CATALOG = yaml_load((ROOT / "roles/drill/vars/main/catalog.yml").read_text(encoding="utf-8"))["_drill_catalog"]
VICTIM, OTHER = 103, 101
TICK_S = 0.04
CONTROL = """#!/bin/sh
cd "$W/units" || exit 1
echo "$*" >> calls
[ "$1" != --quiet ] || shift
[ "$1" != --no-reload ] || shift
verb=$1
shift
case $verb in
show) cat "$2" 2>/dev/null || printf 'LoadState=not-found\\nActiveState=inactive\\nExecStart=\\nMainPID=0\\n' ;;
list-units) for unit in pvelab-*; do [ ! -e "$unit" ] || echo "$unit loaded active waiting something"; done ;;
is-system-running) cat running ;;
enable) : > "enabled.$1" ;;
is-enabled) [ -e "enabled.$1" ] ;;
is-failed) grep -q ActiveState=failed "$1" ;;
disable) rm -f "enabled.$1" ;;
reset-failed) for unit in "$@"; do [ ! -e "$unit" ] || sed -i s/=failed/=inactive/ "$unit"; done ;;
reboot) : > "$W/down" ;;
kill)
    pid=$(sed -n s/MainPID=//p "$2")
    kill -"${1#--signal=}" "$pid" || exit 1
    [ "$1" = --signal=KILL ] || exit 0
    if grep -q Restart=on-failure "$2"; then
        setsid sleep 600 > /dev/null 2>&1 &
        echo $! >> "$W/started"
        sed -i "s/MainPID=.*/MainPID=$!/" "$2"
    else sed -i 's/MainPID=.*/MainPID=0/; s/=active/=failed/' "$2"; fi ;;
stop | start)
    for unit in "$@"; do
        case $verb.$unit in
        start.*) sed -i s/ActiveState=.*/ActiveState=active/ "$unit" ;;
        stop.pvelab-*) [ -e "$unit" ] || exit 5
            rm -rf "$unit" "${unit%.timer}.service" "$W"/cgroup/*/"$unit" ;;
        *) sed -i s/ActiveState=.*/ActiveState=inactive/ "$unit" ;;
        esac
    done ;;
daemon-reload | set-property) ;;
*) exit 64 ;;
esac
"""
# Hogs are units of a world's own; everything else is a timer or a rehearsal.
RUNS = """#!/bin/sh
case "$*" in *--unit=pvelab-hog-*) ;; *) exec "$0.timers" "$@" ;; esac
for word in "$@"; do
    case $word in --unit=*) unit=${word#*=} ;; --slice=*) slice=${word#*=} ;; esac
done
printf 'LoadState=loaded\\nActiveState=active\\n' > "$W/units/$unit"
mkdir -p "$W/cgroup/$slice/$unit"
cd "$W/cgroup/$slice/$unit" || exit 1
printf '1\\n2\\n3\\n4\\n' > cgroup.procs
echo "max 100000" > cpu.max
# The last of them says that it runs.
printf 'anon 1048576000\\n' > memory.stat
"""
# What runs the program: its verbs that ask a node do to this host what that node would.
PYTHON = """#!/bin/sh
if [ "$1" = -m ]; then verb=${2#drill.}; shift 2; else verb=$2; shift 3; fi
case $verb in
%s
restore)
    for vmid in "$@"; do
        if ! grep -q '^State:.[SRDT]' "/proc/$(cat "$W/$vmid.pid")/status" 2>/dev/null; then
            setsid sleep 600 > /dev/null 2>&1 &
            echo $! >> "$W/started"
            echo $! > "$W/$vmid.pid"
        fi
        rm -f "$W/held/$vmid"
    done ;;
begin | undo) : > "$W/$verb" ;;
*) exit 64 ;;
esac
"""


class WorldNode(FakeNode):
    """A node that says of its guests what is so, and lets addresses be pinged from them."""

    def __init__(self, world: World) -> None:
        super().__init__(world.folder)
        self.world = world
        self.command: list[str] = []

    def get(self, path: str, **params: Any) -> Any:
        if self.world.silent():
            raise self.world.drill.node.Silent("no answer")
        if path.endswith("/exec-status"):
            found = self.world.ping(self.command)
            return {"exited": 1, "exitcode": int(found is None), "out-data": f"time={found} ms"}
        if path == "/nodes/{node}/qemu":
            return [self.row(row) for row in self.guests]
        answer = self.world.answer(path, params)
        return super().get(path) if answer is None else answer

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        state = self.world.state(int(row["vmid"]))
        return {**row, "status": "stopped" if state == "stopped" else "running", "qmpstatus": state}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        if path.endswith("/agent/exec"):
            self.command = body["command"]
            return {"pid": 1}
        return self.world.asked(method, path, body)


class World(Host):
    """The host, while it is entered. ``name`` is the drill's."""

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    plan: ClassVar[dict[str, Any]] = {}
    programs: ClassVar[dict[str, str]] = {}
    verbs = ""
    # Files of the package that a world has of its own, and shorter times than those of a real host.
    swift: ClassVar[dict[str, float]] = {
        "recorder.API_EVERY_S": 0.2,
        "recorder.FILL_EVERY_S": 0.4,
        "runner.LOOK_S": 0.08,
    }
    called = "running"

    def __init__(self, drill: Package, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(drill, folder, patch)
        patch.setenv("W", str(folder))
        programs = self.systemd.programs
        (programs / "systemd-run").rename(programs / "systemd-run.timers")
        texts = {"systemctl": CONTROL, "systemd-run": RUNS, "python": PYTHON % self.verbs}
        for name, text in {**texts, **{name: f"#!/bin/sh\n{text}\n" for name, text in self.programs.items()}}.items():
            program(programs / name, text)
        self.node = WorldNode(self)
        for name, value in {**World.swift, **self.swift}.items():
            self.have(name, value)
        self.have("recorder._kernel_log", self._kernel_log)
        (folder / "kmsg").touch()
        for vmid, guest in self.guests.items():
            guest.held, guest.pace_s = partial(self.still, vmid), 0.07
        self._over = threading.Event()
        self._living = threading.Thread(target=self._live)
        self.known_by: list[str] = []
        self.changes: dict[str, Callable[[Any], Any]] = {}
        real = drill.faults.KINDS[self.kind]
        patch.setitem(drill.faults.KINDS, self.kind, lambda plan, node: self._changed(real(plan, node)))
        self.make()

    @property
    def kind(self) -> str:
        return str(CATALOG[self.name]["kind"])

    def have(self, name: str, value: object) -> None:
        """A world's own value of a name of the package."""
        module, _dot, name = name.rpartition(".")
        found = self.drill
        for part in module.split("."):
            found = getattr(found, part)
        self.patch.setattr(found, name, value)

    def put(self, files: Mapping[str, object]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    def read(self, name: str) -> str:
        with suppress(FileNotFoundError):
            return (self.folder / name).read_text().strip()
        return ""

    def says(self, line: str) -> None:
        """The kernel says something."""
        with (self.folder / "kmsg").open("a") as log:
            log.write(f"{line}\n")

    # what a world may have of its own --------------------------------------------------------------------------------

    def make(self) -> None:
        """What is there before the drill."""

    def tick(self) -> None:
        """What follows from how things are; again and again."""

    def still(self, vmid: int) -> bool:
        """Whether a guest stands still."""
        return (self.held / str(vmid)).exists() or self.letter(vmid) in (None, "Z", "T")

    def state(self, vmid: int) -> str:
        """What the node calls a guest."""
        if self.letter(vmid) in (None, "Z"):
            return "stopped"
        return self.called if (self.held / str(vmid)).exists() else "running"

    def slow(self) -> bool:
        """Whether guests' writes take long."""
        return False

    def silent(self) -> bool:
        """Whether the node answers nobody."""
        return False

    def ping(self, _command: list[str]) -> float | None:
        """How long a ping from guest 101 to guest 103 takes, in milliseconds."""
        return 1.0

    def answer(self, _path: str, _params: Mapping[str, Any]) -> Any:
        """What the node answers to a GET that this world knows, or None."""
        return None

    def asked(self, _method: str, _path: str, _body: Any) -> Any:
        """What the node answers to another order."""
        return None

    # ----------------------------------------------------------------------------------------------------------------

    def pid(self, vmid: int) -> int:
        return int(self.read(f"{vmid}.pid") or 0)

    def letter(self, vmid: int) -> str | None:
        return str(found) if (found := self.drill.site.state(self.pid(vmid))) else None

    def __enter__(self) -> World:
        real = drill_parts.ack_line
        self.patch.setattr(drill_parts, "ack_line", lambda seq: real(seq, 9000 if self.slow() else 700))
        for guest in self.guests.values():
            guest.__enter__()
        self._living.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._living.join(10)
        for guest in self.guests.values():
            guest.__exit__()
        self.systemd.end()
        for word in self.read("started").split():
            with suppress(ProcessLookupError):
                os.kill(int(word), signal.SIGKILL)

    def _live(self) -> None:
        while not self._over.wait(TICK_S):
            with suppress(FileNotFoundError):  # it is just being replaced
                self.tick()

    def _kernel_log(self, since: int) -> int:
        """As /dev/kmsg: a line at each read."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.setblocking(False)

        def tell() -> None:
            with (self.folder / "kmsg").open() as log, ours:
                log.seek(0, since)
                while not self._over.wait(TICK_S):
                    for line in log:
                        with suppress(OSError):  # nobody listens any more
                            ours.send(f"4,1,{time.monotonic() * 1e6:.0f},-;{line}".encode())

        threading.Thread(target=tell, daemon=True).start()
        return theirs.detach()

    # the drill ------------------------------------------------------------------------------------------------------

    def _changed(self, fault: Any) -> Any:
        self.known_by = [sign.name for sign in fault.signs]
        return dataclasses.replace(fault, **{name: change(fault) for name, change in self.changes.items()})

    def sabotage(self, **changes: Callable[[Any], Any]) -> None:
        """Have something of the fault be another text."""
        self.changes.update(changes)

    def wanted(self, **limits: float) -> dict[str, Any]:
        """More of a plan than ``drill_parts.wanted`` has: that of this drill."""
        known = CATALOG[self.name]
        words = {name: known[name] for name in ("title", "hypothesis", "blast_radius", "learn", "remedy")}
        options = {"stall_s": 0.5, **known.get("options", {}), **self.options}
        return {
            "drill": {"name": self.name, **words},
            "fault": {"kind": self.kind, "options": options},
            "python": str(self.systemd.programs / "python"),
            "guards": {"confirm": "pve1", "min_available_mib": 1},
            "limits": {
                "baseline_s": 0.4,
                "observe_s": 8,
                "hold_s": 0.6,
                "verify_s": 10,
                "recover_s": 8,
                "answer_s": 5,
                **limits,
            },
            **self.plan,
        }

    def process(self, **limits: float) -> int:
        """Begin a run in a process of its own; its id. What it is to say is in its journal."""
        pid = os.fork()
        if not pid:
            try:
                self.run(**self.wanted(**limits))
            finally:
                os._exit(0)
        self.put({"runner": pid})
        return pid

    def around(self, looks: Mapping[str, Callable[[], list[str]]]) -> dict[str, list[str]]:
        """What a drill could leave behind, as the drill itself looks for it."""
        plan = self.drill.plan.from_json(drill_parts.wanted(self.folder, **self.wanted()))
        found: dict[str, list[str]] = self.drill.residue.state(plan, looks)
        return found

    def file(self) -> Path:
        """The plan's own file."""
        return Path(self.folder / "drills" / RUN / "plan.json")
