# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the way back and the runner while nobody looks: systemd, or where there is none, processes.

Both are asked the same: rehearse, arm, prove, disarm. Whatever of it is not as it should be is Trouble, and then
nothing is broken.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from . import handover, process, shell
from .plan import Plan
from .shell import Trouble

# Whoever undoes something must be served first, also where memory and processors are short.
FIRST = ("--property=OOMScoreAdjust=-1000", "--property=CPUWeight=10000", "--property=IOWeight=10000")
SLACK_S = 5.0
# Where a runner that was begun without systemd says which processes it is: the one that keeps it, and itself.
RUNNER = "runner.process"
STOP_S = 600.0
# How long a process may take until it has said which one it is.
BEGIN_S = 20.0
# What waits, and then becomes the script. It says itself who it is, so no timer runs that no file knows of.
WAIT = """\
import os, sys, time
record, script, who, due = sys.argv[1:]
with open("/proc/self/stat") as file:
    start = file.read().rpartition(")")[2].split()[19]
with open(record + ".new", "w") as file:
    print(os.getpid(), start, file=file)
os.replace(record + ".new", record)
while (left := float(due) - time.monotonic()) > 0:
    time.sleep(min(left, 1.0))
os.execv("/bin/sh", ["/bin/sh", script, who])
"""


class Supervisor(Protocol):
    """What holds the way back of one run."""

    @property
    def name(self) -> str:
        """What would undo the fault, as people know it."""

    def rehearse(self) -> tuple[int, str]:
        """Run the script once, as the timer would, and wait for its end; exit status, and what was said."""

    def arm(self) -> None:
        """Have the script run after ``undo_after_s``, and at the next boot if there is anything left by then."""

    def prove(self) -> float:
        """When it is due (seconds of the monotonic clock). Raises Trouble where it is not armed as was asked."""

    def disarm(self) -> None:
        """Nothing is armed any more. May be called twice, and for what was never armed."""

    def left(self) -> list[str]:
        """What there is of it now."""


def of(plan: Plan, units: Path) -> Supervisor:
    """The one that a plan asks for. ``units`` is where systemd keeps those of the host."""
    return Systemd(plan, units) if plan.supervisor == "systemd" else Processes(plan)


def ready(plan: Plan) -> tuple[str, bool, str, str]:
    """Whether it can hold a way back: what was looked at, whether it is so, what was found, what to do about it."""
    if plan.supervisor == "systemd":
        code, out, _err = shell.attempt(["systemctl", "is-system-running"])
        state = out.strip()
        found = state or f"ended with {code}"
        return "systemd runs", state in ("running", "degraded"), found, "wait until the host is up"
    code, out, err = shell.attempt([plan.python, "-Ic", "import sys; print(sys.version_info >= (3, 11))"])
    fits = out.strip() == "True"
    found = f"{plan.python}, as user {os.getuid()}" if fits else (err or out).strip()[-200:] or f"ended with {code}"
    remedy = f"name a Python of 3.11 or later as drill_python; {plan.python} is none"
    return "processes hold the way back", fits, found, remedy


def stop(home: Path) -> None:
    """Have the runner of a run end, however it was begun, and wait for it: it recovers first. Raises Trouble."""
    lives = process.read(home / RUNNER)
    # The one that keeps the runner comes first. It passes the word on, and ends when all is done.
    for life in lives:
        if not life.end(signal.SIGTERM, STOP_S):
            raise Trouble(f"the runner of {home.name} (process {life.pid}) did not end within {STOP_S:g} s")
    if not lives and shutil.which("systemctl"):
        shell.attempt(["systemctl", "stop", f"pvelab-drill-{home.name}.service"], timeout_s=STOP_S)


class Systemd:
    """A transient timer, and beside it a unit that the next boot starts.

    A way back fails in silence where a unit of its name is there already, and where the host reboots before its timer
    ends; so its units have names of their own, and the boot has one, too."""

    def __init__(self, plan: Plan, units: Path) -> None:
        self.plan, self.units = plan, units
        self.unit = f"pvelab-undo-{plan.run}"
        self.rehearsal = f"pvelab-rehearsal-{plan.run}"
        self.boot_unit = units / f"pvelab-undo-at-boot-{plan.run}.service"

    @property
    def name(self) -> str:
        return f"{self.unit}.timer"

    def rehearse(self) -> tuple[int, str]:
        argv = ["systemd-run", "--quiet", "--wait", "--collect", f"--unit={self.rehearsal}"]
        argv += ["/bin/sh", str(self.plan.undo_script), "rehearsal"]
        code, out, err = shell.attempt(argv, timeout_s=self.plan.limits.recover_s)
        return code, (err or out).strip()

    def arm(self) -> None:
        self._arm_boot()
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={self.unit}"]
        argv += [f"--on-active={self.plan.limits.undo_after_s:g}s", "--timer-property=AccuracySec=1s", *FIRST]
        shell.run([*argv, "/bin/sh", str(self.plan.undo_script), "timer"])

    def begin(self, verb: str) -> None:
        """Have a service do ``run`` or ``resume``, so that nobody's connection is needed. What ends it without its own
        knowledge ends the fault, too."""
        program = f"{self.plan.python} {self.plan.program}"
        settings = {
            "ExecStopPost": f"{program} close {self.plan.file}",
            "TimeoutStopSec": "600",
            "KillMode": "mixed",
            "OOMScoreAdjust": "-900",
            "CPUWeight": "1000",
            "RuntimeMaxSec": "3600",
        }
        argv = ["systemd-run", "--quiet", "--collect", f"--unit=pvelab-drill-{self.plan.run}.service"]
        argv += [f"--description=Drill {self.plan.drill['name']}"]
        argv += [f"--property={name}={value}" for name, value in settings.items()]
        shell.run([*argv, self.plan.python, self.plan.program, verb, str(self.plan.file)])

    def _at_boot(self) -> str:
        """A run that has had its host go down goes on; any other has been cut off, and is undone.

        In a unit apart, because in the end it takes the boot's own unit away: systemd forgets that a unit whose file is
        gone may take its time, and ends it after what is usual, 90 s from its start. One that fails stays to be seen.
        """
        program, file = f"{self.plan.python} {self.plan.program}", self.plan.file
        undone = f"/bin/sh {self.plan.undo_script} boot && {program} undo {file}"
        apart = " ".join(("systemd-run", "--quiet", f"--unit={self.unit}", *FIRST))
        return (
            f"if [ -e {handover.of(self.plan.home)} ]; then exec {program} begin {file}; fi;"
            f" {apart} /bin/sh -c '{undone}' || {{ {undone}; }}"
        )

    def _arm_boot(self) -> None:
        text = "\n".join(
            (
                "[Unit]",
                f"Description=Undo of the drill {self.plan.drill['name']}, run {self.plan.run}",
                f"ConditionPathExists={self.plan.armed_file}",
                "After=local-fs.target network-online.target pveproxy.service pvedaemon.service",
                "Wants=network-online.target",
                "[Service]",
                "Type=oneshot",
                f'ExecStart=/bin/sh -c "{self._at_boot()}"',
                "[Install]",
                "WantedBy=multi-user.target",
                "",
            )
        )
        shell.write(self.boot_unit, text, 0o644)
        # The next boot reads it from the disk. To have systemd read all units now takes a slow host a minute.
        shell.run(["systemctl", "--quiet", "--no-reload", "enable", self.boot_unit.name])

    def prove(self) -> float:
        found = shell.unit(self.name, "ActiveState", "NextElapseUSecMonotonic", "Unit", "LoadState")
        due = seconds(found.get("NextElapseUSecMonotonic", ""))
        left = due - time.monotonic()
        if found.get("ActiveState") != "active" or not 0 < left <= self.plan.limits.undo_after_s + SLACK_S:
            raise Trouble(f"the timer {self.name} is not armed as it should be ({found}), so nothing was broken")
        service = shell.unit(f"{self.unit}.service", "ExecStart")["ExecStart"]
        if str(self.plan.undo_script) not in service:
            raise Trouble(f"the timer {self.name} would run something else than {self.plan.undo_script}: {service}")
        if shell.attempt(["systemctl", "--quiet", "is-enabled", self.boot_unit.name])[0]:
            raise Trouble(f"{self.boot_unit.name} is not enabled, so a reboot would lose the way back")
        return due

    def disarm(self) -> None:
        # A rehearsal that nobody waited for may still be under way.
        shell.attempt(["systemctl", "stop", self.name, f"{self.rehearsal}.service"])
        names = [self.name, f"{self.unit}.service", f"{self.rehearsal}.service"]
        shell.attempt(["systemctl", "reset-failed", *names])
        if self.boot_unit.exists():
            shell.attempt(["systemctl", "--quiet", "--no-reload", "disable", self.boot_unit.name])
            self.boot_unit.unlink(missing_ok=True)
            # After a boot, or where somebody else had all units read meanwhile, systemd knows it.
            if self._listed(self.boot_unit.name):
                shell.run(["systemctl", "daemon-reload"])

    def _listed(self, pattern: str) -> list[str]:
        """The units that systemd knows by such a name."""
        out = shell.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern])
        return [line.split()[0] for line in out.splitlines() if line.strip()]

    def left(self) -> list[str]:
        names = self._listed("pvelab-*")
        files = [path.name for path in self.units.glob("pvelab-undo*")]
        # The runner itself is one, and goes when it ends.
        return [name for name in {*names, *files} if not name.startswith("pvelab-drill-") and self.plan.run in name]


class Processes:
    """A process of its own session that waits, and then is the script. It outlives the runner and the session that has
    begun it, but no reboot; after one the guests that it would put back, processes of the same user, are gone, too."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timer = plan.home / "timer.process"
        self.rehearsal = plan.home / "rehearsal.process"

    @property
    def name(self) -> str:
        return f"process {self._life.pid}" if self._life else "no process"

    @property
    def _life(self) -> process.Life | None:
        return next(iter(process.read(self.timer)), None)

    def _argv(self, record: Path, who: str, due: float) -> list[str]:
        words = [self.plan.python, "-Ic", WAIT, str(record), str(self.plan.undo_script), who]
        return [*words, f"{due:.3f}"]

    def rehearse(self) -> tuple[int, str]:
        argv = self._argv(self.rehearsal, "rehearsal", 0.0)
        code, out, err = shell.attempt(argv, timeout_s=self.plan.limits.recover_s)
        self.rehearsal.unlink(missing_ok=True)
        return code, (err or out).strip()

    def arm(self) -> None:
        if self._life and self._life.alive:
            raise Trouble(f"{self.timer} names a process that lives already, so nothing was broken")
        argv = self._argv(self.timer, "timer", time.monotonic() + self.plan.limits.undo_after_s)
        none, env = subprocess.DEVNULL, {**os.environ, "LC_ALL": "C"}
        try:
            made = subprocess.Popen(
                argv, stdin=none, stdout=none, stderr=none, start_new_session=True, cwd="/", env=env
            )
        except OSError as why:
            raise Trouble(f"{self.plan.python} cannot be run ({why.strerror}), so nothing was broken") from why
        ends = time.monotonic() + BEGIN_S
        while made.poll() is None and time.monotonic() < ends:
            if self._life and self._life.pid == made.pid:
                return
            time.sleep(0.02)
        made.kill()
        raise Trouble(f"the process that was to wait has not written {self.timer}, so nothing was broken")

    def prove(self) -> float:
        life = self._life
        argv = life.argv() if life else []
        if life is None or not argv:
            raise Trouble(f"the process that was to undo the fault does not live ({self.timer}), so nothing was broken")
        if argv[:-1] != self._argv(self.timer, "timer", 0.0)[:-1]:
            raise Trouble(f"process {life.pid} would run something else than {self.plan.undo_script}: {argv[3:]}")
        due = float(argv[-1])
        left = due - time.monotonic()
        if life.held or not 0 < left <= self.plan.limits.undo_after_s + SLACK_S:
            state = "held by a signal" if life.held else f"due in {left:.1f} s"
            raise Trouble(f"process {life.pid} is not armed as it should be ({state}), so nothing was broken")
        return due

    def disarm(self) -> None:
        for record in (self.timer, self.rehearsal):
            for life in process.read(record):
                # One that undoes by now is let come to its end; a rehearsal that nobody waits for is not.
                if WAIT in life.argv() or record == self.rehearsal:
                    life.end(signal.SIGKILL, BEGIN_S, group=True)
                if not life.alive:
                    record.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            Path(f"{self.timer}.new").unlink()

    def left(self) -> list[str]:
        found = [(path.name, life) for path in (self.timer, self.rehearsal) for life in process.read(path)]
        return [f"{name} {life.pid}" for name, life in found if life.alive]


def seconds(text: str) -> float:
    """What systemd writes of a time span ("1h 2min 3.5s"), in seconds; a plain number is in microseconds."""
    if text.isdigit():
        return int(text) / 1e6
    units = {"y": 31557600.0, "month": 2629800.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "min": 60.0}
    units |= {"s": 1.0, "ms": 1e-3, "us": 1e-6}
    total = 0.0
    for word in text.split():
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        if not number or word[len(number) :] not in units:
            return 0.0
        total += float(number) * units[word[len(number) :]]
    return total
