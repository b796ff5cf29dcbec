# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of drills side by side: each in a process of its own, with a world of its own."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration import drill_worlds, drill_worlds_host, drill_worlds_storage
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, package, soon, wanted
from ansible_collections.pvelab.proxmox.tests.integration.drill_world import World


def _named(modules: tuple[Any, ...]) -> Iterator[tuple[str, type[World]]]:
    for module in modules:
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, World) and "name" in vars(found):
                yield found.name, found


WORLDS: Mapping[str, type[World]] = dict(_named((drill_worlds, drill_worlds_storage, drill_worlds_host)))


# They wait most of the time; more of them would only make each other late.
AT_ONCE = 5


def loaded() -> Iterator[Package]:
    """For a fixture: the package with all that a trial needs of it, so that not each of them reads it anew."""
    for made in package():
        program()
        yield made


def side_by_side(folder: Path, cases: Mapping[str, Callable[[Path], Any]]) -> dict[str, Any]:
    """What each case says, which runs in a process of its own with a folder of its own. What fails there fails here."""
    sys.stdout.flush()
    codes: dict[str, int] = {}
    for first in range(0, len(cases), AT_ONCE):
        some = [*cases.items()][first : first + AT_ONCE]
        begun = {name: os.fork() or _case(folder, name, case) for name, case in some}
        codes |= {name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for name, pid in begun.items()}
    failed = {name: code for name, code in codes.items() if code}
    said = [f"{name} ended with {code}: {_text(folder / f'{name}.failed')}" for name, code in failed.items()]
    assert not failed, "\n".join(said)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in cases}


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _case(folder: Path, name: str, case: Callable[[Path], Any]) -> int:
    """In the process of a case; it does not return."""
    code = 1
    try:
        (folder / name).mkdir()
        (folder / f"{name}.json").write_text(json.dumps(case(folder / name)))
        code = 0
    except BaseException:  # whatever it is: the process that waits is to say it
        (folder / f"{name}.failed").write_text(traceback.format_exc())
    finally:
        os._exit(code)


@contextmanager
def world(drill: Package, name: str, folder: Path) -> Iterator[World]:
    """The world of a drill, in which nothing has happened yet."""
    with pytest.MonkeyPatch.context() as patch, WORLDS[name](drill, folder, patch) as made:
        yield made


# a run to its end -------------------------------------------------------------------------------------------------


def run(here: World, **limits: float) -> dict[str, Any]:
    """A whole drill; what its journal says. Where the host goes down, it goes on after the boot."""
    if not _reboots(here):
        return here.run(**here.wanted(**limits))
    assert os.waitstatus_to_exitcode(os.waitpid(here.process(**limits), 0)[1]) in (0, -signal.SIGKILL)
    if (here.home / "handover.json").exists():
        soon(lambda: here.read("boot-id") != "the-first", "the host is up again")
        return here.ended(runner(here, **limits).resume())
    return here.ended(json.loads((here.home / "journal.json").read_text())["verdict"])


def _reboots(here: World) -> bool:
    return here.kind == "reboot"


def runner(here: World, **limits: float) -> Any:
    return here.drill.runner.Runner(here.drill.plan.from_json(wanted(here.folder, **here.wanted(**limits))))


def program() -> Any:
    """The program itself, as it is called when nobody else is left."""
    return importlib.import_module("drill.__main__")
