# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of memory: of one guest's share, and of the whole host."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from .. import shell, signs, site
from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from . import hogs
from .fault import Fault, Prepare, Skip
from .hogs import Hog, put_back
from .sharing import Sharing

LIMITS = ("memory.max", "memory.swap.max")
# What the kernel's log calls the hog.
COMM = "pvelab-hog"
# They end processes before the kernel does.
OTHERS = ("systemd-oomd", "earlyoom", "nohang")
# Nobody's memory is taken while these are not so: what the host would do instead of ending one process.
CALM = {
    "panic_on_oom": "the kernel would panic instead of ending a process",
    "oom_kill_allocating_task": "the kernel would end whoever asks next instead of the hog",
}
PROTECTED = -900
_AVAILABLE = r"^MemAvailable:\s+(\d+) kB$"
# So often a guest's balloon is asked for.
ASK_EVERY_S = 2.0
# Each page has bytes of its own, so that nothing can share or compress it: the same noise, begun one byte further on
# each time, and new noise once a page would be like another. Large pages are had sooner. What would be too
# much it gives back.
PROGRAM = f"""\
import mmap, os, sys, time
from contextlib import suppress
floor, least, freeze = int(sys.argv[1]) << 10, int(sys.argv[2]) << 10, sys.argv[3]
held, taken, noise = [], 0, b""
open("/proc/self/comm", "w").write("{COMM}")
def available():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
while True:
    now = available()
    if os.path.exists(freeze):
        time.sleep(0.5)
    elif now > floor:
        size = 8 << 20 if now > floor + (64 << 10) else 1 << 20
        held.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        with suppress(OSError):
            held[-1].madvise(mmap.MADV_HUGEPAGE)
        if taken % 4096 == 0:
            noise = memoryview(os.urandom((8 << 20) + 4096))
        held[-1].write(noise[taken % 4096 :][:size])
        taken += 1
    else:
        if now < least and held:
            held.pop().close()
        time.sleep(0.1)
"""


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
        undo += [put_back(group / name, value) for name, value in before.items()]
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


# the whole host ---------------------------------------------------------------------------------------------------


def meminfo(name: str) -> int:
    """A line of /proc/meminfo, in KiB; 0 where it is not there."""
    return _number(rf"^{name}:\s+(\d+) kB$", (hogs.PROC / "meminfo").read_text(encoding="ascii"))


def _calm() -> None:
    """Raises Trouble where the host would not do what a drill of its memory takes for granted."""
    for name, instead in CALM.items():
        if (hogs.PROC / "sys/vm" / name).read_text(encoding="ascii").strip() != "0":
            raise Trouble(f"vm.{name} is set on this host, so {instead}; set it to 0 for this drill")
    for name in OTHERS:
        if shell.unit(name, "ActiveState").get("ActiveState") == "active":
            raise Trouble(f"{name} runs on this host and ends processes by rules of its own; stop it for this drill")


def _hogged(hog: Hog, floor_mib: int, least_mib: int, most_kib: int, freeze: Path) -> str:
    """Shell that starts a hog which takes memory until no more than ``floor_mib`` are available, keeps it there until
    the file ``freeze`` is there, and from then on holds what it has. Of all processes it is the first to be killed."""
    program = hog.plan.home / "hog.py"
    start = hog.start(
        [hog.plan.python, str(program), str(floor_mib), str(least_mib), str(freeze)],
        *(f"MemoryMax={most_kib}K", "MemorySwapMax=0", "OOMScoreAdjust=1000"),
    )
    return f"cat > {quote(str(program))} <<'END'\n{PROGRAM}END\n{start}"


def exhausted(plan: Plan, node: Node) -> Fault:
    """The host becomes short of memory; then its guests give some back, and share what is the same in them."""
    _calm()
    gain, hog, before = int(plan.options.get("gain_mib") or 16), hogs.apart(plan), plan.home / "before-relief.txt"
    floor = max(int(plan.options.get("floor_mib") or 96), plan.guards.min_available_mib)
    available = meminfo("MemAvailable") >> 10
    if available < floor + 2 * gain:
        raise Trouble(
            f"only {available} MiB are available on this host, so there is little to take down to {floor} MiB"
        )
    sharing, balloons = _helps(plan, node, available - floor)
    undo, relief, apart = (sharing.undo, sharing.relief, sharing.apart) if sharing else ([], [], [])
    shared_mib = sharing.shared_kib >> 10 if sharing else 0
    most = meminfo("MemTotal") - (floor << 10)
    return Fault(
        targets=(
            f"{available - floor} MiB of the {available} MiB that are available on the host",
            *(f"the balloon of guest {balloon.vmid}, {balloon.target} MiB of {balloon.mib}" for balloon in balloons),
        ),
        inject="\n".join([*apart, _hogged(hog, floor, plan.guards.min_available_mib, most, before)]),
        undo=hogs.each(hog.stop, *undo, *(balloon.undo for balloon in balloons)),
        signs=(_short(floor, available), _held(hog, (available - floor - shared_mib) // 2)),
        outage=False,
        whole=lambda: _full(balloons),
        relief="\n".join([_measured(hog, before), *relief, *(balloon.relief for balloon in balloons)]),
        eased=(_gained(hog, before, gain), *(balloon.eased for balloon in balloons)),
        looks={"hogs": hog.look, **({"sharing": sharing.look} if sharing else {})},
    )


def _helps(plan: Plan, node: Node, room_mib: int) -> tuple[Sharing | None, list[Balloon]]:
    """What there is to give memory back. Raises Skip where there is nothing, Trouble where it cannot be used."""
    names = [str(name) for name in plan.options.get("relief") or ("ksm", "balloon")]
    if unknown := set(names) - {"ksm", "balloon"}:
        raise Trouble(
            f"the option relief of the fault {plan.kind} has {', '.join(sorted(unknown))}; it knows ksm, balloon"
        )
    sharing = Sharing.found(plan) if "ksm" in names else None
    balloons = _balloons(plan, node) if "balloon" in names else []
    if sharing and sharing.shared_kib >> 10 > room_mib:
        raise Trouble(f"guests share {sharing.shared_kib >> 10} MiB, and this host has no room for a copy for each")
    if not sharing and not balloons:
        raise Skip(f"none of {', '.join(names)} can give memory back: no kernel that shares, no victim with a balloon")
    return sharing, balloons


def _measured(hog: Hog, before: Path) -> str:
    """Shell that notes what the hog has and what is available; from then on the hog holds what it has."""
    stat = quote(str(hog.group / "memory.stat"))
    return f"{{ grep '^anon ' {stat}; grep '^MemAvailable:' {hogs.PROC}/meminfo; }} > {quote(str(before))}"


def _short(floor: int, before: int) -> signs.Sign:
    def test(_seen: object, _since: float) -> str | None:
        now = meminfo("MemAvailable") >> 10
        return f"{now} MiB, and {before} MiB before" if now <= floor else None

    return signs.Sign(f"no more than {floor} MiB of memory are available on the host", test)


def _held(hog: Hog, least_mib: int) -> signs.Sign:
    def test(_seen: object, _since: float) -> str | None:
        now = _current(hog)
        return f"it has {now >> 20} MiB" if now >> 20 >= least_mib else None

    return signs.Sign("it is the hog that has the memory", test)


def _current(hog: Hog) -> int:
    """What it has, in bytes; nothing where it does not run."""
    try:
        return _number(r"^anon (\d+)$", (hog.group / "memory.stat").read_text(encoding="ascii"))
    except OSError:
        return 0


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 0


def _gained(hog: Hog, before: Path, gain_mib: int) -> signs.Sign:
    """More memory is available than right before the relief, while the hog has given nothing back."""

    def test(_seen: object, _since: float) -> str | None:
        try:
            text = before.read_text(encoding="ascii")
        except OSError:
            return None
        held, was = _number(r"^anon (\d+)$", text), _number(_AVAILABLE, text) >> 10
        if not held or not was or _current(hog) < held - (1 << 20):
            return None
        now = meminfo("MemAvailable") >> 10
        return f"{now} MiB instead of {was} MiB" if now - was >= gain_mib else None

    return signs.Sign(f"{gain_mib} MiB more are available, though the hog holds what it has", test)


@dataclass(frozen=True)
class Balloon:
    """A guest's balloon: what it has now and is to give down to, in MiB, and how the shell says so."""

    vmid: int
    mib: int
    target: int
    relief: str
    undo: str
    eased: signs.Sign
    actual: Callable[[], int]


def _balloons(plan: Plan, node: Node) -> list[Balloon]:
    """Those of the victims that have one. Through the monitor, because the configuration is only what Proxmox VE may
    come down to by itself, and is nothing that a drill changes."""
    found = []
    for vmid in plan.victims:
        config = node.get(f"/nodes/{{node}}/qemu/{vmid}/config")
        mib = _actual(node, vmid)
        if str(config.get("balloon", "1")) == "0" or not mib:
            continue
        target = int(config.get("balloon") or mib * int(plan.options.get("balloon_percent") or 75) // 100)
        if target < mib:
            found.append(_balloon(plan, node, vmid, mib, target))
    return found


def _actual(node: Node, vmid: int) -> int:
    return int(node.get(f"/nodes/{{node}}/qemu/{vmid}/status/current").get("balloon") or 0) >> 20


def _balloon(plan: Plan, node: Node, vmid: int, mib: int, target: int) -> Balloon:
    path = f"/nodes/{{node}}/qemu/{vmid}/monitor"
    asked: list[Any] = [0.0]

    def test(_seen: object, since: float) -> str | None:
        if time.monotonic() - asked[0] < ASK_EVERY_S:
            return None
        asked[0] = time.monotonic()
        try:
            now = _actual(node, vmid)
        except Trouble:
            return None
        return f"it has {now} MiB instead of {mib}" if now < mib else None

    return Balloon(
        *(vmid, mib, target),
        relief=f"{plan.ask('POST', path, command=f'balloon {target}')} >/dev/null",
        undo=f"{_another(plan, vmid)} || {plan.ask('POST', path, command=f'balloon {mib}')} >/dev/null",
        eased=signs.Sign(f"guest {vmid} has given memory back", test),
        actual=lambda: _actual(node, vmid),
    )


def _another(plan: Plan, vmid: int) -> str:
    """Shell that is true where a guest runs in another process by now, or not at all. One that was started anew has all
    of its memory, and the usual score; and whoever has its number now is none of the drill's business."""
    return f'[ "$(cat {quote(str(plan.place("pid", vmid)))} 2>/dev/null)" != {site.running(plan, vmid)} ]'


def _full(balloons: list[Balloon]) -> None:
    for balloon in balloons:
        now = balloon.actual()
        if now < balloon.mib:
            raise Trouble(f"guest {balloon.vmid} has {now} MiB of its {balloon.mib} MiB back")


# and no more of it ------------------------------------------------------------------------------------------------


def killed(plan: Plan, _node: Node) -> Fault:
    """Somebody takes all of the host's memory, and the kernel kills it for that, and no guest."""
    _calm()
    if (hogs.PROC / "sys/vm/overcommit_memory").read_text(encoding="ascii").strip() == "2":
        raise Skip("this host promises no more memory than it has (vm.overcommit_memory=2), so nobody has to be killed")
    swap, most = meminfo("SwapTotal") >> 10, int(plan.options.get("max_swap_mib") or 0)
    if swap > most:
        raise Skip(
            f"this host has {swap} MiB of swap and the option max_swap_mib is {most}: before anybody is killed, all"
            " guests would be swapped out, and crawl for minutes"
        )
    hog = hogs.apart(plan)
    scores = {vmid: _score(plan, vmid) for vmid in plan.listed}
    before = {path: path.read_text(encoding="ascii").strip() for path in scores.values()}
    start = _hogged(hog, -1, 0, meminfo("MemTotal") + meminfo("SwapTotal"), plan.home / "never")
    back = (f"{_another(plan, vmid)} || {{ {put_back(path, before[path])}; }}" for vmid, path in scores.items())
    return Fault(
        targets=(f"all {meminfo('MemTotal') >> 10} MiB of the host", "whoever the kernel kills for it"),
        inject="\n".join([*(f"echo {PROTECTED} > {path}" for path in before), start]),
        undo=hogs.each(hog.stop, *back, plan.restore(*plan.listed)),
        signs=(signs.kernel("the kernel kills the hog for the host's sake", _KILLED),),
        outage=False,
        looks={"hogs": hog.look, "oom_score_adj": lambda: _scores(plan)},
    )


def _score(plan: Plan, vmid: int) -> Path:
    return hogs.PROC / f"{site.running(plan, vmid)}/oom_score_adj"


# The log of a control group's own limit says "Memory cgroup out of memory".
_KILLED = rf"\bOut of memory: Killed process \d+ \({COMM}\)"


def _scores(plan: Plan) -> list[str]:
    runs = [vmid for vmid in plan.listed if site.pid(plan, vmid) is not None]
    return [f"{vmid} {_score(plan, vmid).read_text(encoding='ascii').strip()}" for vmid in runs]


KINDS: dict[str, Prepare] = {
    "guest_out_of_memory": out_of_memory,
    "memory_exhaustion": exhausted,
    "host_out_of_memory": killed,
}
