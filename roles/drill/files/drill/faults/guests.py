# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's process."""

from __future__ import annotations

from shlex import quote

from .. import signs, site
from ..node import Node, Silent
from ..plan import Plan
from ..recorder import Recorder
from ..shell import Trouble
from .fault import Fault, Prepare


def stall_s(plan: Plan) -> float:
    """After how long a silent canary counts as standing still, and its silence as an outage."""
    return float(plan.options.get("stall_s") or 3.0)


def hang(plan: Plan, _node: Node) -> Fault:
    """QEMU is held by a signal: alive for everybody who looks at processes, dead for everybody who uses it."""
    numbers = {vmid: site.running(plan, vmid) for vmid in plan.victims}
    go_on = [
        # A process that has the number by now and is another one is left alone: a signal to go on does it no harm.
        f'[ "$(cat {quote(str(plan.place("pid", vmid)))} 2>/dev/null)" != {number} ] || kill -CONT {number} || true'
        for vmid, number in numbers.items()
    ]
    found = [
        sign for vmid in plan.victims for sign in (signs.stopped_process(vmid), signs.stalled(vmid, stall_s(plan)))
    ]
    return Fault(
        targets=tuple(f"process {number} of guest {vmid}" for vmid, number in numbers.items()),
        inject="\n".join(f"kill -STOP {number}" for number in numbers.values()),
        undo="\n".join([*go_on, plan.restore(*plan.victims)]),
        signs=tuple(found),
    )


def crash(plan: Plan, _node: Node) -> Fault:
    """QEMU is killed, as an OOM killer or a bug of its own would."""
    numbers = {vmid: site.running(plan, vmid) for vmid in plan.victims}
    return Fault(
        targets=tuple(f"process {number} of guest {vmid}" for vmid, number in numbers.items()),
        inject="\n".join(f"kill -KILL {number}" for number in numbers.values()),
        undo=plan.restore(*plan.victims),
        signs=tuple(sign for vmid in plan.victims for sign in (signs.gone(vmid), signs.status(vmid, "stopped"))),
    )


def panic(plan: Plan, node: Node) -> Fault:
    """The guest's own kernel crashes, which its agent is told to bring about."""
    inject, undo, found = [], ["code=0"], []
    for vmid in plan.victims:
        agent = f"/nodes/{{node}}/qemu/{vmid}/agent"
        try:
            node.ask("POST", f"{agent}/ping")
        except Silent as why:
            raise Trouble(f"guest {vmid} has no agent that answers, and only it can crash its kernel: {why}") from why
        crashed = quote(str(plan.home / f"crashed-{vmid}"))
        how = {"command": "/bin/sh", "input-data": "echo c > /proc/sysrq-trigger"}
        # A kernel that is dead does not let its agent answer any more.
        inject += [f": > {crashed}", f"{plan.ask('POST', f'{agent}/exec', **how)} || true"]
        undo.append(_reset(plan, vmid, crashed))
        found += [signs.stalled(vmid, stall_s(plan)), _called(vmid, stall_s(plan))]
    undo += [f"{plan.restore(*plan.victims)} || code=1", 'exit "$code"']
    targets = tuple(f"kernel of guest {vmid}" for vmid in plan.victims)
    return Fault(targets, "\n".join(inject), "\n".join(undo), tuple(found))


def _reset(plan: Plan, vmid: int, crashed: str) -> str:
    """Press the reset button of a guest that this drill has crashed, unless its agent says that it lives: a kernel may
    have been told to boot again by itself."""
    guest = f"/nodes/{{node}}/qemu/{vmid}"
    ping = plan.ask("POST", f"{guest}/agent/ping")
    reset, resume, start = (plan.ask("POST", f"{guest}/status/{verb}") for verb in ("reset", "resume", "start"))
    # What QEMU has stopped stays stopped when it is reset, and where the guest may not reboot QEMU has ended.
    again = f"{{ {reset} && {resume}; }} || {start}"
    return f"""\
if [ -e {crashed} ]; then
    if {{ {ping} || {again}; }} > /dev/null 2>&1; then rm -f {crashed}; else code=1; fi
fi"""


def _called(vmid: int, after_s: float) -> signs.Sign:
    """What the node says of a guest whose kernel is dead."""
    silent = signs.stalled(vmid, after_s)

    def test(seen: Recorder, since: float) -> str | None:
        state = seen.status.get(vmid)
        return f"qmpstatus {state}" if state in UNAWARE and silent.test(seen, since) else None

    return signs.Sign(f"the node calls guest {vmid} {' or '.join(UNAWARE)}", test)


# Only a guest with a device for it (pvpanic) tells QEMU that its kernel has crashed.
UNAWARE = ("running", "guest-panicked")


KINDS: dict[str, Prepare] = {
    "guest_hang": hang,
    "guest_crash": crash,
    "guest_panic": panic,
}
