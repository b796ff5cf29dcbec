# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed files by their ending: zstd, gzip, lzo, or as they are."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import zstandard

from labnode.errors import ApiError
from labnode.storage.run import tool

ENDINGS = {"0": "", "1": ".lzo", "lzo": ".lzo", "gzip": ".gz", "zstd": ".zst"}


@contextlib.contextmanager
def packed(path: Path, ending: str) -> Iterator[IO[bytes]]:
    """Write to ``path`` through the compression of ``ending``; synced when the block ends well."""
    with path.open("wb") as raw:
        if ending == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as stream:
                yield cast(IO[bytes], stream)
        elif ending == ".gz":
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as zipped:
                yield cast(IO[bytes], zipped)
        elif ending == ".lzo":
            with _through_lzop(["-c"], raw) as piped:
                yield piped
        else:
            yield raw
        raw.flush()
        os.fsync(raw.fileno())


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Read ``path`` through the compression that its name ends in. ApiError when the program for it is missing."""
    with path.open("rb") as raw:
        if path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                yield cast(IO[bytes], stream)
        elif path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw) as zipped:
                yield cast(IO[bytes], zipped)
        elif path.suffix == ".lzo":
            with subprocess.Popen([_lzop(), "-d", "-c"], stdin=raw, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                yield process.stdout
        else:
            yield raw


@contextlib.contextmanager
def _through_lzop(options: list[str], out: IO[bytes]) -> Iterator[IO[bytes]]:
    process = subprocess.Popen([_lzop(), *options], stdin=subprocess.PIPE, stdout=out)
    assert process.stdin is not None
    try:
        yield process.stdin
    finally:
        process.stdin.close()
        if process.wait():
            raise ApiError(f"lzop ended with {process.returncode}")


def _lzop() -> str:
    program = tool("lzop")
    if program is None:
        raise ApiError("lzo needs the program 'lzop', which is not installed - apt install lzop, or choose zstd")
    return program
