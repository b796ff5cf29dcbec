# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's process and of its share of the host."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from .. import signs, site
from ..node import Node
from ..plan import Plan
from .fault import Fault, Prepare, Skip


def stall_s(plan: Plan) -> float:
    """After how long a silent canary counts as standing still."""
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


def out_of_memory(plan: Plan, _node: Node) -> Fault:
    """A guest's control group may use less memory than its QEMU has: the kernel kills it, and nobody else."""
    limit = int(plan.options.get("limit_mib") or 16)
    inject, undo, targets, found = [], [], [], []
    for vmid in plan.victims:
        group = site.cgroup(plan, vmid)
        if not (group / "memory.max").exists():
            raise Skip(f"{group} has no memory controller, so one guest's memory cannot be limited by itself")
        before = {
            name: (group / name).read_text(encoding="ascii").strip() for name in LIMITS if (group / name).exists()
        }
        targets.append(f"control group {group} of guest {vmid}, {limit} MiB")
        if "memory.swap.max" in before:
            inject.append(f"echo 0 > {quote(str(group / 'memory.swap.max'))}")
        inject.append(f"echo {limit << 20} > {quote(str(group / 'memory.max'))}")
        undo += [_set(group / name, value) for name, value in before.items()]
        number = site.running(plan, vmid)
        found += [
            signs.kernel(
                f"the kernel kills guest {vmid} for its control group's sake",
                rf"Memory cgroup out of memory: Killed process {number}\b",
            ),
            signs.gone(vmid),
        ]
    undo.append(plan.restore(*plan.victims))
    return Fault(tuple(targets), "\n".join(inject), "\n".join(undo), tuple(found))


LIMITS = ("memory.max", "memory.swap.max")


def _set(path: Path, value: str) -> str:
    """Write to a file of a control group that may be gone with its guest."""
    return f"[ ! -e {quote(str(path))} ] || echo {quote(value)} > {quote(str(path))}"


def starved(plan: Plan, _node: Node) -> Fault:
    """A guest gets a small share of one processor, as among too many others."""
    share = int(plan.options.get("percent") or 10)
    inject, undo, targets, found = [], [], [], []
    for vmid in plan.victims:
        group = site.cgroup(plan, vmid)
        limit = group / "cpu.max"
        if not limit.exists():
            raise Skip(f"{group} has no cpu controller, so one guest's share cannot be limited by itself")
        before = limit.read_text(encoding="ascii").strip()
        targets.append(f"control group {group} of guest {vmid}, {share} % of a processor")
        inject.append(f"echo {share * 1000} 100000 > {quote(str(limit))}")
        undo.append(_set(limit, before))
        found += [signs.slow_writes(vmid), _throttled(vmid, group)]
    return Fault(tuple(targets), "\n".join(inject), "\n".join(undo), tuple(found), outage=False)


def _throttled(vmid: int, group: Path) -> signs.Sign:
    def count() -> int:
        text = (group / "cpu.stat").read_text(encoding="ascii")
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("nr_throttled ")), 0)

    before = count()

    def test(_seen: object, _since: float) -> str | None:
        try:
            now = count()
        except OSError:
            return None
        return f"held back {now - before} times" if now > before + 5 else None

    return signs.Sign(f"the kernel holds guest {vmid} back", test)


KINDS: dict[str, Prepare] = {
    "guest_hang": hang,
    "guest_crash": crash,
    "guest_out_of_memory": out_of_memory,
    "guest_starved": starved,
}
