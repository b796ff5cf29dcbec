# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever looks from outside tells the truth, by a clock that is held against the host's, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_outside
from ansible_collections.pvelab.proxmox.tests.integration.drill_lag import lagging
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, package, soon
from ansible_collections.pvelab.proxmox.tests.stories.drill_outside import (
    Api,
    Server,
    environment,
    looking,
    post,
    program,
    seen,
)
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

AHEAD_S = 3737.25


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


def named(found: dict[str, Any], name: str) -> dict[str, Any]:
    (probe,) = [probe for probe in found["probes"] if probe["name"] == name]
    return dict(probe)


def tries(path: Path) -> list[dict[str, Any]]:
    lines = path.with_name("vantage.jsonl").read_text().splitlines()[1:]
    return [json.loads(line) for line in lines]


def asked(path: Path, name: str) -> int:
    return sum(row.get("p") == name for row in tries(path))


def process(path: Path) -> psutil.Process:
    return psutil.Process(int(path.with_name("vantage.process").read_text().split()[0]))


def together(*pauses: Any) -> None:
    """Have all of it happen at once, and wait for its end."""
    threads = [threading.Thread(target=pause, args=(seconds,)) for pause, seconds in pauses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_outages_of_known_length_are_seen_from_outside(tmp_path: Path) -> None:
    with Api(tmp_path / "a") as down, Api(tmp_path / "b") as hung, Server() as port, Server() as still:
        path = post(
            tmp_path,
            {"name": "down", "to": "127.0.0.1", "https": down.port, "host": True},
            {"name": "hung", "to": "127.0.0.1", "https": hung.port},
            {"name": "port", "to": "127.0.0.1", "tcp": port.port},
            {"name": "still", "to": "localhost", "banner": still.port, "hz": 5},
            {"name": "nobody", "to": "127.0.0.1", "tcp": 9},
        )
        with looking(path), lagging() as lag:
            soon(lambda: all(asked(path, name) > 5 for name in ("down", "hung", "port", "still")), "all are asked")
            together((down.refuse, 2.0), (hung.hang, 3.0), (port.refuse, 0.5))
            before = [asked(path, name) for name in ("down", "hung", "port")]
            soon(lambda: all(asked(path, n) > b + 5 for n, b in zip(("down", "hung", "port"), before, strict=True)),
                 "all are asked again")  # fmt: skip
        found = seen(path)
        truths = {"down": down.truth[0], "hung": hung.hung[0], "port": port.truth[0]}
    for (name, (since, until)), why in zip(truths.items(), ("refused", "silent", "refused"), strict=True):
        (outage,) = named(found, name)["outages"]
        allowed = max(0.1 * (until - since), 0.15) + max(lag)
        assert abs(outage["s"] - (until - since)) <= allowed, (name, outage, until - since, max(lag))
        assert abs(outage["from"] - since) <= allowed
        assert outage["why"] == why
    assert named(found, "still")["outages"] == []
    nobody = named(found, "nobody")
    assert (nobody["answered"], nobody["outages"]) == (0, [])
    rate = [named(found, name)["tried"] / (found["to"] - found["from"]) for name in ("port", "nobody", "still")]
    assert 8 <= rate[0] <= 10.5 and 8 <= rate[1] <= 10.5 and 4 <= rate[2] <= 5.5


def test_a_clock_that_is_not_ours_is_measured(tmp_path: Path) -> None:
    """The host's wall clock is an hour ahead, and the clock of its run began a day ago."""
    with Api(tmp_path / "a", ahead=AHEAD_S) as api:
        path = post(tmp_path, {"name": "API", "to": "127.0.0.1", "https": api.port, "host": True})
        with looking(path):
            soon(lambda: api.asked > 60, "it is asked")
        found = seen(path)
    day = 86400.0
    truth = day  # what is to be added to our CLOCK_MONOTONIC to have the run's
    now, wall = time.monotonic() + day, time.time() + AHEAD_S
    journal = made.aborted() | {"clock": {"monotonic": 0.0, "utc": "2026-01-01T00:00:00Z"}}
    samples = [{"at": now - n, "wall": wall - n} for n in range(5)]
    text = drill_outside.put_in(json.dumps(journal), "journal.json", found, samples, None)
    told = json.loads(text)["vantage"]
    assert told["exchanges"] > 60
    assert abs(told["offset_s"] - truth) <= told["error_s"] + 0.02
    assert told["error_s"] < 0.15, "sixty answers say it better than one"
    assert told["from"] == pytest.approx(found["from"] + told["offset_s"], abs=0.01)


def test_what_was_seen_survives_whoever_looked(tmp_path: Path) -> None:
    with Server() as server:
        path = post(tmp_path, {"name": "port", "to": "127.0.0.1", "tcp": server.port})
        program("vantage", path)
        looks = process(path)
        assert looks.ppid() != os.getpid() and os.getsid(looks.pid) != os.getsid(0)
        soon(lambda: asked(path, "port") > 3, "it is asked")
        looks.kill()
        soon(lambda: not looks.is_running() or looks.status() == psutil.STATUS_ZOMBIE, "it is dead")
        program("leave", path)
        program("leave", path)
        found = seen(path)
    assert named(found, "port")["answered"] > 3
    assert sorted(file.name for file in path.parent.iterdir()) == ["vantage.json", "vantage.jsonl"]


def test_it_ends_by_itself_and_takes_away_what_nobody_will_fetch(tmp_path: Path) -> None:
    with Server() as server:
        path = post(tmp_path, {"name": "port", "to": "127.0.0.1", "tcp": server.port}, ends_s=0.5)
        program("vantage", path)
        soon(lambda: not path.parent.exists(), "nothing of it is left")


def test_it_ends_with_the_ansible_that_has_started_it(tmp_path: Path) -> None:
    """As a controller that is killed without a word."""
    playbook = tmp_path / "ansible-playbook"
    playbook.write_text("import subprocess, sys\nsubprocess.run(sys.argv[1:], check=True)\ninput()\n")
    with Server() as server:
        path = post(tmp_path, {"name": "port", "to": "127.0.0.1", "tcp": server.port})
        begin = [sys.executable, str(playbook), "/bin/sh", "-c", f"'{sys.executable}' -m drill vantage '{path}'; true"]
        with subprocess.Popen(begin, stdin=subprocess.PIPE, env=environment()) as ansible:
            soon(lambda: path.with_name("vantage.jsonl").exists() and asked(path, "port") > 3, "it is asked")
            looks = process(path)
            ansible.kill()
        soon(lambda: not path.parent.exists(), "nothing of it is left")
        soon(lambda: not looks.is_running() or looks.status() == psutil.STATUS_ZOMBIE, "it has ended")


def test_time_in_which_it_could_not_look_is_a_gap_and_no_outage(tmp_path: Path) -> None:
    with Server() as server:
        path = post(tmp_path, {"name": "port", "to": "127.0.0.1", "tcp": server.port})
        with looking(path):
            soon(lambda: asked(path, "port") > 3, "it is asked")
            process(path).send_signal(signal.SIGSTOP)
            began = time.monotonic()
            soon(lambda: time.monotonic() > began + 1.2, "a while")
            process(path).send_signal(signal.SIGCONT)
            before = asked(path, "port")
            soon(lambda: asked(path, "port") > before + 3, "it is asked again")
        found = seen(path)
    (gap,) = found["gaps"]
    assert 1.1 <= gap["to"] - gap["from"] <= 3.0
    assert named(found, "port")["outages"] == []


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ([{"name": "a"}], "probe a needs 'to'"),
        ([{"name": "a", "to": "::1"}], "one of tcp: PORT"),
        ([{"name": "a", "to": "::1", "tcp": 1, "ping": True}], "one of tcp: PORT"),
        ([{"name": "a", "to": "::1", "tcp": 1, "hz": 11}], "hz is 11, and may be up to 10"),
        ([{"name": "a", "to": "::1", "tcp": 1}, {"name": "a", "to": "::1", "tcp": 2}], "two probes have the same name"),
    ],
)
def test_a_probe_that_is_none_is_named(drill: Package, probes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(drill.shell.Trouble, match=words):
        drill.probes.from_json(probes)
