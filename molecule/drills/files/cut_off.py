# SPDX-License-Identifier: GPL-3.0-or-later
"""cut_off.py LAB DRILL WHO STATE: run a drill on a lab, and end one of those who take part without a word.

WHO is the controller, the runner or the host; STATE is the one in which it happens, and the lab machine itself waits
for it, so that it is not over by then. What is to be so afterwards, within ten minutes or as long as the drill's way
back may take, and by the host's own doing: nothing runs, nothing is armed, no unit and no filler is left, every guest
runs, and the verdict is what can be said. Ends with 0 where it is so, and says in either case what it has seen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RUNS = "/var/lib/pvelab/drills"
STATES = ["preflight", "baseline", "arm", "inject", "observe", "relieve", "recover", "verify", "disarm", "report"]
# What takes the host down itself goes on after the boot, whoever has made it.
REBOOTS = ("hypervisor_reboot", "hypervisor_crash")
WITHIN_S = 600.0
LEFT = (
    "systemctl list-units --all --plain --no-legend 'pvelab-*' | grep -v guest-watch;"
    " ls /etc/systemd/system | grep pvelab-undo; find / -xdev -name 'pvelab-filler*' -not -path '/proc/*';"
    " ls /srv/files | grep pvelab-filler; zfs list -H -o name | grep pvelab-filler;"
    " lvs --noheadings | grep pvelab-filler; echo seen"
)
# The machine waits, because the line to it is slower than a state may be, and does it at once.
UNTIL = 'until [ -e {journal} ] && {{ {done} || grep -q \'"verdict": "\' {journal}; }}; do sleep 0.05; done; {then}'
KILL = {
    "controller": ":",
    "runner": "systemctl kill --signal=KILL --kill-whom=main pvelab-drill-{run}.service",
    "host": "echo b > /proc/sysrq-trigger",
}


class Lab:
    """A lab machine, as its tool reaches it."""

    def __init__(self, name: str) -> None:
        self.name, self.tool = name, [str(ROOT / "lab/lab"), "--name", name]

    def sh(self, text: str, within_s: float = 120.0) -> str:
        """What a line of shell prints on it; nothing where it is not reached, or goes away meanwhile."""
        argv = [*self.tool, "exec", text]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within_s, check=False
            )
            return done.stdout
        return ""

    def boot(self) -> str:
        """What its boot is called; nothing while it is away."""
        return self.sh("cat /proc/sys/kernel/random/boot_id", 30.0)

    def runs(self) -> set[str]:
        return set(self.sh(f"ls {RUNS} 2>/dev/null").split())

    def journal(self, run: str) -> dict[str, Any]:
        """The journal as far as it is; nothing where there is none, or the machine is away."""
        try:
            found: dict[str, Any] = json.loads(self.sh(f"cat {RUNS}/{run}/journal.json"))
        except ValueError:
            return {}
        return found

    def guests(self) -> dict[int, str]:
        """What the node says of each guest that is no template."""
        argv = [*self.tool, "api", "GET", "/nodes/pve1/qemu", "full=1"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        rows = json.loads(done.stdout) if done.returncode == 0 else []
        return {row["vmid"]: str(row.get("qmpstatus") or row["status"]) for row in rows if not row.get("template")}


def wait_for(what: str, condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """The first true value of ``condition``. Ends the program where there is none in time."""
    ends = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > ends:
            sys.exit(f"cut_off: not within {within_s:.0f} s: {what}")
        time.sleep(0.5)
    return found


def begin(lab: Lab, drill: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    """A controller that runs the drill, and the name of the run."""
    before, log = lab.runs(), Path(folder, "log")
    argv = ["ansible-playbook", "-i", str(ROOT / "inventories/lab"), str(ROOT / "lab/drill.yml")]
    argv += ["-e", f"drill_name={drill}", "-e", f"drill_reports={folder}", "-e", "drill_confirm=pve1"]
    # The inventory knows the machine by this name alone.
    env = {**os.environ, "PVELAB_LAB": lab.name, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    with log.open("wb") as said:
        controller = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=said, stderr=said, start_new_session=True)
    found = wait_for("the run begins", lambda: lab.runs() - before or controller.poll() is not None)
    if controller.poll() is not None:
        sys.exit(f"cut_off: the controller ended with {controller.returncode}: {log.read_text(encoding='utf-8')}")
    return controller, str(min(found))


def cut(lab: Lab, who: str, run: str, state: str, controller: subprocess.Popen[bytes]) -> None:
    """Wait on the machine until the state before has ended, and end whoever it is."""
    journal = f"{RUNS}/{run}/journal.json"
    ended = {name: f'grep -q \'"name": "{name}"\' {journal}' for name in STATES}
    done = ended[STATES[STATES.index(state) - 1]] if state != STATES[0] else ":"
    if state == "recover":
        # Not every drill has a remedy to try.
        done += f' || {{ {ended["observe"]} && grep -q \'"relief": ""\' {journal}; }}'
    text = UNTIL.format(journal=journal, done=f"{{ {done}; }}", then=KILL[who].format(run=run))
    if who == "host":
        # A line to a machine that is gone would not end for minutes.
        boot = lab.boot()
        lab.sh(f"setsid sh -c {quote(text)} > /dev/null 2>&1 < /dev/null &")
        wait_for("the host is up again", lambda: lab.boot() not in ("", boot), 2 * WITHIN_S)
    else:
        lab.sh(text, WITHIN_S)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()


def was_in(journal: dict[str, Any]) -> str:
    """The state that was under way when it was ended, by the states that have come to their end."""
    ended = [row["name"] for row in journal.get("states", [])]
    return f"after {ended[-1]}" if ended else STATES[0]


def over(lab: Lab, run: str, early: bool) -> dict[str, Any]:
    """The journal of a run that is over and not armed; nothing before. A host that goes down ``early``, before anything
    was armed, has nothing to do with it after the boot, and leaves its journal without a verdict."""
    journal = lab.journal(run)
    busy = lab.sh(f"systemctl is-active pvelab-drill-{run}.service; ls {RUNS}/{run}/armed 2>/dev/null; echo seen")
    ended = journal.get("verdict") or (journal and early)
    return journal if ended and busy.split() == ["inactive", "seen"] else {}


def expected(drill: str, who: str, early: bool) -> tuple[str | None, ...]:
    """The host goes on without its controller; without its runner it can only undo, and no longer say what was
    proved."""
    if who == "controller":
        return ("passed",)
    if who == "host" and early:
        return (None,)
    return ("inconclusive", "passed") if drill in REBOOTS else ("inconclusive",)


def main(name: str, drill: str, who: str, state: str) -> int:
    lab, early = Lab(name), who == "host" and STATES.index(state) <= STATES.index("baseline")
    with TemporaryDirectory() as folder:
        controller, run = begin(lab, drill, folder)
        cut(lab, who, run, state, controller)
    began = time.monotonic()
    plan = json.loads(wait_for("its plan can be read", lambda: lab.sh(f"cat {RUNS}/{run}/plan.json")))
    within_s = max(WITHIN_S, float(plan["limits"].get("undo_after_s", 0.0)))
    journal = wait_for(f"{run} is over", lambda: over(lab, run, early), within_s)
    wait_for("every guest runs", lambda: (found := lab.guests()) and set(found.values()) == {"running"})
    left = wait_for("the machine says what is left", lambda: lab.sh(LEFT)).split("\n")[:-1]
    seen = {
        "drill": drill,
        "killed": who,
        "in": state,
        "ended": was_in(journal),
        "over_after_s": round(time.monotonic() - began, 1),
        "verdict": journal["verdict"],
        "because": journal["because"],
        "left": left[:-1],
        "guests": lab.guests(),
    }
    print(json.dumps(seen))
    return 0 if seen["verdict"] in expected(drill, who, early) and left == ["seen"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
