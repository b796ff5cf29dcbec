# SPDX-License-Identifier: GPL-3.0-or-later
"""The local files that uploads are made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .core.steps import Failure, Missing


@dataclass(frozen=True)
class LocalFile:
    """``size`` in bytes; ``checksum`` in lower-case hex, or None where none was asked for."""

    size: int
    checksum: str | None = None


def measure(path: str, algorithm: str | None = None) -> LocalFile:
    """Size and, with an algorithm of hashlib, checksum of a file, read in pieces. Raises Missing or Failure."""
    try:
        size = Path(path).stat().st_size
        if not Path(path).is_file():
            raise Failure(f"{path} is not a file. Name the file itself.")
        if algorithm is None:
            return LocalFile(size)
        with Path(path).open("rb") as source:
            return LocalFile(size, hashlib.file_digest(source, lambda: hashlib.new(algorithm)).hexdigest())
    except FileNotFoundError:
        raise Missing(f"there is no file {path} on the machine that runs this task.") from None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.") from error
