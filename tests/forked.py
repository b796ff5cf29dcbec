# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules in processes of their own that need not import first what all of them import.

A process that has the libraries already is forked for each run, which takes a third of the time that Python needs to
start and to import them again.
"""

from __future__ import annotations

import importlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

OWN = "ansible_collections.pvelab.proxmox.plugins.modules"
PRELOADED = ["ansible.module_utils.basic", "proxmoxer.backends.https", "requests_toolbelt", f"{OWN}.vm", f"{OWN}.image"]
LIMIT_S = 300.0
BUILD = Path(__file__).resolve().parents[1] / ".build"

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def _begin_server() -> None:
    """It finds what to preload by PYTHONPATH alone, and is started but once."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(BUILD)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def module(path: str, given: Mapping[str, Any], environment: Mapping[str, str], folder: Path) -> Any:
    """The result of the module at ``path`` (dotted), which reads ``given`` from standard input, run in ``folder``.

    AssertionError with all that it said when that is no result, or when it has not come after LIMIT_S seconds.
    """
    _begin_server()
    with tempfile.TemporaryDirectory(dir=folder) as kept:
        out, err = Path(kept, "out"), Path(kept, "err")
        arguments = (path, json.dumps(given), dict(environment), str(folder), (str(out), str(err)))
        process = _context.Process(target=_run, args=arguments)
        process.start()
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        said = out.read_text(encoding="utf-8") if out.exists() else ""
        complained = err.read_text(encoding="utf-8") if err.exists() else ""
        process.close()
    assert said.strip().startswith("{"), f"no result: {said}\n{complained}"
    return json.loads(said)


def _run(path: str, given: str, environment: dict[str, str], folder: str, said: tuple[str, str]) -> None:
    """In the forked process: become what `python -m PATH` would be, and run it."""
    for number, name in enumerate(said, 1):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "PYTHONPATH" not in environment:
        sys.path[:] = [entry for entry in sys.path if entry != str(BUILD)]
        for name in [n for n in sys.modules if n.partition(".")[0] == "ansible_collections"]:
            del sys.modules[name]
    sys.argv = [path]
    sys.stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
    importlib.import_module(path).main()
