# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the callback `progress` share: a node whose task takes as long as a test wants, and a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.pvelab.proxmox.tests.integration.api_parts import SECRET, Certificate, upid
from ansible_collections.pvelab.proxmox.tests.integration.bad_server import Answer, Seen
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT

ERASE = "\r\x1b[2K"
TASK = upid("qmslow", "104", 0x6B014F83)
SAID = "transferred 50 % with"
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Wait for {{ what }}
      slow_task: {name: web1}
      no_log: HIDDEN
      vars: {what: it}
    - name: Say goodbye
      ansible.builtin.debug: {msg: goodbye}
"""


class SlowNode:
    """Its task runs until ``released`` is set; ``asked`` is set once its log has been read while it runs.

    The log names the secret that the client has logged in with, which no task of Proxmox VE does.
    """

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked = threading.Event()
        self.statuses = 0
        self.host = ""

    def __call__(self, seen: Seen) -> Answer:
        if seen.path == "/nodes/pve1/slow":
            return Answer(data=TASK)
        if seen.path.endswith("/log"):
            self.asked.set()
            return Answer(data=[{"n": 1, "t": f"{SAID} {SECRET}\x1b[31m"}, {"n": 2, "t": ""}], extra={"total": 2})
        self.statuses += 1
        over = self.released.is_set()
        return Answer(data={"status": "stopped", "exitstatus": "OK"} if over else {"status": "running"})


def environment(host: str, certificate: Certificate, folder: Path, **more: str) -> dict[str, str]:
    """Where a play finds the node, the callback and the module."""
    others = ("PROXMOX_", "ANSIBLE_", "CI", "COLUMNS", "JENKINS")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return {
        **inherited,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT / ".build"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LIBRARY": str(Path(__file__).with_name("library")),
        # A module that is killed leaves there what Ansible unpacked it to.
        "TMPDIR": str(folder),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_CALLBACKS_ENABLED": "pvelab.proxmox.progress",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        "TERM": "xterm",
        "PROXMOX_HOST": host,
        "PROXMOX_TOKEN_ID": "root@pam!ci",
        "PROXMOX_TOKEN_SECRET": SECRET,
        "PROXMOX_FINGERPRINT": certificate.pin,
        **more,
    }


def command(folder: Path, *, hidden: bool = False) -> list[str]:
    """A run of the play; ``hidden`` is whether the task that waits is a secret."""
    play = folder / "play.yml"
    play.write_text(PLAY.replace("HIDDEN", str(hidden).lower()), encoding="utf-8")
    return [str(BIN / "ansible-playbook"), "-i", "localhost,", "-c", "local", str(play)]


class Terminal:
    """A process whose terminal this is; ``text`` is all that it has written there."""

    def __init__(self, argv: list[str], env: Mapping[str, str], columns: int = 150) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=dict(env), cwd=ROOT, start_new_session=True
        )
        os.close(theirs)
        self.text = ""

    def read(self, wanted: str = "", timeout_s: float = 60.0) -> None:
        """Read on until the text holds what is wanted or, without that, until the process has closed the terminal."""
        deadline = time.monotonic() + timeout_s
        while not wanted or wanted not in self.text:
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {wanted or 'the end'}\n{self.text}"
            if not select.select([self._ours], [], [], 0.5)[0]:
                continue
            try:
                piece = os.read(self._ours, 1 << 16)
            except OSError:  # the other side is closed
                assert not wanted, self.text
                return
            self.text += piece.decode(errors="replace").replace("\r\n", "\n")

    def screen(self) -> list[str]:
        """The lines as somebody sees them who looks at the end."""
        return [line.rpartition(ERASE)[2] for line in self.text.split("\n")]

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait()
        os.close(self._ours)
