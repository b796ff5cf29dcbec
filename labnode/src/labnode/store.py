# SPDX-License-Identifier: GPL-3.0-or-later
"""State on disk: atomic files, locks and Proxmox VE's section-config format.

Everything labnode must remember is a file under the state directory. A file is only ever replaced by a complete and
synced successor, so that a kill at any moment leaves the old text or the new one, never half of either.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from labnode.errors import ApiError

_TEMPORARY = ".tmp"


class Store:
    """Text files below one directory. Paths given to its methods are relative to it, e.g. ``etc/user.cfg``.

    ``etc/`` mirrors /etc/pve, so the configuration of guest 100 is ``etc/nodes/NODE/qemu-server/100.conf``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._queues: dict[str, _Queue] = {}

    @cached_property
    def _top(self) -> str:
        return str(self.root.absolute())

    def path(self, rel: str) -> Path:
        """Absolute path of a relative one; refuses to leave the state directory (ValueError)."""
        # Plain text, because every request asks several times, and Path's own arithmetic took a third of its time.
        if rel.startswith("/") or ".." in rel.split("/"):
            raise ValueError(f"path '{rel}' leaves the state directory {self.root}")
        return Path(f"{self._top}/{rel}")

    def exists(self, rel: str) -> bool:
        """Whether the file is there."""
        return self.path(rel).exists()

    def read(self, rel: str) -> str:
        """The text of a file, or the empty string when there is none."""
        return self.find(rel) or ""

    def find(self, rel: str) -> str | None:
        """The text of a file, None when there is none."""
        try:
            return self.path(rel).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write(self, rel: str, text: str, mode: int = 0o640) -> None:
        """Replace a file atomically and durably: temporary file, fsync, rename, fsync of the directory.

        Raises ApiError naming file and cause when the file system refuses; the old file is then still there.
        """
        path = self.path(rel)
        try:
            write_atomic(path, text.encode("utf-8"), mode)
        except OSError as err:
            raise ApiError(f"unable to write '{path}' - {err.strerror}; nothing was changed") from err

    def remove(self, rel: str) -> bool:
        """Delete a file durably; False when it was not there."""
        path = self.path(rel)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        sync_dir(path.parent)
        return True

    def names(self, rel: str, suffix: str = "") -> list[str]:
        """Sorted names of the files in a directory that end in ``suffix``; empty when there is no such directory."""
        directory = self.path(rel)
        if not directory.is_dir():
            return []
        return sorted(p.name for p in directory.iterdir() if p.name.endswith(suffix) and not p.name.startswith("."))

    def sweep(self) -> None:
        """Remove what a kill left behind: half-written files, and uploads that nobody took."""
        for stray in [*self.path("etc").rglob(f".*{_TEMPORARY}"), *self.path("tmp").glob("upload-*")]:
            stray.unlink(missing_ok=True)

    @staticmethod
    def digest(text: str) -> str:
        """SHA-1 of the text in hexadecimal: what Proxmox VE calls ``digest`` of a configuration file."""
        return hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()

    @contextlib.asynccontextmanager
    async def lock(self, name: str, timeout: float = 10.0, *, shared: bool = False) -> AsyncIterator[None]:
        """Hold the flock STATE/lock/``name``, e.g. ``qemu-server/lock-100.conf``, across processes.

        Several may hold it ``shared`` (linked clones of one template at a time); otherwise only one.
        Not re-entrant. Raises ApiError "can't lock file '...' - got timeout" after ``timeout`` seconds.
        """
        path = self.path(f"lock/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout
        async with contextlib.nullcontext() if shared else self._turn(name, path, timeout):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                await _flock(fd, path, deadline, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)

    @contextlib.asynccontextmanager
    async def _turn(self, name: str, path: Path, timeout: float) -> AsyncIterator[None]:
        """A place in this process's queue: a flock tells nobody that it is free, and who waits for it looks late."""
        queue = self._queues.setdefault(name, _Queue())
        queue.users += 1
        try:
            try:
                async with asyncio.timeout(timeout):
                    await queue.lock.acquire()
            except TimeoutError:
                raise _got_timeout(path) from None
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[name]


@dataclass
class _Queue:
    """Those of this process who hold a lock or wait for it, first come, first served."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


def _got_timeout(path: Path) -> ApiError:
    return ApiError(f"can't lock file '{path}' - got timeout")


async def _flock(fd: int, path: Path, deadline: float, mode: int) -> None:
    pause = 0.002
    while True:
        try:
            fcntl.flock(fd, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _got_timeout(path) from None
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def write_atomic(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Replace ``path`` by ``data`` so that a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, tmp = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(data)
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        os.rename(tmp, path)
    except BaseException:
        Path(tmp).unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Make renames and removals in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass
class Section:
    """One section of a section-config file: ``type: id`` and indented ``key value`` lines below it."""

    type: str
    id: str
    options: dict[str, str] = field(default_factory=dict)


def parse_sections(text: str) -> dict[str, Section]:
    """Sections by id, in file order. A key without a value reads as "1", as Proxmox VE does for bare flags."""
    found: dict[str, Section] = {}
    current: Section | None = None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] not in " \t":
            kind, _, ident = line.partition(":")
            current = Section(kind.strip(), ident.strip())
            found[current.id] = current
        elif current is not None:
            key, _, value = line.strip().partition(" ")
            current.options[key] = value.strip() or "1"
    return found


def render_sections(sections: Mapping[str, Section]) -> str:
    """The text of a section-config file; ``parse_sections`` of it gives the same sections back."""
    blocks = []
    for section in sections.values():
        lines = [f"{section.type}: {section.id}"]
        lines += [f"\t{key} {value}" for key, value in section.options.items()]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)
