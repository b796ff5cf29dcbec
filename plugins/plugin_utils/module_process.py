# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that is a module, forked from this one: told its options and asked for its result as Ansible does it."""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from ansible.module_utils import _internal, basic
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.common.text.converters import to_text

# How Ansible writes the options of a module and reads its result.
PROFILE = "legacy"
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGALRM})


@dataclass(frozen=True)
class Module:
    """A module that is to run: its ``main``, its options with those that Ansible adds, and where it is to run.

    ``environment`` is added to that of this process; ``folder`` is the working directory. A module that is told to end
    names the task that goes on, for which it has ``end_s`` seconds.
    """

    main: Callable[[], None]
    options: Mapping[str, Any]
    environment: Mapping[str, str]
    folder: str
    end_s: float = 10.0

    def call(self) -> dict[str, Any]:
        """Run it in a process of its own: its ``rc`` (below 0 the signal that ended it), ``stdout`` and ``stderr``.

        Whatever ends the wait for it, a time limit for one, ends it too.
        """
        encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
        written = json.dumps({"ANSIBLE_MODULE_ARGS": self.options}, cls=encoder).encode()
        with _memory("stdout") as out, _memory("stderr") as err:
            # A signal between the fork and what the module makes of it would be taken for one to the worker. One that
            # comes to the worker meanwhile has its way as soon as it may, and by then there is a process to end.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            pid = 0
            try:
                pid = os.fork()
                if pid == 0:
                    self._begin(written, (out, err), before)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                _pid, status = os.waitpid(pid, 0)
            except BaseException:
                if pid:
                    _end(pid, self.end_s)
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return {"rc": os.waitstatus_to_exitcode(status), "stdout": _text(out), "stderr": _text(err)}

    def _begin(self, options: bytes, output: Sequence[IO[bytes]], mask: set[Any]) -> NoReturn:
        """Be the module, in a process that was just forked, and end: nothing that was the worker's is gone back to."""
        try:
            atexit._clear()
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for place, file in enumerate(output, 1):
                os.dup2(file.fileno(), place)
            sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w", closefd=False), "utf-8") for n in (1, 2))
            os.environ.update(self.environment)
            os.chdir(self.folder)
            # What a module warns of goes into its result, not to the display of the worker.
            _internal.is_controller = False
            basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = options, PROFILE
            # All that was the worker's stays, so the collector need not look through it for what can go.
            gc.freeze()
            self.main()
        finally:
            _leave(sys.exc_info()[1])


def _leave(error: BaseException | None) -> NoReturn:
    """End this process as Python ends one in which this was raised."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 0
    elif error:
        status = 1
        traceback.print_exception(error)
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _memory(name: str) -> IO[bytes]:
    """A file that is nowhere on a disk."""
    return open(os.memfd_create(name), "w+b")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return str(to_text(file.read(), errors="surrogate_then_replace"))


def _end(pid: int, patience_s: float) -> None:
    """Have a process end, and wait for it."""
    give_up = time.monotonic() + patience_s
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > give_up:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(0.01)
