# SPDX-License-Identifier: GPL-3.0-or-later
"""Seam 2: the host that the module runs on. Nothing else runs commands or touches files of a host."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from .core.progress import Progress
from .core.steps import Failure, Run, Step, Write

BACKUP_SUFFIX = ".pvelab~"


class Host:
    """Runs commands in the C locale and replaces files atomically. ``warnings`` collects what the user should know."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.warnings: list[str] = []
        self.progress = Progress()

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool) -> Host:
        """A host seam needs no parameters: it is the machine that the module was sent to."""
        return cls(read_only=read_only)

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def query(
        self, argv: Sequence[str], *, ok_rcs: Sequence[int] = (0,), timeout_s: float = 60.0, stdin: str | None = None
    ) -> str:
        """Run a command that only reads and return what it prints. Raises Failure with rc, argv and its complaint."""
        return _run(Run(tuple(argv), stdin=stdin, timeout_s=timeout_s, ok_rcs=tuple(ok_rcs)))

    def read(self, path: str) -> str | None:
        """The text of a file, or None where there is no such file. Raises Failure when it cannot be read."""
        try:
            return Path(path).read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):  # the second: a process that ended while /proc was read
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{path} cannot be read: {_reason(error)}.") from error

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no such directory. Raises Failure."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failure(f"{path} cannot be listed: {_reason(error)}.") from error

    def link(self, path: str) -> str | None:
        """Where a symbolic link leads in the end, as an absolute path; None where there is nothing of that name."""
        return os.path.realpath(path) if os.path.lexists(path) else None

    def which(self, name: str) -> str | None:
        """The path of a program, or None where the host has none; the administrator's directories count, too."""
        return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")

    def do(self, step: Step) -> Any:
        """Carry out a Run (returns its standard output) or a Write. Raises Failure."""
        if self.read_only:
            raise Failure(f"a write was attempted in check mode, which is a bug: {step.describe()}.")
        if step.label:
            self.progress.tell(text=step.label)
        if isinstance(step, Run):
            return _run(step)
        if isinstance(step, Write):
            return _write(step)
        raise Failure(f"a host cannot carry out an API request, which is a bug: {step.describe()}.")


class _Group(subprocess.Popen[str]):
    """A command in a process group of its own; what is left of the group when the block ends is killed."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.communicate()


def _run(step: Run) -> str:
    """Run in a process group of its own, so that a time-out or an interrupt leaves no child behind."""
    try:
        group = _Group(
            list(step.argv),
            stdin=subprocess.PIPE if step.stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C", "LANGUAGE": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise Failure(f"{step.argv[0]} cannot be run: {_reason(error)}.", argv=step.argv) from error
    with group as process:
        try:
            out, err = process.communicate(step.stdin, timeout=step.timeout_s)
        except subprocess.TimeoutExpired:
            raise Failure(
                f"{step.argv[0]} did not finish within {step.timeout_s:g} seconds and was stopped.", argv=step.argv
            ) from None
    if process.returncode not in step.ok_rcs:
        complaint = (err or out).strip() or "it printed nothing"
        raise Failure(
            f"{step.argv[0]} ended with {process.returncode}: {complaint}", rc=process.returncode, argv=step.argv
        )
    return out


def _write(step: Write) -> None:
    path = Path(step.path)
    try:
        if step.in_place and step.content is not None:
            _write_in_place(path, step.content)
            return
        if step.backup and path.exists():
            shutil.copy2(path, f"{path}{BACKUP_SUFFIX}")
        if step.content is None:
            path.unlink(missing_ok=True)
            _sync_directory(path.parent)
            return
        _replace(path, step.content, step.mode, step.validate)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {_reason(error)}.") from error


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _write_in_place(path: Path, content: str | bytes) -> None:
    """One write, as the kernel takes a value whole or not at all; nothing is created where there is no such file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, _bytes(content))
    finally:
        os.close(descriptor)


def _replace(path: Path, content: str | bytes, mode: int, validate: tuple[str, ...]) -> None:
    """Write beside the target, check, sync, rename: at every moment the old or the new file is whole."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as candidate:
            candidate.write(_bytes(content))
            candidate.flush()
            os.fchmod(candidate.fileno(), mode)
            if path.exists():
                owner = path.stat()
                os.fchown(candidate.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(candidate.fileno())
        if validate:
            _run(Run(tuple(name if word == "%s" else word for word in validate)))
        os.replace(name, path)
        _sync_directory(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
