# SPDX-License-Identifier: GPL-3.0-or-later
"""Which drills a host has run, which runs now, and what of them is armed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .core.drill_start import RUNNER, unit
from .core.steps import Failure

PROGRAM = "/usr/local/lib/pvelab/drill.pyz"
DIRECTORY = "/var/lib/pvelab/drills"
# A runner that is told to end undoes its fault first, and systemd calls it deactivating meanwhile.
_RUNNING = ("active", "activating", "deactivating", "reloading")


class Reader(Protocol):
    """What is needed of the host."""

    def query(self, argv: Sequence[str], *, ok_rcs: Sequence[int] = (0,), timeout_s: float = 60.0) -> str:
        """What a command prints."""

    def read(self, path: str) -> str | None:
        """A file's text."""

    def names(self, path: str) -> list[str]:
        """A directory's names."""


def runs(host: Reader, directory: str, supervisor: str, only: str | None = None) -> list[dict[str, Any]]:
    """Each run in a directory, the newest first, or the one of that name, as drill_info returns them. What cannot be
    read of one is said in its ``because``. Raises Failure where the directory cannot be listed or systemd be asked.
    """
    names = [name for name in reversed(host.names(directory)) if only in (None, "", name)]
    if supervisor == "systemd":
        running, says = _services(host, names), [f"journalctl -u {unit(name)}" for name in names]
    else:
        running = {name: lives(host, f"{directory}/{name}/{RUNNER}") for name in names}
        says = [f"{directory}/{name}/runner.out" for name in names]
    return [_run(host, f"{directory}/{name}", running[name], said) for name, said in zip(names, says, strict=True)]


def is_open(run: Mapping[str, Any]) -> bool:
    """Whether there is something to end or to undo."""
    return bool(run["armed"] or run["running"])


def lives(host: Reader, record: str) -> bool:
    """Whether any of the processes lives that a file names: one with that id that began then."""
    for line in (host.read(record) or "").splitlines():
        pid, _space, start = line.partition(" ")
        fields = (host.read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        # From the third on: the state is the first of them, and the 22nd is when it began.
        if len(fields) > 19 and fields[19] == start and fields[0] not in ("Z", "X"):
            return True
    return False


def _services(host: Reader, names: Sequence[str]) -> dict[str, bool]:
    if not names:
        return {}
    # 3: one of them is not active; 4: there is no such unit any more, which is what becomes of one that has ended
    said = host.query(["systemctl", "is-active", *map(unit, names)], ok_rcs=(0, 1, 3, 4)).split()
    if len(said) != len(names):
        raise Failure(f"systemctl told the state of {len(said)} units, and was asked for {len(names)}.")
    return {name: state in _RUNNING for name, state in zip(names, said, strict=True)}


def _run(host: Reader, home: str, running: bool, says: str) -> dict[str, Any]:
    known: dict[str, Any] = dict.fromkeys(("drill", "state", "verdict", "because", "began_utc"))
    armed = False
    try:
        names = host.names(home)
        # A run that has had its host go down goes on after the boot.
        armed, running = "armed" in names, running or "handover.json" in names
        known.update(_told(host.read(f"{home}/journal.json")))
    except Failure as failure:
        known["because"] = failure.msg
    if not running and known["began_utc"] is None and known["because"] is None:
        known["because"] = f"It has left no journal; {says} says why."
    return {"run": home.rpartition("/")[2], "running": running, "armed": armed, **known}


def _told(text: str | None) -> dict[str, Any]:
    """What a journal says; nothing where there is none yet."""
    if text is None:
        return {}
    try:
        data = json.loads(text)
        return {
            "drill": data["drill"]["name"],
            "state": data["states"][-1]["name"] if data["states"] else None,
            **{key: data[key] for key in ("verdict", "because", "began_utc")},
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Failure(f"Its journal cannot be read: {type(error).__name__} {error}.") from error
