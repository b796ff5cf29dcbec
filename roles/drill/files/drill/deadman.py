# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a script on the host that undoes the fault, rehearsed, armed, and proved to be armed.

A way back fails in silence where a unit of its name is there already, where its script lies on a file system without
the right to execute, and where the host reboots before its timer ends. So its units have names of their own, the script
is read by /bin/sh from /var/lib, and beside the timer there is a unit that the next boot starts.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from . import shell
from .plan import Plan
from .shell import Trouble

UNITS = Path("/etc/systemd/system")
# Whoever undoes something must be served first, also where memory and processors are short.
FIRST = ("--property=OOMScoreAdjust=-1000", "--property=CPUWeight=10000", "--property=IOWeight=10000")
SLACK_S = 5.0


class DeadMan:
    """The way back of one run."""

    def __init__(self, plan: Plan, undo: str) -> None:
        self.plan, self.undo = plan, undo
        self.script, self.log = plan.home / "undo.sh", plan.home / "undo.log"
        self.armed_file = plan.home / "armed"
        self.unit = f"pvelab-undo-{plan.run}"
        self.rehearsal = f"pvelab-rehearsal-{plan.run}"
        self.boot_unit = UNITS / f"pvelab-undo-at-boot-{plan.run}.service"
        self.rehearsed = False
        self.armed: float | None = None

    @property
    def text(self) -> str:
        """The script. It may run twice, and with nothing to undo. Its argument says who runs it."""
        return "\n".join(
            (
                "#!/bin/sh",
                f"# Undoes the drill {self.plan.drill['name']} of run {self.plan.run}. May be run by hand, and again.",
                f"exec >> {shlex.quote(str(self.log))} 2>&1",
                "read -r up _idle < /proc/uptime",
                'echo "began $up ${1:-hand}"',
                # The last command says whether it worked; the log has its end either way.
                f"(\n{self.undo.strip() or ':'}\n)",
                "code=$?",
                "read -r up _idle < /proc/uptime",
                'echo "ended $up ${1:-hand}"',
                "exit $code",
                "",
            )
        )

    def write(self) -> None:
        """Have the script on the disk."""
        shell.write(self.script, self.text, 0o700)
        shell.run(["/bin/sh", "-n", str(self.script)])

    def rehearse(self) -> None:
        """Run it while nothing is wrong, as the timer would. Raises Trouble where it fails."""
        name = self.rehearsal
        argv = [
            "systemd-run",
            "--quiet",
            "--wait",
            "--collect",
            f"--unit={name}",
            "/bin/sh",
            str(self.script),
            "rehearsal",
        ]
        code, out, err = shell.attempt(argv, timeout_s=self.plan.limits.recover_s)
        if code:
            raise Trouble(
                f"the way back ended with {code} when it was rehearsed, so nothing was broken: "
                f"{(err or out).strip()}; see {self.log}"
            )
        if "ended" not in self._said("rehearsal"):
            raise Trouble(f"the rehearsal of the way back did not come to its end; see {self.log}")
        self.rehearsed = True

    def arm(self) -> float:
        """Start the timer, have the next boot do the same, and read both back; when it is due (seconds of the
        monotonic clock). Raises Trouble where anything of it is not so."""
        after = self.plan.limits.undo_after_s
        self._arm_boot()
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={self.unit}", f"--on-active={after:g}s"]
        argv += ["--timer-property=AccuracySec=1s", *FIRST, "/bin/sh", str(self.script), "timer"]
        shell.run(argv)
        self.armed = time.monotonic()
        return self.prove()

    def _arm_boot(self) -> None:
        text = "\n".join(
            (
                "[Unit]",
                f"Description=Undo of the drill {self.plan.drill['name']}, run {self.plan.run}",
                f"ConditionPathExists={self.armed_file}",
                "After=local-fs.target network-online.target pveproxy.service pvedaemon.service",
                "Wants=network-online.target",
                "[Service]",
                "Type=oneshot",
                f"ExecStart=/bin/sh {self.script} boot",
                f"ExecStartPost=-/usr/bin/python3 {self.plan.program} undo {self.plan.home / 'plan.json'}",
                "[Install]",
                "WantedBy=multi-user.target",
                "",
            )
        )
        shell.write(self.armed_file, self.plan.run + "\n")
        shell.write(self.boot_unit, text, 0o644)
        shell.run(["systemctl", "daemon-reload"])
        shell.run(["systemctl", "--quiet", "enable", self.boot_unit.name])

    def prove(self) -> float:
        """When the timer is due; Trouble where it is not armed as it was asked to be."""
        timer = f"{self.unit}.timer"
        found = shell.unit(timer, "ActiveState", "NextElapseUSecMonotonic", "Unit", "LoadState")
        due = _seconds(found.get("NextElapseUSecMonotonic", ""))
        left = due - time.monotonic()
        after = self.plan.limits.undo_after_s
        if found.get("ActiveState") != "active" or not 0 < left <= after + SLACK_S:
            raise Trouble(f"the timer {timer} is not armed as it should be ({found}), so nothing was broken")
        service = shell.unit(f"{self.unit}.service", "ExecStart")["ExecStart"]
        if str(self.script) not in service:
            raise Trouble(f"the timer {timer} would run something else than {self.script}: {service}")
        if shell.attempt(["systemctl", "--quiet", "is-enabled", self.boot_unit.name])[0]:
            raise Trouble(f"{self.boot_unit.name} is not enabled, so a reboot would lose the way back")
        return due

    def go_back(self, who: str) -> None:
        """Run the script now. Raises Trouble where it fails."""
        argv = ["/bin/sh", str(self.script), who]
        code, out, err = shell.attempt(argv, timeout_s=self.plan.limits.recover_s)
        if code:
            raise Trouble(f"the way back ended with {code}: {(err or out).strip()}; see {self.log}")

    def disarm(self) -> None:
        """Nothing is armed any more. May be called twice. Raises Trouble where systemd cannot be asked."""
        self.armed_file.unlink(missing_ok=True)
        # A rehearsal that nobody waited for may still be under way.
        shell.attempt(["systemctl", "stop", f"{self.unit}.timer", f"{self.rehearsal}.service"])
        names = [f"{self.unit}.timer", f"{self.unit}.service", f"{self.rehearsal}.service"]
        shell.attempt(["systemctl", "reset-failed", *names])
        if self.boot_unit.exists():
            shell.attempt(["systemctl", "--quiet", "disable", self.boot_unit.name])
            self.boot_unit.unlink(missing_ok=True)
            shell.run(["systemctl", "daemon-reload"])

    def fired(self) -> bool:
        """Whether the timer, or a boot, has run the script."""
        return "began" in self._said("timer") + self._said("boot")

    def _said(self, who: str) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(line for line in lines if line.endswith(f" {who}"))


def _seconds(text: str) -> float:
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
