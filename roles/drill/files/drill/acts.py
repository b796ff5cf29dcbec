# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m drill.acts VERB PLAN [WORD…]: what a fault, its relief or its undo does that is more than a line of shell.

unlock PLAN VMID…                   unlock guests that this drill has locked, where nothing holds them
backup PLAN VMID STORAGE COMPRESS   back a guest up
restore PLAN VMID [STORAGE]         make a guest of that backup, cut off from every network, and start it
discard PLAN                        take away that guest and that backup
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from . import backups, locks, plan, shell
from .node import Node
from .plan import Plan
from .shell import Trouble


def line(wanted: Plan, verb: str, *words: object) -> str:
    """The line of shell that does it."""
    program = f"PYTHONPATH={shlex.quote(wanted.program)}"
    return f"{program} {shlex.join([wanted.python, '-m', 'drill.acts', verb, str(wanted.file), *map(str, words)])}"


def said(wanted: Plan, vmid: int) -> Path:
    """Where it is written what was found when a guest was unlocked."""
    return wanted.home / f"unlocked-{vmid}.txt"


def act(verb: str, wanted: Plan, words: list[str]) -> None:
    """Do it, and say what was done. Raises Trouble."""
    node = Node(wanted.api, wanted.node, timeout_s=wanted.limits.answer_s)
    if verb == "unlock":
        for vmid in map(int, words):
            mine = locks.marker(wanted, vmid).exists()
            found = locks.release(wanted, node, vmid)
            if mine:
                shell.write(said(wanted, vmid), found + "\n")
            print(found)
    elif verb == "backup":
        backups.back_up(wanted, node, int(words[0]), words[1], words[2])
    elif verb == "restore":
        backups.restore(wanted, node, int(words[0]), "".join(words[1:2]))
    elif verb == "discard":
        print(backups.discard(wanted, node))
    else:
        raise Trouble(f"drill.acts knows no {verb}")


def main(argv: list[str]) -> int:
    """As a program: 0, or 2 and what is wrong."""
    try:
        act(argv[0], plan.read(Path(argv[1])), argv[2:])
    except Trouble as why:
        print(f"drill: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
