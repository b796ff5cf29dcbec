# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a drill, in their order; whatever fails once the way back is armed leads to recovery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from . import canary, faults, guards, residue, results, shell, site, verdict
from .deadman import DeadMan
from .faults.fault import Fault, Skip
from .journal import Journal
from .node import Node
from .plan import Plan
from .recorder import Recorder
from .shell import STOP_FILE, Trouble
from .signs import Sign

LOOK_S = 0.1
# Service is back when canaries have gone on for so long.
STEADY_S = 3.0


class Stopped(Trouble):
    """Somebody wants this drill to end now."""


class Runner:
    """One run. ``stop`` may be set at any time, from a signal handler too."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.journal = plan, Journal(plan)
        self.node = Node(plan.api, plan.node, timeout_s=plan.limits.answer_s)
        self.stop = threading.Event()
        self.recorder = Recorder(plan)
        self.fault: Fault | None = None
        self.deadman: DeadMan | None = None
        self.before: residue.State = {}
        self.signs: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}

    def run(self) -> str:
        """All states; the verdict. Nothing that a drill meets is raised."""
        self.plan.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.journal.begin()
        self.journal.save()
        if not self._ahead():
            return self._report()
        self.recorder = Recorder(self.plan, self._fault.fill)
        self.recorder.start()
        try:
            ready = self._state("baseline", self._baseline) and self._state("arm", self._arm)
            if ready and self._state("inject", self._inject):
                self._state("observe", self._observe)
            if ready:
                self._state("recover", self._recover)
                self._state("verify", self._verify)
        finally:
            self.recorder.stop()
            self._state("disarm", self._disarm)
        return self._report()

    @property
    def _fault(self) -> Fault:
        assert self.fault is not None
        return self.fault

    @property
    def _deadman(self) -> DeadMan:
        assert self.deadman is not None
        return self.deadman

    def _state(self, name: str, do: Callable[[], None]) -> bool:
        began = time.monotonic()
        try:
            do()
        except Stopped as why:
            self.facts["stopped"] = str(why)
            text = str(why)
        except Exception as why:  # whatever it is: what is broken by now has to be undone
            text = _words(why)
            self.facts.setdefault("refused" if name in ("baseline", "arm") else f"failed_{name}", text)
        else:
            self.journal.state(name, began, True)
            return True
        self.recorder.event("runner", f"{name}: {text}")
        self.journal.state(name, began, False, text)
        return False

    def _ahead(self) -> bool:
        """Everything that only looks; whether the drill may go on."""
        began = time.monotonic()
        try:
            found = guards.look(self.plan, self.node)
            self.journal.data["guards"] = found
            guards.refuse(found)
            self.journal.data["host"].update(_versions(self.plan, self.node))
            self.fault = faults.prepare(self.plan, self.node)
            self.before = residue.state(self.plan)
            if held := [line for line in self.before["processes"] if line.endswith("held")]:
                raise Trouble(f"{', '.join(held)} by a signal already; kill -CONT its process first")
            if self.before["fillers"]:
                raise Trouble(f"an earlier drill has left {', '.join(self.before['fillers'])}; run drill_abort first")
        except Skip as why:
            self.facts["skipped"] = str(why)
        except Exception as why:  # nothing is broken yet, and the journal is to say why nothing will be
            self.facts["refused"] = _words(why)
        if self.fault is not None:
            self.journal.data["plan"].update(
                targets=list(self.fault.targets), inject=self.fault.inject, undo=self.fault.undo
            )
        text = str(self.facts.get("skipped") or self.facts.get("refused") or "")
        self.journal.state("preflight", began, not text, text)
        return not text

    # before the fault -----------------------------------------------------------------------------------------------

    def _baseline(self) -> None:
        """What is usual, and that the canaries are heard at all."""
        self._wait(self.plan.limits.baseline_s, lambda: False)
        deaf = [vmid for vmid in self.plan.listed if len(self.recorder.heard[vmid].acks) < 3]
        if deaf:
            raise Trouble(
                f"the canary of guest {', '.join(map(str, deaf))} was not heard three times in "
                f"{self.plan.limits.baseline_s:g} s on {self.plan.place('serial', deaf[0])}: is somebody else at its"
                " console, does it run a canary, is baseline_s long enough for its pace?"
            )
        # The first round trip may be lost, or take longer than all the rest, where agents are slow to answer.
        names = [(pair["from"], pair["to"], f"{pair['from']} {pair['to']}") for pair in self.plan.reach]
        self._wait(self.plan.limits.answer_s, lambda: all(self._reached(name) for _from, _to, name in names))
        for source, address, name in names:
            if not self._reached(name):
                raise Trouble(f"guest {source} does not reach {address} as it is, so nothing could be learned")

    def _reached(self, name: str) -> bool:
        return any(found is not None for _at, found in self.recorder.reached.get(name, []))

    def _arm(self) -> None:
        self.deadman = DeadMan(self.plan, self._fault.undo)
        undo = self.journal.data["undo"]
        undo["unit"] = f"{self.deadman.unit}.timer"
        self.deadman.write()
        self.deadman.rehearse()
        undo["rehearsed"] = True
        if changed := residue.left(self.before, self._but_own(residue.state(self.plan))):
            raise Trouble(
                f"the rehearsal of the way back changed something while nothing was wrong: {'; '.join(changed)}"
            )
        undo["due"] = round(self.deadman.arm(), 3)
        undo["armed"] = round(self.deadman.armed or 0.0, 3)
        guards.refuse(guards.look(self.plan, self.node, guards.AGAIN))

    def _but_own(self, state: residue.State) -> residue.State:
        return {**state, "units": self.before["units"]}

    # the fault ------------------------------------------------------------------------------------------------------

    def _inject(self) -> None:
        self._deadman.prove()
        self.journal.mark("inject", time.monotonic())
        self.journal.save()
        self.recorder.event("runner", "the fault begins")
        code, out, err = shell.attempt(["/bin/sh", "-ec", self._fault.inject], timeout_s=self.plan.limits.observe_s)
        shell.write(self.plan.home / "inject.log", out + err)
        if code:
            raise Trouble(f"the fault could not be made, /bin/sh ended with {code}: {(err or out).strip()}")

    def _observe(self) -> None:
        """Look until all signs are seen, and then for ``hold_s`` more."""
        since = float(self.journal.data["marks"]["inject"])
        self._wait(self.plan.limits.observe_s, lambda: self._seen(since))
        self._wait(self.plan.limits.hold_s, lambda: self._seen(since) and False)

    def _seen(self, since: float) -> bool:
        for sign in self._fault.signs:
            if sign.name not in self.signs and (evidence := sign.test(self.recorder, since)):
                self._note(sign, evidence)
        return all(sign.name in self.signs for sign in self._fault.signs)

    def _note(self, sign: Sign, evidence: str) -> None:
        at = time.monotonic()
        self.signs[sign.name] = {"name": sign.name, "seen": True, "at": round(at, 3), "evidence": evidence}
        self.recorder.event("runner", f"{sign.name}: {evidence}")
        self.journal.mark("detected", at)

    # and back -------------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        self.facts["by_deadman"] = self._deadman.fired()
        self.journal.mark("recover", time.monotonic())
        self.recorder.event("runner", "recovery begins")
        self._deadman.go_back("runner")

    def _verify(self) -> None:
        """Wait until everything is as it was, or say what is not."""
        ends = time.monotonic() + self.plan.limits.verify_s
        while True:
            amiss = self._amiss()
            if not amiss:
                break
            if self._deadman.fired():
                self.facts["by_deadman"] = True
            if time.monotonic() > ends:
                raise Trouble(f"after {self.plan.limits.verify_s:g} s: {'; '.join(amiss)}")
            time.sleep(LOOK_S)
        self.journal.mark("restored", self._service_since())
        self._check_disks()
        self.journal.mark("verified", time.monotonic())
        self.facts["restored"] = True

    def _amiss(self) -> list[str]:
        since = self.journal.data["marks"]["recover"]
        found = []
        for vmid in self.plan.listed:
            acks = [ack.at for ack in self.recorder.heard[vmid].acks if ack.at > since]
            if len(acks) < 2 or acks[-1] - acks[0] < STEADY_S or time.monotonic() - acks[-1] > STEADY_S:
                found.append(f"the canary of guest {vmid} is not back")
        if self.recorder.api is False:
            found.append("the node's API is silent")
        for pair in self.plan.reach:
            tried = [got for at, got in self.recorder.reached.get(f"{pair['from']} {pair['to']}", []) if at > since]
            if not tried or tried[-1] is None:
                found.append(f"guest {pair['from']} does not reach {pair['to']}")
        if not found:
            try:
                self._fault.whole()
            except Trouble as why:
                found.append(str(why))
        return found

    def _service_since(self) -> float:
        """The first acknowledgement of the last victim to come back, or when the API and every line were back."""
        since = self.journal.data["marks"]["recover"]
        if not self._fault.outage:
            return time.monotonic()
        return max(
            next(ack.at for ack in self.recorder.heard[vmid].acks if ack.at > since) for vmid in self.plan.victims
        )

    def _check_disks(self) -> None:
        """Hold each canary's word against its disk."""
        unchecked = []
        for vmid in self.plan.listed:
            heard = self.recorder.heard[vmid]
            acks = list(heard.acks)
            try:
                on_disk = canary.read_disk(site.disk(self.plan, self.node, vmid), self.plan.home)
            except Trouble as why:
                self.recorder.event("canary", str(why), vmid)
                unchecked.append(f"guest {vmid}")
                continue
            self.facts.setdefault("disks", {})[vmid] = canary.judge(acks, on_disk)
        self.facts["unchecked"] = tuple(unchecked)

    def _disarm(self) -> None:
        """Nothing stays armed where all is as it was; else the host tries once more by itself, in its time."""
        after = None
        if self.deadman is not None:
            self.facts["by_deadman"] = self.facts.get("by_deadman") or self.deadman.fired()
            if self.facts.get("restored") or self.journal.data["marks"]["inject"] is None:
                self.deadman.disarm()
            else:
                self.recorder.event("runner", f"{self.deadman.unit}.timer stays armed: not everything is as it was")
                after = self._but_own(residue.state(self.plan))
        after = after or residue.state(self.plan)
        left = residue.left(self.before, after)
        self.journal.data["residue"] = {"checked": list(residue.LOOKS), "left": left}
        self.facts["residue"] = tuple(left)

    def _report(self) -> str:
        began = time.monotonic()
        known = results.gather(self.journal, self.recorder, self.fault, self.signs, self.facts)
        found, because = verdict.judge(known)
        self.journal.state("report", began, True)
        self.journal.end(found, because)
        self.node.close()
        return found

    def _wait(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Wait so long, or until it is enough. Raises Stopped at once where somebody says so."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if self.stop.is_set() or STOP_FILE.exists():
                raise Stopped(f"{STOP_FILE} is there" if STOP_FILE.exists() else "it got a signal to end")
            if self.deadman is not None and self.deadman.fired():
                self.facts["by_deadman"] = True
                raise Trouble("the host has undone the fault by itself, before its time was over")
            if enough():
                return
            self.stop.wait(LOOK_S)


def _versions(plan: Plan, node: Node) -> dict[str, Any]:
    """What the node says that it is, and that its guests run in. Raises Silent."""
    current = node.get(f"/nodes/{{node}}/qemu/{plan.listed[0]}/status/current") if plan.listed else {}
    return {"pve": node.get("/version").get("version"), "qemu": current.get("running-qemu")}


def _words(why: Exception) -> str:
    """What went wrong: Trouble says it itself, of anything else the kind is part of it."""
    return str(why) if isinstance(why, Trouble) else f"{type(why).__name__}: {why}"
