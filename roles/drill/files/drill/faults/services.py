# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the services through which a node is asked and told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from .. import shell, signs, site
from ..canary import longest_gap
from ..node import Node
from ..plan import Plan
from ..recorder import Recorder
from ..shell import Trouble
from ..signs import Sign
from . import daemons
from .fault import Fault, Prepare, Skip

# In the order in which they are started again. Never pve-guests: to stop it is to stop every guest.
SERVICES = ("pvestatd", "pvedaemon", "pveproxy")
# A canary that is heard so often goes on.
GOES_ON = 3
HOW = ("stop", "kill", "hang")
# For which settings of Restart= systemd starts a service again whose process was ended by SIGKILL.
STARTS_AGAIN = ("always", "on-failure", "on-abnormal", "on-abort")


@dataclass(frozen=True)
class Service:
    """A service that runs: by the name that was asked for, its main process, and what systemd does when that dies."""

    name: str
    pid: int
    restart: str

    @property
    def comes_back(self) -> bool:
        return self.restart in STARTS_AGAIN


def control_plane(plan: Plan, _node: Node) -> Fault:
    """The node's API services are stopped, killed or held; its guests are to notice nothing."""
    how = str(plan.options.get("how") or "stop")
    if how not in HOW:
        raise Trouble(f"the option how of the fault {plan.kind} is {how}, and none of {', '.join(HOW)}")
    if plan.options.get("pid_file"):
        return daemons.broken(plan, how, Path(str(plan.options["pid_file"])))
    asked = [str(name) for name in plan.options.get("services") or SERVICES]
    found = _running(asked)
    if not found:
        raise Skip(f"none of {', '.join(asked)} runs on this host")
    if how != "stop":
        # A signal reaches whatever is in the service's control group, so a guest must not be there.
        for vmid in plan.listed:
            site.cgroup(plan, vmid)
    return {"stop": _stop, "kill": _kill, "hang": _hang}[how](found)


def _running(asked: list[str]) -> list[Service]:
    """Those that run, once each: several names may be one service."""
    found: dict[str, Service] = {}
    for name in asked:
        known = shell.unit(name, "ActiveState", "Id", "MainPID", "Restart")
        if known.get("ActiveState") == "active":
            made = Service(name, int(known.get("MainPID") or 0), known.get("Restart", "no"))
            found.setdefault(known.get("Id") or name, made)
    return list(found.values())


def _names(found: list[Service]) -> str:
    return " ".join(quote(service.name) for service in found)


def _start(found: list[Service]) -> list[str]:
    return [f"systemctl start {quote(service.name)}" for service in found]


def _stop(found: list[Service]) -> Fault:
    return Fault(
        targets=tuple(f"service {service.name}" for service in found),
        inject="systemctl stop " + _names(found[::-1]),
        undo="\n".join(_start(found)),
        signs=(signs.silent(),),
        outage=False,
    )


def _kill(found: list[Service]) -> Fault:
    forget = [
        f"if systemctl --quiet is-failed {quote(service.name)}; then systemctl reset-failed {quote(service.name)}; fi"
        for service in found
    ]
    return Fault(
        targets=tuple(f"service {service.name}, process {service.pid}, Restart={service.restart}" for service in found),
        inject="\n".join(f"systemctl kill --signal=KILL {quote(service.name)}" for service in found[::-1]),
        undo="\n".join([*forget, *_start(found)]),
        signs=tuple(_back(service) if service.comes_back else _dead(service) for service in found),
        outage=False,
    )


def _back(service: Service) -> Sign:
    """systemd has started it again: another process, and nobody had to do anything."""

    def test(_seen: object, _since: float) -> str | None:
        now = _now(service)
        number = int(now.get("MainPID") or 0)
        if number in (0, service.pid) or now.get("ActiveState") != "active":
            return None
        return f"process {service.pid} is gone, {number} is there, Restart={service.restart}"

    return Sign(f"systemd starts {service.name} again by itself", test)


def _dead(service: Service) -> Sign:
    """It has died, and stays so: its unit does not ask for another start."""

    def test(_seen: object, _since: float) -> str | None:
        state = _now(service).get("ActiveState")
        return f"it is {state}, Restart={service.restart}" if state in ("failed", "inactive") else None

    return Sign(f"{service.name} is dead, and systemd leaves it so", test)


def _hang(found: list[Service]) -> Fault:
    go_on = [f"systemctl kill --signal=CONT {quote(service.name)} || true" for service in found]
    return Fault(
        targets=tuple(f"service {service.name}, process {service.pid}" for service in found),
        inject="\n".join(f"systemctl kill --signal=STOP {quote(service.name)}" for service in found[::-1]),
        undo="\n".join([*go_on, *_start(found)]),
        signs=(*(_held(service) for service in found), signs.silent()),
        outage=False,
        looks={"held services": lambda: _letters(found)},
    )


def _held(service: Service) -> Sign:
    """Its process is held, and systemd sees nothing wrong with it."""

    def test(_seen: object, _since: float) -> str | None:
        calls = _now(service).get("ActiveState")
        held = site.state(service.pid) == "T"
        return f"process {service.pid} is in state T, systemd calls it {calls}" if held and calls == "active" else None

    return Sign(f"{service.name} is held, and systemd calls it active", test)


def _letters(found: list[Service]) -> list[str]:
    return [f"{service.name} {'held' if site.state(service.pid) == 'T' else 'not held'}" for service in found]


def _now(service: Service) -> dict[str, str]:
    try:
        return shell.unit(service.name, "ActiveState", "MainPID")
    except Trouble:
        return {}


def goes_on(vmid: int) -> Sign:
    """The guest notices nothing: its canary is heard as before."""

    def test(seen: Recorder, since: float) -> str | None:
        acks = [ack for ack in seen.heard[vmid].acks if ack.at > since]
        if len(acks) < GOES_ON:
            return None
        return f"{len(acks)} acknowledgements in {acks[-1].at - since:.1f} s, the longest gap {longest_gap(acks):.1f} s"

    return Sign(f"guest {vmid} goes on", test)


KINDS: dict[str, Prepare] = {"control_plane_down": control_plane}
