# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's share of the host's processors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from .. import signs, site
from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from . import hogs
from .fault import Fault, Prepare, Skip
from .hogs import Growth, Hog, put_back

# The weight of a guest for which nobody has set cpuunits, and the greatest that there is.
USUAL, MOST = 100, 10000
HELP = ("weight", "quota", "affinity")


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
        undo.append(put_back(limit, before))
        found += [signs.slow_writes(vmid, _factor(plan)), _throttled(vmid, group)]
    return Fault(tuple(targets), "\n".join(inject), "\n".join(undo), tuple(found), outage=False)


def _factor(plan: Plan) -> float:
    """So many times as long as before the fault take a guest's writes that are slow."""
    return float(plan.options.get("factor") or signs.SLOWER)


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


@dataclass(frozen=True)
class Victim:
    """A guest beside the hogs: its control group's weight before, and how long its threads wait for a processor."""

    vmid: int
    group: Path
    weight: str
    waits: Growth


def overcommitted(plan: Plan, _node: Node) -> Fault:
    """More wants to run than the host has processors, each as heavy as a guest; then the victim is helped."""
    count = int(plan.options.get("hogs") or 4 * hogs.processors())
    hog = hogs.beside(plan)
    victims = [_victim(plan, vmid) for vmid in plan.victims]
    pressure = Growth.watched(plan, "pressure", "pressure/cpu", hogs.some_us)
    pairs = [
        signs.slow_then_quick(
            *(victim.vmid, _factor(plan), float(plan.options.get("again") or 2.0)),
            lambda: len(hog.processes()) >= count,
        )
        for victim in victims
    ]
    loops = f"for _n in {' '.join(map(str, range(count)))}; do while :; do :; done & done; wait"
    start = hog.start(["/bin/sh", "-c", loops], f"CPUWeight={min(MOST, USUAL * count)}")
    notes = [growth.line for growth in (pressure, *(victim.waits for victim in victims))]
    times = float(plan.options.get("waits") or 2.0)
    # Not every kernel counts pressure.
    pressed = (_pressed(pressure),) if pressure.first[1] else ()
    return Fault(
        targets=(
            f"{count} busy processes in {hog.slice}, each as heavy as a guest, on {hogs.processors()} processors",
            *(f"control group {victim.group} of guest {victim.vmid}" for victim in victims),
        ),
        inject="\n".join([*notes, start]),
        undo=hogs.each(hog.stop, *(put_back(victim.group / "cpu.weight", victim.weight) for victim in victims)),
        signs=(
            *(slow for slow, _quick in pairs),
            *(_waits(victim, times) for victim in victims),
            *pressed,
        ),
        outage=False,
        relief=_relief(plan, hog, victims),
        eased=tuple(quick for _slow, quick in pairs),
        looks={"hogs": hog.look, "weights": lambda: [_weight(victim) for victim in victims]},
    )


def _victim(plan: Plan, vmid: int) -> Victim:
    group = site.cgroup(plan, vmid)
    if not (group / "cpu.weight").exists():
        raise Skip(f"{group} has no cpu controller, so a guest cannot be heavier or lighter than another")
    files = f"{site.running(plan, vmid)}/task/*/schedstat"
    waits = Growth.watched(plan, f"waits-{vmid}", files, hogs.waited_ns)
    if not waits.first[1]:
        raise Skip("this host's kernel does not count how long a process waits for a processor (schedstat)")
    return Victim(vmid, group, (group / "cpu.weight").read_text(encoding="ascii").strip(), waits)


def _weight(victim: Victim) -> str:
    path = victim.group / "cpu.weight"
    return f"{victim.vmid} {path.read_text(encoding='ascii').strip() if path.exists() else 'gone'}"


def _relief(plan: Plan, hog: Hog, victims: list[Victim]) -> str:
    """What an operator has: a weight (cpuunits), a limit (cpulimit), or processors of one's own (affinity)."""
    how = str(plan.options.get("relief") or "weight")
    if how not in HELP:
        raise Trouble(f"the option relief of the fault {plan.kind} is {how}, and none of {', '.join(HELP)}")
    if how == "weight":
        return "\n".join(f"echo {MOST} > {quote(str(victim.group / 'cpu.weight'))}" for victim in victims)
    if how == "quota":
        percent = int(plan.options.get("quota_percent") or 25 * hogs.processors())
        return f"echo {percent * 1000} 100000 > {quote(str(hog.group / 'cpu.max'))}"
    if hogs.processors() < 2:
        raise Skip("this host has one processor, so the guest cannot have one of its own")
    return f"for each in $(cat {quote(str(hog.group / 'cgroup.procs'))}); do taskset -p -c 0 $each >/dev/null; done"


def _waits(victim: Victim, times: float) -> signs.Sign:
    """Its threads wait for a processor so many times as long as before, and a thousandth of the time at least."""

    def test(_seen: object, _since: float) -> str | None:
        rates = victim.waits.rates()
        if rates is None:
            return None
        usual, now = (rate / 1e6 for rate in rates)
        return f"{now:.0f} ms a second instead of {usual:.0f} ms" if now >= times * max(usual, 1.0) else None

    return signs.Sign(f"guest {victim.vmid} waits {times:g} times as long for a processor", test)


def _pressed(pressure: Growth) -> signs.Sign:
    """Of the time in which nobody on the host had to wait, half is gone."""

    def test(_seen: object, _since: float) -> str | None:
        rates = pressure.rates()
        if rates is None:
            return None
        usual, now = (min(rate / 1e4, 100.0) for rate in rates)
        if now < (100 + usual) / 2:
            return None
        return f"somebody waits for a processor in {now:.0f} % of the time instead of {usual:.0f} %"

    return signs.Sign("the host is short of processors", test)


KINDS: dict[str, Prepare] = {"guest_starved": starved, "cpu_overcommit": overcommitted}
