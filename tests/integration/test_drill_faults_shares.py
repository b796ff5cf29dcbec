# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a guest's share of the processors: hogs, what helps against them, the undo, and by what they are known."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    Package,
    package,
    soon,
)
from ansible_collections.pvelab.proxmox.tests.integration.drill_shares import UNIT, Shares


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shares]:
    made = Shares(drill, tmp_path, monkeypatch)
    yield made
    made.end()


def test_hogs_beside_a_guest_and_its_weight(host: Shares) -> None:
    fault = host.made("cpu_overcommit", hogs=3)
    weight = host.group / "cpu.weight"
    before = host.looks(fault)
    assert before == {"hogs": [], "weights": ["103 100"]}
    for _time in range(2):
        host.do(fault.undo)
        assert host.looks(fault) == before, "it may be rehearsed"
    host.do(fault.inject)
    assert {f"--unit={UNIT}", "--collect", "--slice=qemu.slice"} <= set(host.argv)
    assert {"--property=CPUWeight=300", "--property=RuntimeMaxSec=60"} <= set(host.argv)
    assert host.looks(fault)["hogs"] == [f"{UNIT} is active", *(f"process {n} of {UNIT}" for n in (1, 2, 3, 4))]
    assert weight.read_text() == "100\n", "nothing but the hogs is the fault"
    host.do(fault.relief)
    assert weight.read_text() == "10000\n"
    assert host.hog.exists(), "the fault is still there"
    for _time in range(2):
        host.do(fault.undo)
        assert host.looks(fault) == before
    weight.unlink()
    host.group.rmdir()
    host.do(fault.undo)


def test_as_many_hogs_as_processors_ask_for_and_no_heavier_than_systemd_takes(host: Shares) -> None:
    host.do(host.made("cpu_overcommit").inject)
    assert "--property=CPUWeight=800" in host.argv
    host.patch.setattr(host.drill.faults.hogs, "processors", lambda: 64)
    host.do(host.made("cpu_overcommit").inject)
    assert "--property=CPUWeight=10000" in host.argv


def test_hogs_are_busy_until_they_are_ended(host: Shares) -> None:
    host.do(host.made("cpu_overcommit", hogs=2).inject)
    words = shlex.split(shlex.join(host.argv))
    shell = subprocess.Popen(["nice", "-n", "19", *words[words.index("/bin/sh") :]], start_new_session=True)

    def busy() -> int:
        children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
        return sum(host.drill.site.state(int(child)) == "R" for child in children)

    try:
        soon(lambda: busy() == 2, "two are busy")
        assert shell.poll() is None
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_an_undo_that_cannot_stop_them_fails_and_puts_the_weight_back_all_the_same(host: Shares) -> None:
    fault = host.made("cpu_overcommit", hogs=3)
    host.do(fault.relief)
    host.program("systemctl", "#!/bin/sh\nexit 1\n")
    with pytest.raises(AssertionError):
        host.do(fault.undo)
    assert (host.group / "cpu.weight").read_text() == "100\n"


def test_what_else_an_operator_has(host: Shares) -> None:
    log = host.folder / "taskset"
    host.program("taskset", f'#!/bin/sh\necho "$*" >> {log}\necho chatter\n')
    limited = host.made("cpu_overcommit", hogs=3, relief="quota", quota_percent=40)
    host.do(limited.inject)
    host.do(limited.relief)
    assert (host.hog / "cpu.max").read_text() == "40000 100000\n"
    assert (host.group / "cpu.weight").read_text() == "100\n"
    host.do(host.made("cpu_overcommit", hogs=3, relief="affinity").relief)
    assert log.read_text().splitlines() == [f"-p -c 0 {number}" for number in (1, 2, 3, 4)]
    with pytest.raises(host.trouble, match="is prayer, and none of weight, quota, affinity"):
        host.made("cpu_overcommit", relief="prayer")
    host.patch.setattr(host.drill.faults.hogs, "processors", lambda: 1)
    with pytest.raises(host.skip, match="has one processor"):
        host.made("cpu_overcommit", relief="affinity")


def test_hosts_that_cannot_have_hogs(host: Shares) -> None:
    with pytest.raises(host.skip, match="has to be a unit of systemd"):
        host.made("cpu_overcommit", more={"supervisor": "process"})
    host.count(100.0)
    with pytest.raises(host.skip, match="does not count how long a process waits"):
        host.made("cpu_overcommit")
    host.count(100.0, waited_ms=5)
    (host.group / "cpu.weight").unlink()
    with pytest.raises(host.skip, match="has no cpu controller"):
        host.made("cpu_overcommit")
    with pytest.raises(host.skip, match="they are in nowhere: the drill names none"):
        host.made("cpu_overcommit", more={"victims": []})
    host.patch.setattr(host.drill.site, "cgroup", lambda _plan, _vmid: host.folder / "here/103.scope")
    with pytest.raises(host.skip, match=r"not in one slice of systemd \(they are in .*/here\)"):
        host.made("cpu_overcommit")


def heard(host: Shares, *acks: tuple[float, float]) -> Any:
    """A recorder that has heard acknowledgements: (at, milliseconds)."""
    made = [host.drill.canary.Ack(at, n, "0a1b2c3d", ms, 0, 0) for n, (at, ms) in enumerate(acks)]
    return SimpleNamespace(heard={103: SimpleNamespace(acks=made)})


def test_a_guest_that_is_slow_and_quick_again(host: Shares) -> None:
    fault = host.made("cpu_overcommit", hogs=3, factor=4)
    slow, (quick,) = fault.signs[0], fault.eased
    assert slow.name == "writes of guest 103 take 4 times as long"
    before = [(float(n), 10.0) for n in range(5)]
    slowly = [(10.0 + n, 41.0) for n in range(5)]
    assert slow.test(heard(host, *before, *((10.0 + n, 40.0) for n in range(5))), 10.0) is None
    assert slow.test(heard(host, *before, *slowly), 10.0) == "41 ms instead of 10 ms, by half"
    quickly = [(20.0 + n, 20.0) for n in range(5)]
    helped = heard(host, *before, *slowly, *quickly)
    assert quick.test(helped, 20.0) is None, "the hogs do not run, so nothing was helped"
    host.do(fault.inject)
    assert quick.test(helped, 20.0) == "20 ms, and 10 ms before the fault, by half"
    assert quick.test(heard(host, *before, *slowly, *quickly[:4]), 20.0) is None, "too few to say"
    assert quick.test(heard(host, *before, *slowly, *((20.0 + n, 20.1) for n in range(5))), 20.0) is None
    (host.hog / "cgroup.procs").write_text("1\n2\n")
    assert quick.test(helped, 20.0) is None, "some hogs are gone"


@pytest.mark.parametrize(
    ("waited_ms", "seen"),
    [(1100 + 8 * 20, "20 ms a second instead of 10 ms"), (1100 + 8 * 19, None), (0, None)],
)
def test_a_guest_that_waits_for_a_processor(host: Shares, waited_ms: int, seen: str | None) -> None:
    fault = host.made("cpu_overcommit", hogs=3)
    sign = fault.signs[1]
    host.count(110.0, waited_ms=1100, pressed_ms=2000)
    assert sign.test(None, 0.0) is None, "nothing was injected yet"
    host.do(fault.inject)
    host.count(110.5, waited_ms=90_000, pressed_ms=2000)
    assert sign.test(None, 0.0) is None, "too soon to say"
    host.count(118.0, waited_ms=waited_ms, pressed_ms=2000)
    assert sign.test(None, 0.0) == seen


def test_a_guest_that_has_hardly_waited_has_to_wait_for_more_than_nothing(host: Shares) -> None:
    fault = host.made("cpu_overcommit", hogs=3)
    host.count(110.0, waited_ms=1000)
    host.do(fault.inject)
    host.count(120.0, waited_ms=1010)
    assert fault.signs[1].test(None, 0.0) is None
    host.count(120.0, waited_ms=1020)
    assert fault.signs[1].test(None, 0.0) == "2 ms a second instead of 0 ms"


@pytest.mark.parametrize(("pressed_ms", "seen"), [(4000 + 7000, True), (4000 + 5900, False)])
def test_a_host_that_is_short_of_processors(host: Shares, pressed_ms: int, seen: bool) -> None:
    fault = host.made("cpu_overcommit", hogs=3)
    sign = fault.signs[2]
    host.count(110.0, waited_ms=1, pressed_ms=4000)
    host.do(fault.inject)
    host.count(120.0, waited_ms=1, pressed_ms=pressed_ms)
    says = "somebody waits for a processor in 70 % of the time instead of 20 %"
    assert sign.test(None, 0.0) == (says if seen else None)


def test_a_kernel_that_counts_no_pressure_has_one_sign_less(host: Shares) -> None:
    assert len(host.made("cpu_overcommit", hogs=3).signs) == 3
    (host.proc / "pressure/cpu").unlink()
    fault = host.made("cpu_overcommit", hogs=3)
    assert len(fault.signs) == 2
    host.do(fault.inject)


def test_how_slow_a_starved_guest_has_to_be_is_an_option(host: Shares) -> None:
    for name in ("cpu.max", "cpu.stat"):
        (host.group / name).write_text("max 100000\n")
    assert host.made("guest_starved").signs[0].name == "writes of guest 103 take 3 times as long"
    assert host.made("guest_starved", factor=1.5).signs[0].name == "writes of guest 103 take 1.5 times as long"
