# SPDX-License-Identifier: GPL-3.0-or-later
"""galaxy-importer, which Galaxy runs on what it is given: offline, and without its containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent


def run(archive: Path, folder: Path, *, lint: bool) -> tuple[str, Any]:
    """What it says of an archive, and its result. ``lint`` has it run ansible-lint, which takes most of the time."""
    done = subprocess.run(
        [sys.executable, "-m", "galaxy_importer.main", archive],
        cwd=folder,
        env={
            "PATH": f"{BIN}:{os.defpath}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": str(lint).lower(),
            "GALAXY_IMPORTER_RUN_ANSIBLE_TEST": "false",
            "GALAXY_IMPORTER_CHECK_REQUIRED_TAGS": "true",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said, json.loads((folder / "importer_result.json").read_text(encoding="utf-8"))


def complaints(said: str) -> list[str]:
    """The lines that are no mere progress."""
    return [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR", "CRITICAL", "Traceback"))]
