# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a script on the host that undoes the fault, rehearsed, armed, and proved to be armed.

A way back fails in silence where its script lies on a file system without the right to execute, so it is read by
/bin/sh. Who runs it when nobody else does: supervisor.py.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from . import shell, supervisor
from .plan import Plan
from .shell import Trouble

UNITS = Path("/etc/systemd/system")


class DeadMan:
    """The way back of one run."""

    def __init__(self, plan: Plan, undo: str) -> None:
        self.plan, self.undo = plan, undo
        self.script, self.log = plan.undo_script, plan.home / "undo.log"
        self.armed_file = plan.armed_file
        self.supervisor = supervisor.of(plan, UNITS)
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
        code, said = self.supervisor.rehearse()
        if code:
            raise Trouble(
                f"the way back ended with {code} when it was rehearsed, so nothing was broken: {said}; see {self.log}"
            )
        if "ended" not in self._said("rehearsal"):
            raise Trouble(f"the rehearsal of the way back did not come to its end; see {self.log}")
        self.rehearsed = True

    def arm(self) -> float:
        """Have it run by itself, and prove that it will; when it is due (seconds of the monotonic clock). Raises
        Trouble where anything of it is not so."""
        shell.write(self.armed_file, self.plan.run + "\n")
        self.supervisor.arm()
        self.armed = time.monotonic()
        return self.prove()

    def prove(self) -> float:
        """When it is due; Trouble where it is not armed as it was asked to be."""
        return self.supervisor.prove()

    def go_back(self, who: str) -> None:
        """Run the script now. Raises Trouble where it fails."""
        argv = ["/bin/sh", str(self.script), who]
        code, out, err = shell.attempt(argv, timeout_s=self.plan.limits.recover_s)
        if code:
            raise Trouble(f"the way back ended with {code}: {(err or out).strip()}; see {self.log}")

    def disarm(self) -> None:
        """Nothing is armed any more. May be called twice. Raises Trouble where systemd cannot be asked."""
        self.armed_file.unlink(missing_ok=True)
        self.supervisor.disarm()

    def left(self) -> list[str]:
        """What there is now of what would run it."""
        return self.supervisor.left()

    def fired(self) -> bool:
        """Whether the timer, or a boot, has run the script."""
        return "began" in self._said("timer") + self._said("boot")

    def _said(self, who: str) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(line for line in lines if line.endswith(f" {who}"))
