# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose guests have an agent: what it is told to run in them, this machine's own shell runs."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import FakeNode, Package, program

BOOTS = ("0a1b2c3d-0000-4000-8000-000000000000", "4e5f6071-0000-4000-8000-000000000000")

# A guest's `cat` of its boot id says what the test wants; everything else is the real thing.
_CAT = """#!/bin/sh
[ "$1" != /proc/sys/kernel/random/boot_id ] || exec echo "$BOOT"
exec /bin/cat "$@"
"""
_DD = """#!/bin/sh
case "$*" in
*conv=*)
    [ -z "$FAILS" ] || exit 1
    [ -z "$LIES" ] || exec /bin/cat > /dev/null ;;
*iflag=direct*)
    [ -z "$CACHED" ] || exit 1
    # not every file system of a test takes direct reads
    set -- $(echo "$@" | sed 's/iflag=direct//') ;;
esac
exec /bin/dd "$@"
"""


class Agents(FakeNode):
    """Stands for each connection to the node. ``silent``: it answers nothing at all. ``dumb``: the agent does not
    answer. ``fails``: writes in the guest fail. ``lies``: the guest acknowledges what it does not write."""

    def __init__(self, drill: Package, folder: Path) -> None:
        super().__init__(folder)
        self.drill, self.boot = drill, BOOTS[0]
        self.silent, self.dumb, self.fails, self.lies, self.cached = (threading.Event() for _ in range(5))
        self.programs = folder / "in-the-guest"
        self.programs.mkdir()
        program(self.programs / "cat", _CAT)
        program(self.programs / "dd", _DD)
        self.file_system = "ext2/ext3"
        program(self.programs / "stat", '#!/bin/sh\necho "$FILE_SYSTEM"\n')
        self.running: dict[int, subprocess.Popen[str]] = {}
        self.asked: list[str] = []

    def get(self, path: str, **params: Any) -> Any:
        self._reached(path)
        if not path.endswith("/agent/exec-status"):
            return super().get(path, **params)
        process = self.running[int(params["pid"])]
        try:
            out, _err = process.communicate(timeout=10)
        except ValueError:
            out = ""
        return {"exited": 1, "exitcode": process.returncode, "out-data": out}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        self._reached(path)
        assert (method, path.rpartition("/")[2]) == ("POST", "exec")
        assert body is not None
        self.asked.append(" ".join(body["command"]))
        process = subprocess.Popen(
            body["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "BOOT": self.boot,
                "FILE_SYSTEM": self.file_system,
                **{name: "1" for name in ("FAILS", "LIES", "CACHED") if getattr(self, name.lower()).is_set()},
            },
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # a write that fails need not read first
            process.stdin.write(str(body.get("input-data", "")))
            process.stdin.close()
        process.stdin = None
        self.running[process.pid] = process
        return {"pid": process.pid}

    def _reached(self, path: str) -> None:
        if self.silent.is_set():
            raise self.drill.node.Silent(f"{path}: no route to host")
        if self.dumb.is_set() and "/agent/" in path:
            raise self.drill.node.Silent(f"{path}: answers 500 QEMU guest agent is not running")
