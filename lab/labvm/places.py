# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its files.

    CACHE/image-KEY/    disk.qcow2 and the keys to log in with: the machine as it was built
    CACHE/warm-KEY/     disks and memory of the booted machine
    CACHE/run/NAME/     one running lab: overlays over the warm disks, state, sockets, logs; gone after `down`

CACHE is .cache/lab of the repository, or what the variable PVELAB_CACHE names.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from labvm.errors import LabError

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTFS = REPOSITORY / "lab" / "rootfs"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
LONGEST_SOCKET = 104


def cache_directory() -> Path:
    """The cache, absolute; it need not exist yet."""
    return Path(os.environ.get("PVELAB_CACHE") or REPOSITORY / ".cache" / "lab").absolute()


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold `path` against other processes of this user; waits for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Endpoint:
    """How a running lab is reached from this machine."""

    name: str
    host: str
    ssh_port: int
    api_port: int
    ssh_config: str
    ssh_key: str
    known_hosts: str
    password_file: str
    fingerprint: str


@dataclass(frozen=True)
class Lab:
    """Files of one lab by name. Raises LabError for a name that is no plain word."""

    name: str
    cache: Path

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise LabError(f"lab name '{self.name}': use lower-case letters, digits and '-' (at most 31)")
        if len(str(self.qmp)) > LONGEST_SOCKET:
            raise LabError(
                f"lab '{self.name}': the path '{self.qmp}' is too long for a socket;"
                " name a shorter directory in PVELAB_CACHE"
            )

    @property
    def directory(self) -> Path:
        """Everything of this lab."""
        return self.cache / "run" / self.name

    @property
    def qmp(self) -> Path:
        """QEMU's control socket."""
        return self.directory / "qmp.sock"

    @property
    def pid_file(self) -> Path:
        """Written by QEMU."""
        return self.directory / "qemu.pid"

    @property
    def serial_log(self) -> Path:
        """Everything the machine wrote to its console."""
        return self.directory / "serial.log"

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F`; the host is called `lab`."""
        return self.directory / "ssh_config"

    @property
    def endpoint_file(self) -> Path:
        """JSON of Endpoint; the inventory reads it."""
        return self.directory / "endpoint.json"

    def pid(self) -> int | None:
        """The QEMU process, None when it is gone. A reused pid is told apart by the socket in its command line."""
        try:
            pid = int(self.pid_file.read_text(encoding="ascii"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.qmp).encode() in command and state not in ("Z", "X") else None

    def console_says(self, text: str) -> bool:
        """True when the machine has written that to its console."""
        try:
            return text in self.serial_log.read_text(errors="replace")
        except OSError:
            return False

    def write_endpoint(self, endpoint: Endpoint) -> None:
        """Written whole or not at all."""
        part = self.endpoint_file.with_suffix(".part")
        part.write_text(json.dumps(asdict(endpoint), indent=2) + "\n", encoding="utf-8")
        part.replace(self.endpoint_file)

    def endpoint(self) -> Endpoint:
        """Raises LabError when the lab is not up."""
        try:
            return Endpoint(**json.loads(self.endpoint_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise LabError(f"lab '{self.name}' is not up: start it with 'lab/lab --name {self.name} up'") from None
