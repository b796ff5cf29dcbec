# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench itself: it counts what is asked, believes no client, and says what it measured and nothing else."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.bench import report
from ansible_collections.pvelab.proxmox.tests.bench.checks import NotDone
from ansible_collections.pvelab.proxmox.tests.bench.clients import Bare, Place, Ran, play
from ansible_collections.pvelab.proxmox.tests.bench.counting import Counter
from ansible_collections.pvelab.proxmox.tests.bench.fleet import ACTIONS, NODE, Fleet
from ansible_collections.pvelab.proxmox.tests.bench.measure import Figure, one_action, place
from ansible_collections.pvelab.proxmox.tests.bench.run import Settings, actions, handed, imported, passes

FLEET = Fleet(5)


@pytest.fixture(scope="module")
def at() -> Iterator[Place]:
    """One node for the tests of this file, which leave it empty."""
    with place() as found:
        yield found


@dataclass(frozen=True)
class Idle:
    """Says that all is well and does nothing, or, at one of the guests, something that nobody asked for."""

    ran: Ran = field(default_factory=lambda: Ran(0.001, 0.001))
    meddles: bool = False
    name: str = "idle"

    def loops(self, action: str) -> bool:
        return False

    def run(self, place: Place, fleet: Fleet, action: str) -> Ran:
        if self.meddles:
            place.lab.api().nodes(NODE).qemu(fleet.vmids[-1]).config.put(description="touched")
        return self.ran


def test_labnode_counts_requests_and_connections(at: Place) -> None:
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    line = http.client.HTTPSConnection("127.0.0.1", at.lab.port, context=unchecked)
    with Counter(at.lab.log, at.lab.pid).counted() as asked:
        for _each in range(205):
            line.request("GET", "/api2/json/access/domains")
            assert line.getresponse().read()
        line.close()
    # A connection serves a hundred, as it does with Proxmox VE.
    assert (asked.calls, asked.connections) == (205, 3)
    assert 0 < asked.cpu_s < 60


def test_every_client_is_held_against_what_is_there(at: Place) -> None:
    bare, idle = Bare(workers=2), Idle()
    found = {}
    for action in ACTIONS:
        if action == "unchanged":
            for liar in (Idle(meddles=True), Idle(Ran(0.001, 0.001, changed=1))):
                with pytest.raises(NotDone):
                    one_action(liar, at, FLEET, action)
        else:
            with pytest.raises(NotDone):
                one_action(idle, at, FLEET, action)
        found[action] = one_action(bare, at, FLEET, action)
        if action == "create":
            # The same guests in our words, or there would be a change.
            told = at.lab.module("vm", FLEET.ours(FLEET.vmids[0]), check=True)
            assert (told.get("msg"), told["changed"]) == (None, False), told
    assert [f.action for f in found.values()] == list(ACTIONS)
    assert all(f.wall_s > 0 and f.cpu_s > 0 and f.rss_mib > 5 and f.node_cpu_s >= 0 for f in found.values())
    # One look at the cluster and one at each guest; a tenth of five, which is one, is repaired.
    assert [found[a].calls for a in ("unchanged", "drift")] == [6, 7]
    # A worker may have done all before the other began: then there is the one connection.
    assert all(1 <= found[a].connections <= bare.workers for a in ("unchanged", "drift")), found
    assert all(found[a].calls >= 11 for a in ("create", "snapshot", "delete"))


def test_handing_a_list_over_takes_longer_the_longer_it_is(at: Place) -> None:
    assert 0 < handed(at, Fleet(1)) < handed(at, Fleet(1000))


def test_importing_takes_its_time() -> None:
    assert 0 < imported() < 30


def test_a_run_tells_of_all_its_processes(at: Place) -> None:
    # What a process held counts for those that it starts: this one may hold more than they do, a new one does not.
    alike: Any = SimpleNamespace(environment=at.environment, lab=SimpleNamespace(folder=at.lab.folder))
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        tasks = [{"takes_a_list": {"guests": [{"name": "x" * size}]}} for size in (1, 20 << 20)]
        small, large = (fresh.submit(play, alike, task).result(timeout=600) for task in tasks)
    assert 20 < small.rss_mib < large.rss_mib - 20
    assert small.wall_s > 0 and small.cpu_s > 0


def figure(count: int, action: str, client: str, wall_s: float) -> Figure:
    return Figure(count, action, client, wall_s, 2 * wall_s, wall_s / 2, count + 2, 8, 40.0)


FIGURES = [
    *(figure(100, "create", "ours", s) for s in (9.0, 2.0, 3.0)),
    figure(100, "create", "bare", 2.0),
    figure(100, "create", "loop", 45.0),
    figure(500, "create", "ours", 18.5),
    figure(100, "unchanged", "ours", 1.0),
    figure(100, "unchanged", "bare", 0.4),
    figure(500, "unchanged", "ours", 3.0),
]


def test_tables_hold_medians_and_leave_empty_what_was_not_measured() -> None:
    middle = report.medians(FIGURES)
    assert middle[100, "create", "ours"].wall_s == 3.0
    rows = {tuple(c.strip() for c in line.split("|")[1:3]): line.split("|")[3:-1] for line in report.times(middle)}
    assert [c.strip() for c in rows["100", "create"]] == ["3.00", "2.00", "45.0", "1.50", "15.0"]
    assert [c.strip() for c in rows["500", "create"]] == ["18.5", "", "", "", ""]
    assert [c.strip() for c in rows["100", "delete"]] == [""] * 5
    assert len(report.costs(middle)) == 2 + len(middle)


@pytest.mark.parametrize(
    ("text", "figure", "met"),
    [
        ("unchanged, 100 guests: calls", 102.0, True),
        ("unchanged, 100 guests: seconds (1.5 of bare, and a start)", 1.0, True),
        ("the same with the start of a module that does nothing, 100 guests", 1.0, False),
        ("unchanged, 500 guests: seconds (1.5 of bare, and a start)", None, None),
        ("100 guests: peak MiB", 40.0, True),
        ("unchanged, 100 guests: loop / ours", None, None),
        ("create, 100 guests: loop / ours", 15.0, True),
        ("create, 100 guests: ours / bare", 1.5, False),
        ("create: 500 guests against 100", 18.5 / 3, False),
        ("unchanged: 500 guests against 100", 3.0, True),
        ("delete: 500 guests against 100", None, None),
    ],
)
def test_figures_are_held_against_what_is_asked(text: str, figure: float | None, met: bool | None) -> None:
    found = {d.text: d for d in report.demands(report.medians(FIGURES), start_s=0.4, idle_s=0.3)}
    assert (found[text].figure, found[text].met) == (figure, met)


def test_a_page_gets_what_was_printed_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(page, "new\n")
    report.write(page, "newer\n")
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        report.write(page, "new\n")


def test_settings_are_those_of_the_command_that_is_printed() -> None:
    assert Settings.read({}).command == "make bench"
    said = {"BENCH_GUESTS": "100 20", "BENCH_ROUNDS": "1", "BENCH_DISK_GIB": "0", "BENCH_LOOP_500": "1"}
    settings = Settings.read(said)
    assert settings.guests == (20, 100) and settings.disk_gib == 0
    assert settings.command == 'make bench BENCH_GUESTS="20 100" BENCH_ROUNDS=1 BENCH_DISK_GIB=0 BENCH_LOOP_500=1'


def test_long_loops_run_once_and_only_when_asked_for() -> None:
    short, long = Settings(), replace(Settings(), long_loops=True)
    loop = next(client for client in short.chosen() if client.name == "loop")
    assert actions(short, loop, 100, 0) == list(ACTIONS)
    assert actions(short, loop, 100, 1) == actions(short, loop, 500, 0) == []
    assert actions(long, loop, 500, 0) == list(ACTIONS)
    assert actions(short, Bare(), 500, 2) == list(ACTIONS)


def test_each_round_measures_all_sizes_side_by_side() -> None:
    order = [(turn, count, client.name) for turn, count, client, _todo in passes(Settings(guests=(20, 500), rounds=2))]
    every = [(20, "bare"), (20, "ours"), (20, "loop"), (500, "bare"), (500, "ours")]
    assert [(count, client) for turn, count, client in order if turn == 0] == every
    assert order[len(every) :] == [(1, count, client) for count, client in every if client != "loop"]
