# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault of the host's wall clock."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote

from .. import shell
from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from ..signs import Sign
from .fault import Fault, Prepare, Skip
from .services import goes_on

# Whatever would put the clock right meanwhile.
DAEMONS = ("chrony", "systemd-timesyncd", "ntpsec", "ntp", "openntpd")
# As long as the watchdog of high availability has somebody to watch over, Proxmox VE keeps this directory.
WATCHED = Path("/run/watchdog-mux.active")
SECONDS, LIMIT_S = 45, 60

# The wall clock ahead of the time since the boot, in nanoseconds: of several looks the one that was interrupted least.
# /proc/uptime counts hundredths of a second.
AHEAD = """\
best=
for _look in 1 2 3 4 5 6 7 8 9 10; do
read -r up _idle < /proc/uptime
now=$(date +%s%N)
read -r then _idle < /proc/uptime
up=${up%.*}${up#*.} then=${then%.*}${then#*.}
if [ -z "$best" ] || [ "$((then - up))" -lt "$best" ]; then
best=$((then - up)) ahead=$((now - (up + then) * 5000000))
fi
[ "$best" -gt 2 ] || break
done"""
# By so many nanoseconds; date itself looks and sets, so that nothing passes in between.
STEP = """\
date --utc --set="$(printf '%s%d.%09d' "${step%%[0-9]*}" $((${step#-} / 1000000000)) $((${step#-} % 1000000000)))\
 seconds" > /dev/null"""


def ahead() -> float:
    """By how many seconds the wall clock is ahead of the monotonic one; only a step of the wall clock changes that."""
    return time.time() - time.monotonic()


def skew(plan: Plan, _node: Node) -> Fault:
    """The host's wall clock jumps ahead, and whatever would put it right is stopped."""
    seconds = int(plan.options.get("seconds") or SECONDS)
    if not 1 < seconds < LIMIT_S:
        raise Trouble(
            f"the option seconds of the fault {plan.kind} is {seconds}; a clock is stepped forward by 2 to "
            f"{LIMIT_S - 1} s, for a watchdog counts by it and fences a node that is late by {LIMIT_S} s"
        )
    if shell.unit("corosync", "ActiveState").get("ActiveState") == "active":
        raise Skip("this node is one of a cluster (corosync runs), and nodes whose clocks differ do harm to each other")
    if WATCHED.exists():
        raise Trouble(
            f"the watchdog of high availability is armed ({WATCHED} is there), and would fence this node;"
            " disarm it (ha-manager crm-command disarm-ha freeze), and arm it again afterwards"
        )
    daemons = [name for name in DAEMONS if shell.unit(name, "ActiveState").get("ActiveState") == "active"]
    before = ahead()
    return Fault(
        targets=(f"the host's wall clock, {seconds} s forward", *(f"service {name}" for name in daemons)),
        inject=_inject(plan.home / "clock", seconds, daemons),
        undo=_undo(plan.home / "clock", daemons),
        signs=(_off(before, seconds), *(goes_on(vmid) for vmid in plan.listed)),
        outage=False,
        looks={
            "clock": lambda: [f"{round(ahead() - before)} s off"],
            "time daemons": lambda: [f"{name} {shell.unit(name, 'ActiveState')['ActiveState']}" for name in daemons],
        },
    )


def _inject(kept: Path, seconds: int, daemons: list[str]) -> str:
    stop = [f"systemctl stop {' '.join(map(quote, daemons))}"] if daemons else []
    # What was right is on the disk before anything is wrong. It holds for this boot only.
    keep = f'echo "$ahead $(cat /proc/sys/kernel/random/boot_id)" > {quote(str(kept))}\nsync {quote(str(kept))}'
    return "\n".join([*stop, AHEAD, keep, f"step={seconds}000000000", STEP])


def _undo(kept: Path, daemons: list[str]) -> str:
    name = quote(str(kept))
    lines = [
        "code=0",
        f"if [ -e {name} ]; then",
        f"read -r was boot < {name}",
        # After a boot the clock is the machine's own, which was not set.
        'if [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ]; then',
        AHEAD,
        "step=$((was - ahead))",
        f'if [ "$step" -gt 1000000000 ] || [ "$step" -lt -1000000000 ]; then {STEP} || code=1; fi',
        "fi",
        f'[ "$code" != 0 ] || rm -f {name}',
        "fi",
        *(f"systemctl start {quote(daemon)} || code=1" for daemon in daemons),
        'exit "$code"',
    ]
    return "\n".join(lines)


def _off(before: float, seconds: int) -> Sign:
    """The wall clock has gone ahead of the monotonic one."""

    def test(_seen: object, _since: float) -> str | None:
        off = ahead() - before
        return f"{off:.1f} s ahead of the monotonic clock" if abs(off - seconds) < 1.0 else None

    return Sign(f"the host's wall clock is {seconds} s off", test)


KINDS: dict[str, Prepare] = {"clock_skew": skew}
