# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs parts of `make test` side by side, shows each one's end, the whole output of what failed, and one summary.

tools/test_all.py PART… [--then PART…]…     those after --then begin when the ones before it have ended; the first of
                                            them is the longest, and the others leave it a processor

What a part prints is in .build/results/PART.log meanwhile, each line with its time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / ".build/results"
LANES = 2


@dataclass(frozen=True)
class Part:
    """One finished part; ``seconds`` on the clock, ``log`` is all that it printed."""

    name: str
    ok: bool
    seconds: float
    log: str


def run(name: str, gives_way: bool, running: dict[str, subprocess.Popen[str]]) -> Part:
    """Run `make NAME` in a process group of its own, so that an interrupt can end all of it."""
    began = time.monotonic()
    with subprocess.Popen(
        [*(beside() if gives_way else ()), "make", "--no-print-directory", name],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        running[name] = process
        lines = []
        with (RESULTS / f"{name}.log").open("w") as log:
            for line in process.stdout or ():
                lines.append(line)
                log.write(f"{time.strftime('%H:%M:%S')} {line}")
                log.flush()
        process.wait()
        del running[name]
    return Part(name, process.returncode == 0, time.monotonic() - began, "".join(lines))


def counted(parts: list[Part]) -> Counter[str]:
    """Tests by outcome: those that left a report, and one for each part that is not made of tests."""
    total: Counter[str] = Counter()
    failed_in: Counter[str] = Counter()
    for report in sorted(RESULTS.glob("*.xml")):
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            total += Counter(passed=tests - skipped - failed, failed=failed, skipped=skipped)
            failed_in[report.stem] += failed
    for part in parts:
        if part.ok and part.name not in failed_in:
            total["passed"] += 1
        # A part may fail outside its tests, too: while it sets itself up, say.
        if not part.ok and not failed_in[part.name]:
            total["failed"] += 1
    return total


def tell(part: Part) -> None:
    """The end of a part, with all that it printed when it failed."""
    if not part.ok:
        print(part.log)
    print(f"{'ok' if part.ok else 'FAILED'}: make {part.name} ({part.seconds:.0f} s)", flush=True)


def summary(groups: list[tuple[list[Part], float]]) -> None:
    """Each group of parts with how long it took side by side."""
    total = counted([part for parts, _seconds in groups for part in parts])
    lines = []
    for parts, seconds in groups:
        lines += [f"  {'ok    ' if p.ok else 'FAILED'}  {p.name:<12} {p.seconds:6.0f} s" for p in parts]
        lines.append(f"  {'all of it':<20} {seconds:6.0f} s")
    print("\n" + "\n".join(lines) + "\n")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped", flush=True)


def side_by_side(wanted: list[tuple[str, bool]], running: dict[str, subprocess.Popen[str]]) -> list[Part]:
    """Run parts, each giving way or not, in LANES lanes. Raises KeyboardInterrupt with all of them ended."""
    parts: list[Part] = []
    with ThreadPoolExecutor(LANES) as lanes:
        try:
            for done in as_completed([lanes.submit(run, *part, running) for part in wanted]):
                parts.append(done.result())
                tell(parts[-1])
        except KeyboardInterrupt:
            lanes.shutdown(wait=False, cancel_futures=True)
            for process in list(running.values()):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
            raise
    return parts


def beside() -> list[str]:
    """What keeps a command off one processor. Its being nice would not: the kernel shares processors out by sessions
    (sched_autogroup_enabled), and each virtual machine and each node is one of its own."""
    free = sorted(os.sched_getaffinity(0))[1:]
    return ["taskset", "--cpu-list", ",".join(map(str, free))] if free else []


def stages(arguments: list[str]) -> list[list[tuple[str, bool]]]:
    """The parts that run side by side, and whether each gives way to the first, one stage after the other."""
    found: list[list[tuple[str, bool]]] = [[]]
    for word in arguments:
        if word == "--then":
            found.append([])
        else:
            found[-1].append((word, len(found) > 1 and bool(found[-1])))
    return [stage for stage in found if stage]


def main(arguments: list[str]) -> int:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for old in RESULTS.glob("*.xml"):
        old.unlink()
    # Whoever starts this in the background may have it ignore interrupts, and a test that sends one would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running: dict[str, subprocess.Popen[str]] = {}
    groups: list[tuple[list[Part], float]] = []
    try:
        for wanted in stages(arguments):
            began = time.monotonic()
            parts = side_by_side(wanted, running)
            groups.append((parts, time.monotonic() - began))
    except KeyboardInterrupt:
        return 130
    summary(groups)
    return 0 if all(p.ok for parts, _seconds in groups for p in parts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
