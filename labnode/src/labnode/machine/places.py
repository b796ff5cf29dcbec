# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a running guest keeps its files, and whether its process is alive."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from labnode.errors import ApiError

LONGEST_SOCKET = 90  # a Unix socket's path ends at 107 bytes; the names below it need the rest


def socket_root(run_dir: Path) -> Path:
    """A directory for sockets: `run_dir` itself, or a short one of this user's in the temporary directory when that
    path is too long."""
    if len(str(run_dir)) <= LONGEST_SOCKET - 20:
        return run_dir
    short = hashlib.sha1(str(run_dir).encode(), usedforsecurity=False).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"labnode-{os.getuid()}-{short}"


def make_private(path: Path, run_dir: Path) -> None:
    """Create a directory for this user only. Raises ApiError when the directory for sockets is somebody else's: in the
    temporary directory anybody could have made it first."""
    root = socket_root(run_dir)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.lstat().st_uid != os.getuid() or root.is_symlink():
        raise ApiError(f"'{root}' belongs to another user - remove it, or choose a shorter state directory")
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def clear_sockets(run_dir: Path) -> None:
    """Remove the short directory for sockets, if there is one; nothing may be listening there any more."""
    root = socket_root(run_dir)
    if root != run_dir:
        shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True)
class Places:
    """Files of one guest below STATE/run/ID."""

    run_dir: Path
    vmid: int

    @property
    def directory(self) -> Path:
        """The guest's own directory."""
        return self.run_dir / str(self.vmid)

    def socket(self, name: str) -> Path:
        """A Unix socket: qmp, qga, vnc, serial0, swtpm."""
        return socket_root(self.run_dir) / str(self.vmid) / f"{name}.sock"

    @property
    def pid_file(self) -> Path:
        """Written by QEMU."""
        return self.directory / "qemu.pid"

    @property
    def meta(self) -> Path:
        """What was started: machine type, CPU, QEMU version, time."""
        return self.directory / "meta.json"

    @property
    def log(self) -> Path:
        """What QEMU itself says while it runs."""
        return self.directory / "qemu.log"

    def serial_log(self, number: int) -> Path:
        """Everything the guest wrote to a serial port."""
        return self.directory / ("serial.log" if number == 0 else f"serial{number}.log")

    def make(self) -> None:
        """Create the directories, for this user only."""
        for path in (self.directory, self.socket("x").parent):
            make_private(path, self.run_dir)

    def pid(self) -> int | None:
        """The guest's process, None when it is gone. A reused pid is told apart by the command line naming this
        guest's socket."""
        # Asked for every guest of a list, most of which have no such file.
        return live_pid(self.pid_file, str(self.socket("qmp"))) if self.pid_file.exists() else None


def live_pid(pid_file: Path, mark: str) -> int | None:
    """The process of a pid file if it runs and its command line holds `mark`."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return None
    return pid if mark.encode() in command and state not in ("Z", "X") else None


@dataclass(frozen=True)
class Used:
    """Of a process: seconds of CPU, seconds since its start, resident bytes."""

    cpu_seconds: float
    uptime: float
    resident: int


def used(pid: int) -> Used | None:
    """From /proc; None when the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    busy = (int(fields[11]) + int(fields[12])) / tick
    return Used(busy, max(0.0, up - int(fields[19]) / tick), int(fields[21]) * page)
