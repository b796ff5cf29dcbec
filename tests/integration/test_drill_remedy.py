# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator does while the fault is still there: whether it helps, and what is said where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration import drill_parts
from ansible_collections.pvelab.proxmox.tests.integration.drill_host import STATES, Host, guest, hosted, states
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, named, package

QUICK = "writes of guest 103 take at most 2 times as long again"


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from hosted(drill, tmp_path, monkeypatch)


def test_a_remedy_that_helps(host: Host) -> None:
    host.slows()
    data = host.run()
    assert data["verdict"] == "passed"
    assert "the remedy helped" in data["because"]
    assert [row["name"] for row in data["states"]] == [*STATES[:5], "relieve", *STATES[5:]]
    assert data["plan"]["relief"] == host.relief
    marks = data["marks"]
    assert marks["detected"] <= marks["relief"] <= named(data["signature"], QUICK)["at"] <= marks["recover"]
    latency = {name: found and found["p50"] for name, found in guest(data, 103)["latency_ms"].items()}
    assert latency == {"baseline": 0.7, "fault": 9.0, "relief": 0.7, "after": 0.7}
    assert named(data["signature"], QUICK)["evidence"] == "1 ms, and 1 ms before the fault, by half"
    assert "relief.log" in {row["name"] for row in data["evidence"]}
    assert list(host.held.iterdir()) == []


def test_a_remedy_that_takes_long_to_bring(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes are slow until it is in place, which says nothing about how they are with it."""
    host.slows()
    begun, waited = host.folder / "begun", host.folder / "waited"
    said = iter(range(30))

    def waiting(seq: int, real: Callable[[int], str] = drill_parts.ack_line) -> str:
        if begun.exists() and next(said, None) is None:
            waited.touch()
        return real(seq)

    monkeypatch.setattr(drill_parts, "ack_line", waiting)
    host.relief = f"touch {begun}; until [ -e {waited} ]; do :; done; {host.relief}"
    found = guest(host.run(), 103)["latency_ms"]
    assert (found["fault"]["p50"], found["relief"]["p50"]) == (9.0, 0.7)
    assert found["fault"]["n"] >= 10


def test_a_remedy_that_does_nothing(host: Host) -> None:
    host.slows()
    host.relief = "true"
    data = host.run(limits={"observe_s": 1})
    assert data["verdict"] == "hypothesis_refuted"
    assert data["because"] == f"The remedy did not help: {QUICK} was not seen."
    assert not named(data["signature"], QUICK)["seen"]
    assert (states(data)["relieve"], guest(data, 103)["latency_ms"]["relief"]["p50"]) == (True, 9.0)
    assert list(host.held.iterdir()) == []


def test_a_fault_that_is_gone_by_itself_is_no_help_of_the_remedy(host: Host) -> None:
    host.slows()
    host.relief = f"rm -f {host.held}/slow"
    data = host.run(limits={"observe_s": 1})
    assert data["verdict"] == "hypothesis_refuted"
    assert guest(data, 103)["latency_ms"]["relief"]["p50"] == 0.7


def test_where_nothing_broke_no_remedy_has_failed(host: Host) -> None:
    host.slows()
    host.inject = "true"
    data = host.run(limits={"observe_s": 0.6})
    assert data["verdict"] == "fault_not_observed"
    assert data["because"] == "The fault did not show: writes of guest 103 take 3 times as long was not seen."


def test_a_remedy_that_cannot_be_brought_is_undone(host: Host) -> None:
    host.slows()
    host.relief += "; echo no such remedy >&2; false"
    data = host.run()
    assert data["verdict"] == "inconclusive"
    assert "ended with 1: no such remedy" in data["because"]
    assert (states(data)["relieve"], states(data)["recover"], states(data)["verify"]) == (False, True, True)
    assert data["marks"]["relief"] is not None
    assert list(host.held.iterdir()) == []


def test_a_remedy_that_was_not_come_to_is_not_said_to_have_failed(host: Host) -> None:
    real = host.drill.runner.Runner._observe

    def broken(runner: Any) -> None:
        real(runner)
        raise LookupError("what nobody has thought of")

    host.patch.setattr(host.drill.runner.Runner, "_observe", broken)
    host.slows()
    data = host.run()
    assert data["verdict"] == "inconclusive"
    assert data["because"].startswith("The fault was seen, but the remedy was not tried: LookupError: what nobody")
    assert ("relieve" in states(data), data["marks"]["relief"]) == (False, None)
    assert not named(data["signature"], QUICK)["seen"]
