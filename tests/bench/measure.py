# SPDX-License-Identifier: GPL-3.0-or-later
"""One pass of one client over the life of a fleet: each action timed, counted, and then looked after."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.pvelab.proxmox.tests.bench.checks import Checks, NotDone
from ansible_collections.pvelab.proxmox.tests.bench.clients import Client, Place
from ansible_collections.pvelab.proxmox.tests.bench.counting import Counter
from ansible_collections.pvelab.proxmox.tests.bench.fleet import Fleet
from ansible_collections.pvelab.proxmox.tests.lab import Lab


@dataclass(frozen=True)
class Figure:
    """What one action on a fleet of ``count`` guests took one client. CPU of the node is apart from the client's."""

    count: int
    action: str
    client: str
    wall_s: float
    cpu_s: float
    node_cpu_s: float
    calls: int
    connections: int
    rss_mib: float = 0.0


@contextmanager
def place() -> Iterator[Place]:
    """A fresh labnode that tells what it is asked, and a token for it; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Lab(Path(folder), options=("--verbose",)) as lab:
        value = lab.api().access.users("root@pam").token("bench").post(privsep=0)["value"]
        yield Place(lab, ("bench", str(value)))


def one_pass(client: Client, fleet: Fleet, actions: Sequence[str]) -> list[Figure]:
    """The figures of the actions, in their order, on a node of their own. Raises RuntimeError, or NotDone."""
    with place() as at:
        return [one_action(client, at, fleet, action) for action in actions]


def one_action(client: Client, at: Place, fleet: Fleet, action: str) -> Figure:
    """Set the scene, let the client do it, and make sure that it was done."""
    checks = Checks(at.lab.api(), fleet)
    if action == "drift":
        checks.drift()
    before = checks.digests()
    with Counter(at.lab.log, at.lab.pid).counted() as asked:
        ran = client.run(at, fleet, action)
    checks.done(action, before)
    if ran.changed is not None and bool(ran.changed) is (action == "unchanged"):
        raise NotDone(f"{client.name}, {action}: {ran.changed} tasks say that they changed something")
    return Figure(
        count=fleet.count,
        action=action,
        client=client.name,
        wall_s=ran.wall_s,
        cpu_s=ran.cpu_s,
        node_cpu_s=asked.cpu_s,
        calls=asked.calls,
        connections=asked.connections,
        rss_mib=ran.rss_mib,
    )


def median(figures: Sequence[Figure]) -> Figure:
    """The run in the middle by its time (of an even number the slower one), with the medians of CPU and memory."""
    middle = sorted(figures, key=lambda figure: figure.wall_s)[len(figures) // 2]
    return replace(
        middle,
        cpu_s=statistics.median(figure.cpu_s for figure in figures),
        node_cpu_s=statistics.median(figure.node_cpu_s for figure in figures),
        rss_mib=max(figure.rss_mib for figure in figures),
    )
