# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the host's memory: the hog, what brings memory back, the undo, and whom the kernel kills."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    RUN,
    Package,
    package,
    soon,
)
from ansible_collections.pvelab.proxmox.tests.integration.drill_shares import MIB, UNIT, Shares


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shares]:
    made = Shares(drill, tmp_path, monkeypatch)
    yield made
    made.end()


def test_a_host_that_is_short_of_memory_and_gets_some_back(host: Shares) -> None:
    fault = host.made("memory_exhaustion")
    assert fault.targets == (
        "928 MiB of the 1024 MiB that are available on the host",
        "the balloon of guest 103, 72 MiB of 96",
    )
    before, knobs = host.looks(fault), host.knobs()
    host.do(fault.undo)
    assert (host.looks(fault), host.knobs()) == (before, ("1", "200", "100"))
    host.do(fault.inject)
    assert host.knobs() == ("2", "200", "100"), "what is shared is taken apart, so that it can be seen what it brings"
    options = {"MemoryMax=1998848K", "MemorySwapMax=0", "OOMScoreAdjust=1000", "RuntimeMaxSec=60"}
    assert {f"--property={text}" for text in options} <= set(host.argv)
    assert "--slice=system.slice" in host.argv
    home = host.folder / "drills" / RUN
    assert host.argv[-4:] == [str(home / "hog.py"), "96", "64", str(home / "before-relief.txt")]
    assert (home / "hog.py").read_text() == host.drill.faults.memory.PROGRAM
    host.memory(90)
    host.do(fault.relief)
    assert host.knobs() == ("1", "5000", "20")
    path = f"ask {home}/plan.json POST /nodes/{{node}}/qemu/103/monitor"
    assert host.asked == [f"{path} command=balloon 96", f"{path} command=balloon 72"]
    for _time in range(2):
        host.do(fault.undo)
        assert (host.looks(fault), host.knobs()) == (before, knobs)
        assert host.asked[-1] == f"{path} command=balloon 96"
    asked = host.asked
    (host.folder / "103.pid").write_text("1\n")
    host.do(fault.undo)
    assert host.asked == asked, "a guest that was started anew has all of its memory"


def test_the_least_that_the_inventory_asks_for_is_left(host: Shares) -> None:
    host.do(host.made("memory_exhaustion", more={"guards": {"min_available_mib": 200}}).inject)
    assert host.argv[-3:-1] == ["200", "200"]
    host.do(host.made("memory_exhaustion", floor_mib=300).inject)
    assert host.argv[-3:-1] == ["300", "64"]


def test_a_remedy_that_cannot_say_what_was_before_it_fails(host: Shares) -> None:
    with pytest.raises(AssertionError, match=r"memory\.stat"):
        host.do(host.made("memory_exhaustion").relief)


def test_what_is_not_asked_for_is_not_touched(host: Shares) -> None:
    fault = host.made("memory_exhaustion", relief=["balloon"])
    host.do(fault.inject)
    host.do(fault.relief)
    assert host.knobs() == ("1", "200", "100")
    assert len(fault.eased) == 2
    other = host.made("memory_exhaustion", relief=["ksm"], pages_to_scan=900, sleep_millisecs=50)
    asked = host.asked
    host.do(other.inject)
    host.do(other.relief)
    host.do(other.undo)
    assert (host.asked, len(other.eased)) == (asked, 1)


def test_the_operator_says_how_little_a_guest_may_be_left(host: Shares) -> None:
    host.has(103, 96, balloon=48)
    assert "the balloon of guest 103, 48 MiB of 96" in host.made("memory_exhaustion").targets
    host.has(103, 96)
    assert "the balloon of guest 103, 48 MiB of 96" in host.made("memory_exhaustion", balloon_percent=50).targets
    for given in ({"balloon": "0"}, {"balloon": 96}):
        host.has(103, 96, **given)
        assert len(host.made("memory_exhaustion").targets) == 1, "it has no balloon, or nothing to give"


def test_somebody_else_who_tunes_is_stopped_meanwhile(host: Shares) -> None:
    tuner = host.systemd.state / "ksmtuned"
    tuner.touch()
    fault = host.made("memory_exhaustion")
    before = host.looks(fault)
    assert before["sharing"] == ["sleep_millisecs 100", "ksmtuned active"]
    host.do(fault.inject)
    assert not tuner.exists()
    assert host.looks(fault)["sharing"] == ["sleep_millisecs 100", "ksmtuned inactive"]
    for _time in range(2):
        host.do(fault.undo)
        assert host.looks(fault) == before


def test_a_kernel_that_finds_its_own_pace_is_given_none(host: Shares) -> None:
    (host.ksm / "advisor_mode").write_text("none [scan-time]\n")
    fault = host.made("memory_exhaustion")
    (host.ksm / "pages_to_scan").write_text("777\n")
    for text in (fault.inject, fault.relief, fault.undo):
        host.do(text)
        assert host.knobs()[1] == "777"
    (host.ksm / "advisor_mode").write_text("[none] scan-time\n")
    fault = host.made("memory_exhaustion")
    host.do(fault.inject)
    host.do(fault.relief)
    assert host.knobs() == ("1", "5000", "20")


def test_by_what_a_shortage_is_known(host: Shares) -> None:
    fault = host.made("memory_exhaustion")
    short, held = fault.signs
    host.memory(97)
    assert (short.test(None, 0.0), held.test(None, 0.0)) == (None, None)
    host.memory(96)
    assert short.test(None, 0.0) == "96 MiB, and 1024 MiB before"
    host.do(fault.inject)
    assert held.test(None, 0.0) is None, "somebody else has it"
    (host.slices / "system.slice" / UNIT / "memory.stat").write_text(f"file 9\nanon {464 << 20}\n")
    assert held.test(None, 0.0) == "it has 464 MiB"


def test_by_what_help_is_known(host: Shares) -> None:
    fault = host.made("memory_exhaustion", gain_mib=20)
    gained = fault.eased[0]
    host.do(fault.inject)
    host.memory(500)
    assert gained.test(None, 0.0) is None, "nothing was tried yet"
    host.memory(90)
    host.do(fault.relief)
    assert gained.test(None, 0.0) is None
    host.memory(109)
    assert gained.test(None, 0.0) is None
    host.memory(110)
    assert gained.test(None, 0.0) == "110 MiB instead of 90 MiB"
    stat = host.slices / "system.slice" / UNIT / "memory.stat"
    stat.write_text(f"anon {98 << 20}\n")
    assert gained.test(None, 0.0) is None, "it is the hog that has given something back"
    stat.unlink()
    assert gained.test(None, 0.0) is None, "it has ended"


def test_a_guest_that_gives_back_and_has_all_again(host: Shares) -> None:
    fault = host.made("memory_exhaustion")
    sign, memory = fault.eased[1], host.drill.faults.memory
    assert sign.test(None, 0.0) is None
    host.has(103, 80)
    assert sign.test(None, 0.0) is None, "it is not asked all the time"
    host.patch.setattr(memory, "ASK_EVERY_S", 0.0)
    assert sign.test(None, 0.0) == "it has 80 MiB instead of 96"
    with pytest.raises(host.trouble, match="guest 103 has 80 MiB of its 96 MiB back"):
        fault.whole()
    host.node.answers["/nodes/{node}/qemu/103/status/current"] = host.drill.node.Silent("busy")
    assert sign.test(None, 0.0) is None
    host.has(103, 96)
    fault.whole()


@pytest.mark.parametrize("kind", ["memory_exhaustion", "host_out_of_memory"])
def test_a_host_that_would_do_something_else(host: Shares, kind: str) -> None:
    for name, why in (("panic_on_oom", "would panic"), ("oom_kill_allocating_task", "would end whoever asks next")):
        (host.proc / "sys/vm" / name).write_text("1\n")
        with pytest.raises(host.trouble, match=f"vm.{name} is set on this host, so the kernel {why}"):
            host.made(kind)
        (host.proc / "sys/vm" / name).write_text("0\n")
    (host.systemd.state / "systemd-oomd").touch()
    with pytest.raises(host.trouble, match="systemd-oomd runs on this host"):
        host.made(kind)


def test_hosts_that_are_not_made_short_of_memory(host: Shares) -> None:
    with pytest.raises(host.trouble, match="has prayer; it knows ksm, balloon"):
        host.made("memory_exhaustion", relief=["prayer"])
    (host.ksm / "pages_sharing").write_text(f"{929 << 8}\n")
    with pytest.raises(host.trouble, match="guests share 929 MiB, and this host has no room"):
        host.made("memory_exhaustion")
    (host.ksm / "pages_sharing").write_text("0\n")
    host.memory(127)
    with pytest.raises(host.trouble, match="only 127 MiB are available on this host"):
        host.made("memory_exhaustion")
    host.memory(1024)
    (host.ksm / "run").unlink()
    assert len(host.made("memory_exhaustion").eased) == 2
    with pytest.raises(host.skip, match="none of ksm can give memory back"):
        host.made("memory_exhaustion", relief=["ksm"])


# the hog itself ---------------------------------------------------------------------------------------------------


class Hog:
    """The program as systemd would run it, with a file for what the host has available."""

    def __init__(self, host: Shares, floor_mib: int, least_mib: int) -> None:
        self.host, self.freeze = host, host.folder / "freeze"
        text = host.drill.faults.memory.PROGRAM.replace('"/proc/meminfo"', repr(str(host.proc / "meminfo")))
        assert str(host.proc) in text
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n{text}"
        argv = ["python3", "-c", limit, str(floor_mib), str(least_mib), str(self.freeze)]
        self.process = subprocess.Popen(argv)

    def __enter__(self) -> Hog:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()

    def pages(self) -> Counter[bytes]:
        """Each page of its large areas, and how many are like it."""
        found: Counter[bytes] = Counter()
        home = Path(f"/proc/{self.process.pid}")
        with (home / "mem").open("rb", buffering=0) as memory:
            for line in (home / "maps").read_text().splitlines():
                words = line.split()
                begin, end = (int(word, 16) for word in words[0].split("-"))
                if words[1] == "rw-p" and len(words) == 5 and end - begin >= 1 << 20:
                    memory.seek(begin)
                    area = memory.read(end - begin)
                    found.update(area[at : at + 4096] for at in range(0, len(area), 4096))
        return found

    def mib(self) -> int:
        assert self.process.poll() is None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon:")) // MIB

    def available(self, mib: int) -> None:
        """Written whole or not at all: it is read all the time."""
        other = self.host.proc / "meminfo.new"
        other.write_text(f"MemFree: 1 kB\nMemAvailable:    {mib * MIB} kB\n")
        other.replace(self.host.proc / "meminfo")

    def steady(self) -> int:
        """What it has, once that has not changed in many looks."""
        seen: list[int] = []
        soon(lambda: seen.append(self.mib()) or (len(seen) > 10 and len(set(seen[-10:])) == 1), "it holds")
        return seen[-1]


def test_a_hog_takes_what_is_too_much_and_gives_back_what_would_be_too_little(host: Shares) -> None:
    host.memory(96)
    with Hog(host, 96, 64) as hog:
        soon(lambda: Path(f"/proc/{hog.process.pid}/comm").read_text() == "pvelab-hog\n", "it has its name")
        nothing = hog.steady()
        hog.available(97)
        soon(lambda: hog.mib() > nothing + 20, "it takes")
        hog.available(96)
        held = hog.steady()
        assert held > nothing + 20
        hog.available(63)
        soon(lambda: hog.mib() < held - 10, "it gives back")
        hog.available(97)
        soon(lambda: hog.mib() > held + 10, "it takes again")
        hog.freeze.touch()
        held = hog.steady()
        for mib in (500, 10):
            hog.available(mib)
            assert hog.steady() == held, "from now on it holds what it has"
        hog.process.terminate()
        assert hog.process.wait(10) == -signal.SIGTERM


def test_a_hog_without_a_floor_takes_even_where_nothing_is_left(host: Shares) -> None:
    host.memory(0)
    with Hog(host, -1, 0) as hog:
        soon(lambda: hog.mib() > 40, "it takes")
        hog.freeze.touch()
        hog.steady()
        pages = hog.pages()
        del pages[bytes(4096)]
        assert pages.total() > 40 * MIB // 4
        assert set(pages.values()) == {1}, "pages that are alike could be shared"


# and no more of it ------------------------------------------------------------------------------------------------


def scores(host: Shares) -> dict[int, str]:
    return {vmid: (host.proc / f"{p.pid}/oom_score_adj").read_text().strip() for vmid, p in host.processes.items()}


def test_the_kernel_is_to_kill_the_hog_and_nobody_else(host: Shares) -> None:
    fault = host.made("host_out_of_memory")
    before = host.looks(fault)
    assert before == {"hogs": [], "oom_score_adj": ["103 0", "101 0"]}
    host.do(fault.undo)
    assert host.looks(fault) == before
    host.do(fault.inject)
    assert scores(host) == {101: "-900", 103: "-900"}
    assert {"--property=OOMScoreAdjust=1000", "--property=MemoryMax=2097152K"} <= set(host.argv)
    home = host.folder / "drills" / RUN
    assert host.argv[-3:] == ["-1", "0", str(home / "never")]
    for _time in range(2):
        host.do(fault.undo)
        assert host.looks(fault) == before
        assert host.asked[-1] == f"restore {home}/plan.json 103 101"


def test_whoever_has_the_number_of_a_guest_by_now_keeps_its_score(host: Shares) -> None:
    fault = host.made("host_out_of_memory")
    host.do(fault.inject)
    (host.folder / "103.pid").write_text("1\n")
    (host.folder / "101.pid").unlink()
    host.do(fault.undo)
    assert scores(host) == {101: "-900", 103: "-900"}


MEMCG = "Memory cgroup out of memory: Killed process 4711 (pvelab-hog) total-vm:2209272kB, anon-rss:2092020kB, UID:0"
GLOBAL = "Out of memory: Killed process 4711 (pvelab-hog) total-vm:2209272kB, anon-rss:2092020kB, UID:0"


@pytest.mark.parametrize(
    ("line", "seen"),
    [(GLOBAL, True), (MEMCG, False), (GLOBAL.replace("pvelab-hog", "kvm"), False), ("pvelab-hog: it starts", False)],
)
def test_whom_the_kernel_has_killed_and_for_whose_sake(host: Shares, line: str, seen: bool) -> None:
    (sign,) = host.made("host_out_of_memory").signs
    assert sign.test(SimpleNamespace(kernel=[(5.0, line)]), 5.0) == (line if seen else None)
    assert sign.test(SimpleNamespace(kernel=[(3.0, line)]), 5.0) is None, "that was before"


def test_hosts_on_which_nobody_is_killed(host: Shares) -> None:
    host.memory(1024, swap_mib=512)
    with pytest.raises(host.skip, match="has 512 MiB of swap and the option max_swap_mib is 0"):
        host.made("host_out_of_memory")
    host.do(host.made("host_out_of_memory", max_swap_mib=512).inject)
    assert "--property=MemoryMax=2621440K" in host.argv
    host.memory(1024)
    (host.proc / "sys/vm/overcommit_memory").write_text("2\n")
    with pytest.raises(host.skip, match="promises no more memory than it has"):
        host.made("host_out_of_memory")
