# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cache of what Python compiles out of zip files: used when the source is the same, never otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from labvm.places import ROOTFS

MODULES = ROOTFS / "usr/lib/python3/dist-packages"
RUN = """
import sys, zipimport
import zip_code_cache as cache
cache.DIRECTORY = sys.argv[1]
compiled, real = [], cache._compile
def counting(pathname, source):
    compiled.append(pathname)
    return real(pathname, source)
cache._compile = counting
cache.install()
sys.path.insert(0, sys.argv[2])
import one
print(one.VALUE, len(compiled), one.where())
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the cache serves root alone")


class Zips:
    """A module in a zip file, imported by a Python of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"

    def imported(self, name: str, value: int) -> tuple[int, bool, str]:
        """The module's value, whether it was compiled, and the file that its code calls its own."""
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("one.py", f"VALUE = {value}\ndef where():\n    return where.__code__.co_filename\n")
        argv = [sys.executable, "-c", RUN, str(self.cache), str(path)]
        env = {"PYTHONPATH": str(MODULES), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        out = subprocess.run(argv, capture_output=True, text=True, check=True, env=env, timeout=60).stdout.split()
        return int(out[0]), out[1] != "0", out[2]


@pytest.fixture
def zips(tmp_path: Path) -> Zips:
    return Zips(tmp_path)


def test_same_source_is_compiled_once_and_knows_its_own_file(zips: Zips) -> None:
    assert zips.imported("a.zip", 1) == (1, True, str(zips.folder / "a.zip/one.py"))
    assert zips.imported("b.zip", 1) == (1, False, str(zips.folder / "b.zip/one.py"))


def test_changed_source_is_compiled(zips: Zips) -> None:
    zips.imported("a.zip", 1)
    assert zips.imported("a.zip", 2)[:2] == (2, True)


@pytest.mark.parametrize(
    "rest", [b"", b"\0\0\0\0", b"i\1\0\0\0", b"nonsense"], ids=["empty", "zeros", "number", "text"]
)
def test_what_a_power_failure_left_of_an_entry_is_replaced(zips: Zips, rest: bytes) -> None:
    zips.imported("a.zip", 1)
    (entry,) = zips.cache.iterdir()
    entry.write_bytes(rest)
    assert zips.imported("a.zip", 1)[:2] == (1, True)
    assert zips.imported("a.zip", 1)[:2] == (1, False)


def test_cache_that_cannot_be_written_stops_nothing(zips: Zips) -> None:
    zips.cache.write_text("not a directory")
    assert zips.imported("a.zip", 1)[:2] == (1, True)


def test_python_takes_it_up_by_itself() -> None:
    line = (MODULES / "zip_code_cache.pth").read_text().strip()
    code = f"{line}\nimport zipimport; print(zipimport._compile_source.__name__)"
    env = {"PYTHONPATH": str(MODULES), "PYTHONDONTWRITEBYTECODE": "1"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert out == "_cached\n"
