# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorder tells the truth: outages as long as they were, processes that end, and what it has not seen itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_lag import lagging
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    PROGRAMS,
    FakeNode,
    Guest,
    Package,
    package,
    soon,
    wanted,
)
from ansible_collections.pvelab.proxmox.tests.lab import until

GUESTS = {101: (0.5, False), 102: (2.0, False), 103: (2.3, True), 104: (10.0, False)}


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def node(drill: Package, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    made = FakeNode()
    monkeypatch.setattr(drill.recorder, "Node", lambda *_args, **_more: made)
    return made


def recorder(drill: Package, folder: Path, *vmids: int, **more: Any) -> Any:
    plan = drill.plan.from_json({**wanted(folder, **more), "victims": list(vmids), "bystanders": []})
    plan.home.mkdir(parents=True)
    return drill.recorder.Recorder(plan)


def samples(seen: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (seen.plan.home / "samples.jsonl").read_text().splitlines()]


PROGRAM = """
import json, signal, sys
from drill import plan, recorder
wanted = plan.from_json(json.loads(sys.argv[1]))
wanted.home.mkdir(parents=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
seen = recorder.Recorder(wanted)
seen.start()
signal.sigwait([signal.SIGTERM])
seen.stop()
print(json.dumps(seen.summary()))
"""


@contextmanager
def watching(folder: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A recorder in a process of its own, as on a host; SIGTERM ends it, and it says how well it has looked."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(wanted(folder, **more))],
        env={**os.environ, "PYTHONPATH": str(PROGRAMS), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def heard(drill: Package, folder: Path) -> dict[int, list[Any]]:
    """What a recorder has on the disk of its canaries, by their guests."""
    found: dict[int, list[Any]] = {vmid: [] for vmid in GUESTS}
    path = folder / "drills" / wanted(folder)["run"] / "acks.jsonl"
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            vmid, *ack = json.loads(line)
            found[vmid].append(drill.canary.Ack(*ack))
    return found


def test_outages_of_known_length_are_measured_for_next_to_nothing(drill: Package, tmp_path: Path) -> None:
    def all_after(*moments: float) -> bool:
        rows = heard(drill, tmp_path).values()
        return all(len([ack for ack in acks if ack.at > at]) > 5 for acks, at in zip(rows, moments, strict=True))

    with ExitStack() as stack:
        guests = {vmid: Guest(tmp_path, vmid) for vmid in GUESTS}
        for guest in guests.values():
            guest.pace_s = 0.1  # as the real one
            stack.enter_context(guest)
        program = stack.enter_context(watching(tmp_path, victims=list(GUESTS), bystanders=[]))
        soon(lambda: all_after(*[0.0] * len(GUESTS)), "all are heard")
        began = time.monotonic()
        lag = stack.enter_context(lagging())
        for vmid, (seconds, closed) in GUESTS.items():
            guests[vmid].pause(seconds, closed=closed)
        until(lambda: all_after(*[began + seconds for seconds, _closed in GUESTS.values()]), "all are heard again")
        for vmid, acks in heard(drill, tmp_path).items():
            seconds, closed = GUESTS[vmid]
            ((since, ended),) = drill.canary.outages(acks, began, time.monotonic(), 0.4)
            truth = guests[vmid].shut if closed else guests[vmid].silence()
            assert seconds <= truth
            error = abs((ended - since) - truth)
            assert error <= max(0.1 * seconds, 0.15) + max(lag), (vmid, ended - since, truth, max(lag))
        soon(lambda: [len(acks) for acks in heard(drill, tmp_path).values()] == [len(guests[n].sent) for n in GUESTS],
             "each line is heard once")  # fmt: skip
        program.terminate()
        summary = json.loads(program.communicate()[0])
        print(f"the recorder took {100 * summary['cpu_share']:.1f} % of a processor")
    path = tmp_path / "drills" / wanted(tmp_path)["run"] / "samples.jsonl"
    _sampled_ten_times_a_second([json.loads(line) for line in path.read_text().splitlines()], summary)


def _sampled_ten_times_a_second(rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    lasted = rows[-1]["at"] - rows[0]["at"]
    assert lasted > 10
    assert 8 <= (len(rows) - 1) / lasted <= 10.5
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert all(row["guests"]["102"]["alive"] for row in rows)
    assert rows[-1]["mem_available_mib"] > 0
    counted = [row["guests"]["102"]["acks"] for row in rows]
    assert counted == sorted(counted)
    assert counted[-1] > counted[0]
    assert (summary["hz"], summary["samples"], summary["gaps"]) == (10.0, len(rows), [])
    # 1 % alone; a busy machine's processors take longer for the same.
    assert 0 < summary["cpu_share"] < 0.03


def test_a_process_that_ends_is_noted(drill: Package, node: FakeNode, tmp_path: Path) -> None:
    seen = recorder(drill, tmp_path, 103)
    with Guest(tmp_path, 103) as guest:
        seen.start()
        soon(lambda: seen.alive.get(103) == guest.process.pid, "it is seen")
        assert seen.events == []
        guest.kill()
        soon(lambda: seen.alive[103] is None, "it is gone")
        seen.stop()
    (event,) = seen.events
    assert event["text"] == f"process {guest.process.pid} of guest 103 is gone"
    assert (event["guest"], event["source"]) == (103, "runner")
    assert [row["guests"]["103"]["alive"] for row in samples(seen)][:: len(samples(seen)) - 1] == [True, False]


def test_what_the_node_says_is_noted_when_it_changes(
    drill: Package, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill.recorder, "API_EVERY_S", 0.02)
    seen = recorder(drill, tmp_path, 101, 103)
    seen.start()
    soon(lambda: seen.api, "the node answers")
    for status in ("io-error", "unknown", "running", "io-error"):
        node.guests[1]["qmpstatus"] = status
        soon(lambda wanted=status: seen.status[103] == wanted, status)
    rows, node.answers["/nodes/{node}/qemu"] = node.guests, drill.node.Silent("no route")
    soon(lambda: seen.api is False, "the node is silent")
    node.answers["/nodes/{node}/qemu"] = rows
    soon(lambda: seen.api, "the node answers again")
    seen.stop()
    assert [what for _at, what in seen.told] == ["103 io-error", "103 io-error", "silent"]
    assert [row["text"] for row in seen.events][-2:] == ["no route", "the node answers again"]


def test_a_sample_that_is_late_leaves_a_gap(
    drill: Package, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    stands = threading.Event()

    def slow(_plan: object, _vmid: int) -> None:
        if held.is_set() and not stands.is_set():
            stands.set()
            threading.Event().wait(0.8)

    monkeypatch.setattr(drill.site, "pid", slow)
    seen = recorder(drill, tmp_path, 103)
    seen.start()
    soon(lambda: seen.samples > 2, "samples")
    held.set()
    soon(lambda: seen.gaps, "the gap")
    before = seen.samples
    soon(lambda: seen.samples > before, "it goes on")
    seen.stop()
    (gap,) = seen.gaps
    assert 0.75 <= gap["to"] - gap["from"] < 2.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sampler_that_ends_leaves_a_gap_up_to_the_end(
    drill: Package, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recorder(drill, tmp_path, 103)
    seen.start()
    soon(lambda: seen.samples > 2, "samples")

    def broken(_plan: object, _vmid: int) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(drill.site, "pid", broken)
    soon(lambda: not [thread for thread in threading.enumerate() if thread.name == "sample"], "it has ended")
    ends = time.monotonic() + 0.7
    soon(lambda: time.monotonic() > ends, "a time without samples")
    seen.stop()
    (gap,) = seen.gaps
    assert gap["to"] - gap["from"] >= 0.7


def test_what_was_seen_survives_the_runner(tmp_path: Path) -> None:
    path = tmp_path / "drills" / wanted(tmp_path)["run"] / "samples.jsonl"
    with watching(tmp_path):
        seen = soon(lambda: path.exists() and path.read_text().count("\n"), "samples")
        assert seen < 20, "they are not kept back"
        soon(lambda: path.read_text().count("\n") >= 4, "more of them")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) >= 4
    assert set(rows[0]["guests"]) == {"101", "103"}


@pytest.mark.parametrize(
    ("gaps", "blind"),
    [
        ([], 0.0),
        ([(10.0, 13.5)], 3.5),
        ([(1.0, 12.5)], 2.5),
        ([(19.0, 40.0)], 1.0),
        ([(11.0, 12.0), (13.0, 16.0)], 3.0),
        ([(1.0, 9.0), (21.0, 90.0)], 0.0),
    ],
    ids=["none", "inside", "across the beginning", "across the end", "the longest", "outside"],
)
def test_only_what_was_not_seen_between_the_fault_and_its_end_matters(
    drill: Package, gaps: list[tuple[float, float]], blind: float
) -> None:
    seen = SimpleNamespace(gaps=[{"from": since, "to": until} for since, until in gaps])
    marks = {"inject": 10.0, "restored": 20.0, "verified": 30.0}
    assert max(0.0, drill.results._blind(seen, marks)) == blind
    assert drill.results._blind(seen, {**marks, "inject": None}) == 0.0
