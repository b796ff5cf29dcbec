# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves for itself before it has its own host go down, and takes up again after the boot."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import clock, shell
from .shell import Trouble


def of(home: Path) -> Path:
    """The file."""
    return home / "handover.json"


def leave(home: Path, known: Mapping[str, Any]) -> None:
    """Have it on the disk, with the time by both clocks."""
    shell.write(of(home), json.dumps({"at": clock.now(), "wall": time.time(), **known}) + "\n")


def pending(home: Path) -> bool:
    """Whether a run waits for a boot, or for that boot's end."""
    return (of(home)).exists()


def take(home: Path) -> dict[str, Any]:
    """What was left, once, with the clock of the run going on from there. Raises Trouble where nothing was."""
    try:
        left: dict[str, Any] = json.loads((of(home)).read_text(encoding="utf-8"))
        clock.go_on(float(left["at"]), float(left["wall"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Trouble(f"{of(home)} says nothing to go on from: {type(error).__name__} {error}") from error
    (of(home)).unlink()
    return left
