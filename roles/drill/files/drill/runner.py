# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a drill, in their order; whatever fails once the way back is armed leads to recovery."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import canary, clock, faults, guards, handover, proofs, residue, results, shell, verdict
from .deadman import DeadMan
from .faults.fault import Fault, Skip
from .faults.guests import stall_s
from .journal import Journal
from .node import Node
from .plan import Plan, where
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
        with self._recording():
            if self._state("baseline", self._baseline) and self._state("arm", self._arm):
                self._from(self._state("inject", self._inject))
        return self._report()

    def resume(self) -> str:
        """The states after the fault, where the fault has taken the host down with the runner; the verdict.

        Raises Trouble where this run has not left anything to go on from."""
        left = handover.take(self.plan.home)
        self.journal.data = json.loads(self.journal.path.read_text(encoding="utf-8"))
        self.before, self.facts, self.signs = left["before"], left["facts"], left["signs"]
        self.fault = faults.prepare(self.plan, self.node)
        self.deadman = DeadMan(self.plan, self._fault.undo)
        self.recorder = Recorder(self.plan, self._fault.fill)
        self.recorder.go_on(left["began"], left["events"], left["cursor"])
        self.recorder.event("runner", f"the host is up again, {clock.now() - left['at']:.0f} s after it was to go down")
        with self._recording():
            self.deadman.arm()
            self._from(made=True)
        return self._report()

    def end(self) -> None:
        """End soon, having recovered; or at once, where the host is about to go down and the run goes on afterwards."""
        if handover.pending(self.plan.home):
            os._exit(0)
        self.stop.set()

    def _from(self, made: bool) -> None:
        """What follows the fault, whether it could be made or not."""
        if made and self._state("observe", self._observe) and self._fault.relief and self._shown:
            self._state("relieve", self._relieve)
        self._state("recover", self._recover)
        self._state("verify", self._verify)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        self.recorder.start()
        try:
            yield
        finally:
            self.recorder.stop()
            self._state("disarm", self._disarm)

    @property
    def _fault(self) -> Fault:
        assert self.fault is not None
        return self.fault

    @property
    def _shown(self) -> bool:
        """Whether each sign was seen: where nothing is broken there is nothing to relieve."""
        return all(sign.name in self.signs for sign in self._fault.signs)

    @property
    def _deadman(self) -> DeadMan:
        assert self.deadman is not None
        return self.deadman

    def _state(self, name: str, do: Callable[[], None]) -> bool:
        began = clock.now()
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
        began = clock.now()
        try:
            found = guards.look(self.plan, self.node)
            self.journal.data["guards"] = found
            guards.refuse(found)
            self.journal.data["host"].update(_versions(self.plan, self.node))
            self.fault = faults.prepare(self.plan, self.node)
            self.before = self._around()
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
                targets=list(self.fault.targets),
                inject=self.fault.inject,
                relief=self.fault.relief,
                undo=self.fault.undo,
            )
        text = str(self.facts.get("skipped") or self.facts.get("refused") or "")
        self.journal.state("preflight", began, not text, text)
        return not text

    # before the fault -----------------------------------------------------------------------------------------------

    def _baseline(self) -> None:
        """What is usual, and that the canaries are heard at all."""
        self._wait(self.plan.limits.baseline_s, lambda: False)
        # On a host that is busy a guest may be heard late, and that alone refutes nothing.
        self._wait(self.plan.limits.answer_s, lambda: not proofs.deaf(self.plan, self.recorder.heard))
        if deaf := proofs.deaf(self.plan, self.recorder.heard):
            raise Trouble(deaf)
        # The first round trip may be lost, or take longer than all the rest, where agents are slow to answer.
        names = [(pair["from"], where(pair), f"{pair['from']} {where(pair)}") for pair in self.plan.reach]
        self._wait(self.plan.limits.answer_s, lambda: all(self._reached(name) for _from, _to, name in names))
        for source, address, name in names:
            if not self.recorder.reached.get(name):
                why = self.recorder.untold.get(name, "it was not asked in time")
                raise Trouble(f"the agent of guest {source} does not tell whether it reaches {address}: {why}")
            if not self._reached(name):
                raise Trouble(f"guest {source} does not reach {address} as it is, so nothing could be learned")

    def _reached(self, name: str) -> bool:
        return any(found is not None for _at, found in self.recorder.reached.get(name, []))

    def _arm(self) -> None:
        self.deadman = DeadMan(self.plan, self._fault.undo)
        undo = self.journal.data["undo"]
        self.deadman.write()
        self.deadman.rehearse()
        undo["rehearsed"] = True
        if changed := residue.left(self.before, self._but_own(self._around())):
            raise Trouble(
                f"the rehearsal of the way back changed something while nothing was wrong: {'; '.join(changed)}"
            )
        undo["due"] = round(self.deadman.arm(), 3)
        undo["unit"] = self.deadman.supervisor.name
        undo["armed"] = round(self.deadman.armed or 0.0, 3)
        guards.refuse(guards.look(self.plan, self.node, guards.AGAIN))

    def _around(self) -> residue.State:
        """The host as it is, with what only this fault could leave behind."""
        return residue.state(self.plan, self.fault.looks if self.fault else {})

    def _but_own(self, state: residue.State) -> residue.State:
        return {**state, "units": self.before["units"]}

    # the fault ------------------------------------------------------------------------------------------------------

    def _inject(self) -> None:
        self._deadman.prove()
        self.journal.mark("inject", clock.now())
        self.journal.save()
        self.recorder.event("runner", "the fault begins")
        if self._fault.reboots:
            self._hand_over()
        self._sh(self._fault.inject, "inject.log")
        if self._fault.reboots:
            self._wait(self.plan.limits.observe_s, lambda: False)
            handover.of(self.plan.home).unlink()
            self.facts["stayed"] = True
            raise Trouble(f"the host did not go down within {self.plan.limits.observe_s:g} s")

    def _hand_over(self) -> None:
        known = {"before": self.before, "facts": self.facts, "signs": self.signs}
        seen = {"began": self.recorder.began, "events": self.recorder.events, "cursor": self.recorder.cursor}
        handover.leave(self.plan.home, {**known, **seen})

    def _sh(self, text: str, log: str) -> None:
        code, out, err = shell.attempt(["/bin/sh", "-ec", text], timeout_s=self.plan.limits.observe_s)
        shell.write(self.plan.home / log, out + err)
        if code:
            what = "fault could not be made" if log == "inject.log" else "relief could not be brought"
            raise Trouble(f"the {what}, /bin/sh ended with {code}: {(err or out).strip()}")

    def _observe(self) -> None:
        """Look until all signs are seen, and then for ``hold_s`` more."""
        self._watch(self._fault.signs, float(self.journal.data["marks"]["inject"]))

    def _relieve(self) -> None:
        """Do what an operator would do while the fault is still there, and look whether that helps."""
        self.journal.mark("relief", clock.now())
        self.recorder.event("runner", "relief begins")
        self._sh(self._fault.relief, "relief.log")
        self.facts["relieved"] = clock.now()
        self._watch(self._fault.eased, self.facts["relieved"])

    def _watch(self, signs: tuple[Sign, ...], since: float) -> None:
        self._wait(self.plan.limits.observe_s, lambda: self._seen(signs, since))
        self._wait(self.plan.limits.hold_s, lambda: self._seen(signs, since) and False)

    def _seen(self, signs: tuple[Sign, ...], since: float) -> bool:
        for sign in signs:
            if sign.name not in self.signs and (evidence := sign.test(self.recorder, since)):
                self._note(sign, evidence)
        return all(sign.name in self.signs for sign in signs)

    def _note(self, sign: Sign, evidence: str) -> None:
        at = clock.now()
        self.signs[sign.name] = {"name": sign.name, "seen": True, "at": round(at, 3), "evidence": evidence}
        self.recorder.event("runner", f"{sign.name}: {evidence}")
        if sign in self._fault.signs:
            self.journal.mark("detected", at)

    # and back -------------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        self.facts["by_deadman"] = self._deadman.fired()
        self.journal.mark("recover", clock.now())
        self.recorder.event("runner", "recovery begins")
        self._deadman.go_back("runner")

    def _verify(self) -> None:
        """Wait until everything is as it was, or say what is not."""
        ends = clock.now() + self.plan.limits.verify_s
        while True:
            amiss = self._amiss()
            if not amiss:
                break
            if self._deadman.fired():
                self.facts["by_deadman"] = True
            if clock.now() > ends:
                raise Trouble(f"after {self.plan.limits.verify_s:g} s: {'; '.join(amiss)}")
            time.sleep(LOOK_S)
        self.journal.mark("restored", self._service_since())
        self._check_disks()
        self.journal.mark("verified", clock.now())
        self.facts["restored"] = True

    def _amiss(self) -> list[str]:
        since = self.journal.data["marks"]["recover"]
        found = []
        for vmid in self.plan.listed:
            acks = [ack.at for ack in self.recorder.heard[vmid].acks if ack.at > since]
            steady_s = max(STEADY_S, 2 * self.plan.pulse(vmid).every_s)
            if len(acks) < 2 or acks[-1] - acks[0] < steady_s or clock.now() - acks[-1] > steady_s:
                found.append(f"the canary of guest {vmid} is not back")
        # An answer from before says nothing: a node that is slow is asked seldom.
        if self.recorder.answered <= since:
            found.append("the node's API is silent")
        for pair in self.plan.reach:
            name = f"{pair['from']} {where(pair)}"
            tried = [got for at, got in self.recorder.reached.get(name, []) if at > since]
            if not tried or tried[-1] is None:
                found.append(f"guest {pair['from']} does not reach {where(pair)}")
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
            return clock.now()
        return max(self._back_since(vmid, since) for vmid in self.plan.victims)

    def _back_since(self, vmid: int, since: float) -> float:
        """When a guest's last outage ended, which may be before anybody did something about it."""
        acks = self.recorder.heard[vmid].acks
        found = canary.outages(acks, self.journal.data["marks"]["inject"], clock.now(), stall_s(self.plan))
        ended = found[-1][1] if found else None
        return next(ack.at for ack in acks if ack.at > since) if ended is None else ended

    def _check_disks(self) -> None:
        """Hold each canary's word against its disk."""
        self.facts["disks"], said = proofs.disks(self.plan, self.node, self.recorder.heard)
        self.facts["unchecked"] = tuple(f"guest {vmid}" for vmid in said)
        for vmid, text in said.items():
            self.recorder.event("canary", text, vmid)

    def _disarm(self) -> None:
        """Nothing stays armed where all is as it was; else the host tries once more by itself, in its time."""
        after = None
        if self.deadman is not None:
            self.facts["by_deadman"] = self.facts.get("by_deadman") or self.deadman.fired()
            if self.facts.get("restored") or self.journal.data["marks"]["inject"] is None:
                self.deadman.disarm()
            else:
                self.recorder.event("runner", f"{self.deadman.supervisor.name} stays armed: not all is as it was")
                after = self._but_own(self._around())
        after = after or self._around()
        left = [*residue.left(self.before, after), *proofs.clear(self.plan, self.node, self.recorder.heard)]
        self.journal.data["residue"] = {"checked": list(after), "left": left}
        self.facts["residue"] = tuple(left)

    def _report(self) -> str:
        began = clock.now()
        known = results.gather(self.journal, self.recorder, self.fault, self.signs, self.facts)
        found, because = verdict.judge(known)
        self.journal.state("report", began, True)
        self.journal.end(found, because)
        self.node.close()
        return found

    def _wait(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Wait so long, or until it is enough. Raises Stopped at once where somebody says so."""
        ends = clock.now() + seconds
        while clock.now() < ends:
            if found := [file for file in (STOP_FILE, self.plan.at(STOP_FILE)) if file.exists()]:
                raise Stopped(f"{found[0]} is there")
            if self.stop.is_set():
                raise Stopped("it got a signal to end")
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
