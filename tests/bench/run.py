# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: lists of guests by our collection, by a loop of community.proxmox and by a bare concurrent client.

All in one run, against labnodes of their own on loopback. Variables: BENCH_GUESTS="20 100 500", BENCH_ROUNDS=5,
BENCH_DISK_GIB=1 (0: no disks), BENCH_WORKERS=8 (threads of the bare client), BENCH_LOOP_500=1 (loops over more than
100 guests, too, which take hours), BENCH_CLIENTS="ours bare loop".
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.pvelab.proxmox.tests.bench import report, words
from ansible_collections.pvelab.proxmox.tests.bench.checks import NotDone
from ansible_collections.pvelab.proxmox.tests.bench.clients import Bare, Client, Loop, Ours, Place, Ran, play
from ansible_collections.pvelab.proxmox.tests.bench.fleet import ACTIONS, Fleet
from ansible_collections.pvelab.proxmox.tests.bench.measure import Figure, one_action, one_pass, place
from ansible_collections.pvelab.proxmox.tests.lab import ROOT

LONGEST_LOOP = 100
STARTS = 5
# With what ansible-playbook has imported by then anyway.
IMPORT = """
import time
import ansible.cli.playbook, ansible.executor.task_executor, ansible.module_utils.basic, ansible.plugins.action.normal
began = time.perf_counter()
import ansible_collections.pvelab.proxmox.plugins.action.guests
print(time.perf_counter() - began)
"""
PAGE = ROOT / "docs/performance.md"


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    guests: tuple[int, ...] = (20, 100, 500)
    rounds: int = 5
    disk_gib: int = 1
    workers: int = 8
    long_loops: bool = False
    clients: tuple[str, ...] = report.CLIENTS

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ValueError for numbers that are none."""
        default = cls()
        said = environment.get("BENCH_GUESTS", "")
        return cls(
            tuple(sorted(int(n) for n in said.split())) or default.guests,
            int(environment.get("BENCH_ROUNDS") or default.rounds),
            int(environment.get("BENCH_DISK_GIB") or default.disk_gib),
            int(environment.get("BENCH_WORKERS") or default.workers),
            environment.get("BENCH_LOOP_500") == "1",
            tuple(environment.get("BENCH_CLIENTS", "").split()) or default.clients,
        )

    @property
    def command(self) -> str:
        """What has to be typed to have the same again."""
        default = Settings()
        said = {
            "BENCH_GUESTS": f'"{" ".join(map(str, self.guests))}"' if self.guests != default.guests else "",
            "BENCH_ROUNDS": self.rounds if self.rounds != default.rounds else "",
            "BENCH_DISK_GIB": self.disk_gib if self.disk_gib != default.disk_gib else "",
            "BENCH_WORKERS": self.workers if self.workers != default.workers else "",
            "BENCH_LOOP_500": "1" if self.long_loops else "",
            "BENCH_CLIENTS": f'"{" ".join(self.clients)}"' if self.clients != default.clients else "",
        }
        return " ".join(["make bench", *(f"{name}={value}" for name, value in said.items() if value != "")])

    def chosen(self) -> list[Client]:
        """Those that are measured; each round goes through them in turn."""
        known: dict[str, Client] = {"ours": Ours(), "bare": Bare(self.workers), "loop": Loop()}
        return [known[name] for name in ("bare", "ours", "loop") if name in self.clients]


def tell(text: str) -> None:
    """How far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def actions(settings: Settings, client: Client, count: int, turn: int) -> list[str]:
    """What a client does in a round. Loops are so slow that they run once, and not over all sizes."""
    own = [a for a in ACTIONS if not client.loops(a) or (turn == 0 and (count <= LONGEST_LOOP or settings.long_loops))]
    return own if "create" in own else []


def passes(settings: Settings) -> Iterator[tuple[int, int, Client, list[str]]]:
    """Turns, sizes, clients and what these do.

    Each turn has all sizes: a machine that slows down between two of them would otherwise be told as a cost that grows
    with the number of guests.
    """
    for turn in range(settings.rounds):
        for count in settings.guests:
            for client in settings.chosen():
                if todo := actions(settings, client, count, turn):
                    yield turn, count, client, todo


def measured(settings: Settings) -> list[Figure]:
    """All figures. Raises RuntimeError and NotDone: a client that fails has no time."""
    figures: list[Figure] = []
    for turn, count, client, todo in passes(settings):
        tell(f"round {turn + 1} of {settings.rounds}, {count} guests: {client.name}")
        figures += one_pass(client, Fleet(count, settings.disk_gib), todo)
    return figures


def starts(settings: Settings) -> words.Starts:
    """What goes by before the first request: starts of modules and of ansible-playbook, and handing a list over."""
    tell("the start of a module, and of ansible-playbook")
    fleet = Fleet(1, settings.disk_gib)
    with place() as at:
        one_action(Ours(), at, fleet, "create")
        started = [Ours(direct=False).run(at, fleet, "unchanged") for _each in range(STARTS)]
        copied = [Ours().run(at, fleet, "unchanged") for _each in range(STARTS)]
        nothing = [play(at, {"ansible.builtin.debug": {}}) for _each in range(STARTS)]
        lists = {count: handed(at, Fleet(count, settings.disk_gib)) for count in (1, *settings.guests)}

    def middle(runs: Sequence[Ran], what: str) -> float:
        return statistics.median(getattr(ran, what) for ran in runs)

    return words.Starts(
        module_s=middle(started, "wall_s"),
        copy_s=middle(copied, "wall_s"),
        import_s=statistics.median(imported() for _each in range(STARTS)),
        ansible_cpu_s=middle(nothing, "cpu_s"),
        lists_s=lists,
    )


def imported() -> float:
    """Seconds of importing what ansible-playbook imports of ours before the first task of guests."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".build")},
        capture_output=True,
        check=True,
    )
    return float(done.stdout)


def handed(at: Place, fleet: Fleet) -> float:
    """Seconds of a task whose module is given our list of the fleet, and does nothing."""
    task = {"takes_a_list": {"guests": [fleet.ours(vmid) for vmid in fleet.vmids]}}
    return statistics.median(play(at, task).wall_s for _each in range(STARTS))


def text(settings: Settings, figures: Sequence[Figure], started: words.Starts) -> str:
    """All that is printed."""
    middle = report.medians(figures)
    parts = [
        [f"    {settings.command}"],
        words.machine(),
        words.meaning(settings.disk_gib, settings.workers, settings.rounds),
        report.times(middle),
        words.before(started),
        report.costs(middle),
        report.verdict(report.demands(middle, started.module_s, started.lists_s[1])),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 when a client did not do what it was to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="also write it into docs/performance.md")
    chosen = parser.parse_args(arguments)
    settings = Settings.read(os.environ)
    # However it is ended, its nodes and their state go with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        started = starts(settings)
        printed = text(settings, measured(settings), started)
    except (RuntimeError, NotDone) as error:
        print(error, file=sys.stderr)
        return 1
    print(printed)
    if chosen.markdown:
        report.write(PAGE, printed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
