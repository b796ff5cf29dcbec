# SPDX-License-Identifier: GPL-3.0-or-later
"""drill run|begin|resume|look|close|undo|abort|restore|ask|vantage|seen|leave PATH: what the role has the host do.

run PLAN              all states of a drill; ends with 0 where it passed, 1 where it did not
begin PLAN            the same, or resume, in a service or processes of their own; does not wait for them
resume PLAN           the states after a fault that has taken the host down
look PLAN             guards and targets and what would be run, as JSON; changes nothing; a PLAN of - is standard input
close PLAN            undo and disarm a run that ended without its own knowledge; nothing to one that ended as it should
undo PLAN             undo and disarm a run, however it ended
abort DIRECTORY       undo whatever any run in it has armed, and disarm it; may be called at any time, and again
restore PLAN VMID…    have guests run again, whatever holds them
ask PLAN METHOD PATH [NAME=VALUE…]
                      ask the node for something, wait for the task that it makes of it, and print what it answers
vantage POST          have a process look at a host from here, as the file POST says
seen POST             print what it has seen, as JSON
leave POST            end it
"""

from __future__ import annotations

import argparse
import fcntl
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import faults, guards, handover, keeper, plan, proofs, shell, supervisor, vantage
from .deadman import UNITS, DeadMan
from .faults.fault import Skip
from .node import Node
from .runner import Runner
from .shell import Trouble

LOCK = Path("/run/pvelab-drill.lock")
RESTORE_S = 90.0
# How a guest is held, and what makes it run; a guest that runs needs nothing.
REMEDIES = {
    "stopped": "start",
    "io-error": "resume",
    "paused": "resume",
    "prelaunch": "resume",
    "internal-error": "reset",
    "guest-panicked": "reset",
}


def run(path: Path, *, again: bool = False) -> int:
    """One drill at a time on this host; ``again``: one that goes on after a boot."""
    wanted = plan.read(path)
    file = wanted.at(LOCK)
    if wanted.base:
        file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"another drill runs on this host ({file} is held); wait for it, or abort it") from None
        runner = Runner(wanted)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_none: runner.end())
        found = runner.resume() if again else runner.run()
    print(f"{found}: {runner.journal.data['because']}")
    return 0 if found == "passed" else 1


def begin(path: Path) -> int:
    """Have it run, or go on after the boot that it has made, while nobody waits."""
    wanted = plan.read(path)
    if wanted.supervisor == "systemd":
        verb = "resume" if handover.pending(wanted.home) else "run"
        supervisor.Systemd(wanted, UNITS).begin(verb)
    else:
        keeper.begin(wanted, path)
    return 0


def look(path: Path) -> int:
    """What would happen."""
    wanted = plan.read(path)
    node = Node(wanted.api, wanted.node, timeout_s=wanted.limits.answer_s)
    found: dict[str, Any] = {
        "guards": [],
        "refused": "",
        "skipped": "",
        "targets": [],
        "inject": "",
        "relief": "",
        "undo": "",
        "signs": [],
    }
    try:
        found["guards"] = guards.look(wanted, node)
        found["refused"] = guards.refusal(found["guards"])
        fault = faults.prepare(wanted, node)
        found.update(targets=list(fault.targets), inject=fault.inject, relief=fault.relief, undo=fault.undo)
        found["signs"] = [sign.name for sign in (*fault.signs, *fault.eased)]
    except Skip as why:
        found["skipped"] = str(why)
    except Trouble as why:
        found["refused"] = "; ".join(text for text in (found["refused"], str(why)) if text)
    print(json.dumps(found))
    return 0


def close(path: Path) -> int:
    """For a runner that has ended: undo and disarm, unless it came to its own end and said what is so, or goes on after
    the boot that it has made, which is under way."""
    waits = handover.pending(path.parent) and _goes_down(path)
    if not waits and _verdict(path.with_name("journal.json")) is None:
        undo(path)
    return 0


def _goes_down(path: Path) -> bool:
    """Whether the host goes down just now, as systemd says. A runner may have been killed right before it said so."""
    if plan.read(path).supervisor != "systemd":
        return False
    # One that cannot say any more how it is is on its way down, too.
    return shell.attempt(["systemctl", "is-system-running"])[1].strip() not in ("running", "degraded")


def undo(path: Path) -> int:
    """Undo and disarm one run that is armed, and have its journal say so where it was cut off."""
    wanted = plan.read(path)
    handover.of(wanted.home).unlink(missing_ok=True)
    deadman = DeadMan(wanted, "")
    armed = deadman.armed_file.exists()
    if armed:
        deadman.go_back("abort")
    # What is armed no more may have been cut off while it was disarmed, or while it was rehearsed.
    deadman.disarm()
    if armed:
        print(f"{wanted.run}: undone and disarmed")
    if wanted.known_by("agent") and _verdict(wanted.home / "journal.json") is None:
        node = Node(wanted.api, wanted.node, timeout_s=wanted.limits.answer_s)
        for line in proofs.clear(wanted, node):
            print(f"{wanted.run}: {line}", file=sys.stderr)
    journal = wanted.home / "journal.json"
    if journal.exists() and _verdict(journal) is None:
        data = json.loads(journal.read_text(encoding="utf-8"))
        because = (
            "It was cut off in the middle; the host has undone the fault, and what it would have proved is not known."
        )
        data.update(verdict="inconclusive", because=because)
        shell.write(journal, json.dumps(data, indent=2) + "\n", 0o644)
    return 0


def _verdict(journal: Path) -> str | None:
    """What a journal has come to; None where there is none yet, or it cannot be read."""
    try:
        found = json.loads(journal.read_bytes())["verdict"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def abort(directory: Path) -> int:
    """The same for every run that is armed or has not come to its end; what had to be undone, a line each."""
    failed = 0
    homes = {path.parent for name in ("armed", "plan.json") for path in directory.glob(f"*/{name}")}
    for home in sorted(home for home in homes if not _over(home)):
        try:
            # A runner that lives recovers by itself when it is told to end, and is waited for.
            supervisor.stop(home)
            undo(home / "plan.json")
        except (Trouble, OSError, ValueError, KeyError) as why:
            failed = 1
            print(f"{home.name}: {why}", file=sys.stderr)
    return failed


def _over(home: Path) -> bool:
    """Whether nothing of a run is armed, and its journal has a verdict: what is not armed yet may be so soon."""
    return not (home / "armed").exists() and _verdict(home / "journal.json") is not None


def restore(path: Path, vmids: list[int]) -> int:
    """Have guests run again; each gets what its state asks for until it runs."""
    wanted = plan.read(path)
    node = Node(wanted.api, wanted.node, timeout_s=wanted.limits.answer_s)
    ends = time.monotonic() + RESTORE_S
    waiting = list(vmids)
    last = ""
    while waiting:
        try:
            waiting, last = _nudge(node, waiting)
        except Trouble as why:
            last = str(why)
        if waiting and time.monotonic() > ends:
            raise Trouble(f"guest {', '.join(map(str, waiting))} did not run again after {RESTORE_S:g} s: {last}")
        if waiting:
            time.sleep(0.3)
    return 0


def _nudge(node: Node, vmids: list[int]) -> tuple[list[int], str]:
    rows = {int(row["vmid"]): row for row in node.get("/nodes/{node}/qemu", full=1)}
    waiting, last = [], ""
    for vmid in vmids:
        state = str(rows.get(vmid, {}).get("qmpstatus") or rows.get(vmid, {}).get("status"))
        if state == "running":
            continue
        waiting.append(vmid)
        last = f"guest {vmid} is {state}"
        if state in REMEDIES:
            node.task("POST", f"/nodes/{{node}}/qemu/{vmid}/status/{REMEDIES[state]}", within_s=60.0)
    return waiting, last


def ask(path: Path, method: str, target: str, *params: str) -> int:
    """Have the node do something; where it makes a task of it, wait for its end."""
    wanted = plan.read(path)
    node = Node(wanted.api, wanted.node, timeout_s=wanted.limits.answer_s)
    body = dict(param.split("=", 1) for param in params)
    print(json.dumps(node.do(method, target, body, within_s=wanted.limits.recover_s)))
    return 0


DO: dict[str, Callable[[Path], int]] = {
    "run": run,
    "begin": begin,
    "resume": lambda path: run(path, again=True),
    "look": look,
    "close": close,
    "undo": undo,
    "abort": abort,
    "vantage": vantage.begin,
    "seen": vantage.seen,
    "leave": vantage.leave,
}
VERBS = (*DO, "restore", "ask")


def main() -> int:
    parser = argparse.ArgumentParser(prog="drill", description="Breaks one thing on this host, and puts it back.")
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("path", type=Path, help="the plan of a run; with abort, the directory of all runs")
    parser.add_argument("words", nargs="*", help="with restore, the guests; with ask, METHOD PATH [NAME=VALUE…]")
    given = parser.parse_args()
    try:
        if given.verb == "restore":
            return restore(given.path, [int(word) for word in given.words])
        if given.verb == "ask":
            return ask(given.path, *given.words)
        return DO[given.verb](given.path)
    except Trouble as why:
        print(f"drill: {why}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
