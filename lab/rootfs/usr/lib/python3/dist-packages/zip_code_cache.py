# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what Python compiles out of zip files, as it does by itself for other files.

Ansible sends each module as a zip file of sources, and an emulated processor took half of a task's time to compile
them. The key is the source's own hash, so a changed source is compiled; root's tasks use the cache, and nobody else's.
"""

from __future__ import annotations

import _imp
import marshal
import os
import zipimport
from importlib.util import MAGIC_NUMBER
from types import CodeType

DIRECTORY = "/var/cache/zip-code"
MAGIC = int.from_bytes(MAGIC_NUMBER, "little")


def install() -> None:
    """Have zipimport look into the cache before it compiles. Does nothing for users who cannot write there."""
    if os.geteuid() == 0:
        zipimport._compile_source = _cached  # type: ignore[attr-defined]


_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _cached(pathname: str, source: bytes) -> CodeType:
    path = f"{DIRECTORY}/{_imp.source_hash(MAGIC, source).hex()}"
    try:
        with open(path, "rb") as file:
            code: CodeType = marshal.load(file)
        _imp._fix_co_filename(code, pathname)  # type: ignore[attr-defined]
    except (OSError, EOFError, TypeError, ValueError):
        code = _compile(pathname, source)
        _keep(path, code)
    return code


def _keep(path: str, code: CodeType) -> None:
    part = f"{path}.{os.getpid()}"
    try:
        os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
        with open(part, "wb") as file:
            marshal.dump(code, file)
        os.replace(part, path)
    except OSError:  # a full or read-only disk: what was compiled serves all the same
        return
