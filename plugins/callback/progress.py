# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Long tasks show life: a bar in a terminal, lines in a log."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
version_added: 1.0.0
short_description: Show how far long tasks are
description:
  - In a terminal it draws one line at the bottom, with a bar where objects are counted, how many of them are done,
    under way and failed, and the last line of the log of the task that the node is carrying out. Whatever else is
    printed takes its place.
  - In AWX, in CI and where standard output is no terminal it prints a plain line for a task that has run for
    O(interval_s) seconds, and again after as many.
  - It prints nothing where the output is for machines, as with C(ansible.posix.json), and nothing where it is no
    terminal and comes from a callback that it does not know.
  - What a module tells while it runs comes through a pipe of the process that runs the playbook, so it is shown for
    modules that run on the same machine, on Linux, as all modules for the API do that are delegated to it. Of
    others it shows the task, its hosts, for how long it has run, and how often it has been tried.
  - Of tasks with C(no_log) nothing but their name is shown. Secret options of a task are taken out of all that its
    module tells.
options:
  show:
    description:
      - What to show. V(auto) chooses by what standard output is. V(bar) is V(lines) where that is no terminal, and
        nothing of it is shown between the output for a machine.
    type: str
    choices: [auto, bar, lines, nothing]
    default: auto
    env:
      - name: PVELAB_PROGRESS_SHOW
    ini:
      - section: callback_progress
        key: show
  interval_s:
    description: Seconds between plain lines.
    type: float
    default: 30
    env:
      - name: PVELAB_PROGRESS_INTERVAL
    ini:
      - section: callback_progress
        key: interval_s
requirements:
  - It has to be enabled, with C(callbacks_enabled = pvelab.proxmox.progress) in C(ansible.cfg).
"""

EXAMPLES = r"""
# ansible.cfg:
#   [defaults]
#   callbacks_enabled = pvelab.proxmox.progress
#   [callback_progress]
#   interval_s = 60

# For one run only:
#   ANSIBLE_CALLBACKS_ENABLED=pvelab.proxmox.progress ansible-playbook pvelab.proxmox.site
"""

import atexit
import os
import select
import shutil
import sys
import threading
import time
from contextlib import suppress
from typing import Any, TextIO

from ansible import constants
from ansible.plugins.callback import CallbackBase

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress import decode
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress_view import Running, View, choose
from ansible_collections.pvelab.proxmox.plugins.module_utils.progress import VARIABLE

DRAWN_EVERY_S = 0.25
ERASE = "\r\x1b[2K"
# No module writes longer lines; what somebody else writes is not kept.
_LONGEST = 4096
PROMPTS = ("pause", "ansible.builtin.pause")


class _Under:
    """A stream with a line at its end that is erased before anything else is written.

    ``lock`` is the one that Ansible holds while it writes and while it forks, so no fork finds a line half drawn.
    """

    def __init__(self, stream: TextIO, screen: TextIO, lock: Any) -> None:
        self._stream = stream
        self._screen = screen
        self._lock = lock
        self.shown = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what others print, in place of the line."""
        with self._lock:
            self.show("")
            return self._stream.write(text)

    def show(self, line: str) -> None:
        """Draw a line, or erase the one that is there."""
        with self._lock:
            if line != self.shown:
                self._screen.write(f"{ERASE}{line}")
                self._screen.flush()
                self.shown = line


class CallbackModule(CallbackBase):
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "pvelab.proxmox.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._view = View()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._pipe: tuple[int, int] | None = None
        self._rest = b""
        self._bar: _Under | None = None
        self._streams: tuple[TextIO, TextIO] | None = None
        self._names: dict[str, str] = {}
        self._said_at = 0.0
        self._thread: threading.Thread | None = None

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Listen, and show what is heard."""
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        shown = choose(self.get_option("show"), constants.DEFAULT_STDOUT_CALLBACK, terminal, os.environ)
        if shown == "nothing":
            return
        self._listen()
        if shown == "bar":
            self._stand_under()
        # A run that is interrupted has no statistics.
        atexit.register(self._end)
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        self._end()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Only now is the variable part of its name filled in."""
        self._names[task._uuid] = task.get_name()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """So it is with a handler."""
        self._names[task._uuid] = task.get_name()

    def _end(self) -> None:
        """Leave everything as it was."""
        self._ended.set()
        if self._thread is not None and self._pipe is not None:
            with suppress(BlockingIOError):
                os.write(self._pipe[1], b"\n")
            self._thread.join()
            self._thread = None
        if self._bar is not None and self._streams is not None:
            self._bar.show("")
            sys.stdout, sys.stderr = self._streams
            self._bar = None
        if self._pipe is not None:
            os.environ.pop(VARIABLE, None)
            for handle in self._pipe:
                os.close(handle)
            self._pipe = None

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        name = self._names.get(task._uuid) or task.get_name()
        running = Running(name, host.get_name(), time.monotonic(), quiet=bool(task.no_log))
        with self._lock:
            if not self._view.tasks:
                self._said_at = time.monotonic()
            self._view.begin((task._uuid, host.get_name()), running, prompts=task.action in PROMPTS)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task has ended on a host."""
        with self._lock:
            self._view.end(_key(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """So it has."""
        self.v2_runner_on_ok(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """So it has."""
        self.v2_runner_on_ok(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """It has not even begun."""
        self.v2_runner_on_ok(result)

    def v2_runner_retry(self, result: Any) -> None:
        """A task is tried again."""
        told = result.result
        tries, limit = told.get("attempts"), told.get("retries")
        with self._lock:
            self._view.note(_key(result), f"tried {tries} of {limit} times")

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """One item of a loop is done."""
        with self._lock:
            self._view.item(_key(result))

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """So it is."""
        self.v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """So it is."""
        self.v2_runner_item_on_ok(result)

    def _listen(self) -> None:
        """Make the pipe that modules tell their progress to, and its place known to them."""
        reading, writing = os.pipe()
        for handle in (reading, writing):
            os.set_blocking(handle, False)
        self._pipe = reading, writing
        os.environ[VARIABLE] = f"/proc/{os.getpid()}/fd/{writing}"

    def _stand_under(self) -> None:
        """Have everything that is printed from now on erase the bar first."""
        lock = getattr(self._display, "_lock", self._lock)
        self._streams = sys.stdout, sys.stderr
        self._bar = _Under(sys.stdout, sys.stdout, lock)
        sys.stdout = self._bar
        sys.stderr = _Beside(self._streams[1], self._bar)

    def _run(self) -> None:
        """The thread that listens and shows."""
        while not self._ended.is_set():
            self._hear(DRAWN_EVERY_S)
            now = time.monotonic()
            with self._lock:
                self._view.forget({pid for pid in self._view.tellers if os.path.exists(f"/proc/{pid}")})
                drawn = self._view.drawn(now, shutil.get_terminal_size().columns) if self._bar else ""
                line = "" if self._bar or now - self._said_at < self.get_option("interval_s") else self._view.line(now)
            if self._bar is not None:
                self._bar.show(drawn)
            elif line:
                self._said_at = now
                self._display.display(line)

    def _hear(self, patience_s: float) -> None:
        """Take in what modules tell, for as long."""
        end = time.monotonic() + patience_s
        while self._pipe is not None and not self._ended.is_set() and (left := end - time.monotonic()) > 0:
            if not select.select([self._pipe[0]], [], [], left)[0]:
                return
            with suppress(BlockingIOError):
                *lines, rest = (self._rest + os.read(self._pipe[0], 1 << 16)).split(b"\n")
                self._rest = rest[-_LONGEST:]
                with self._lock:
                    for heard in map(decode, lines):
                        if heard is not None:
                            self._view.heard(*heard)


class _Beside:
    """The other stream of the same terminal."""

    def __init__(self, stream: TextIO, under: _Under) -> None:
        self._stream = stream
        self._under = under

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what others print, in place of the bar."""
        self._under.show("")
        return self._stream.write(text)


def _key(result: Any) -> tuple[str, str]:
    return result.task._uuid, result.host.get_name()
