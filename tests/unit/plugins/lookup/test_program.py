# SPDX-License-Identifier: GPL-3.0-or-later
"""A package becomes one file that Python runs, the same for the same sources."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError

from ansible_collections.pvelab.proxmox.plugins.lookup.program import LookupModule, build


def package(folder: Path) -> Path:
    made = folder / "greets"
    (made / "words").mkdir(parents=True)
    for name in ("__init__.py", "words/__init__.py"):
        (made / name).write_text("")
    (made / "words/hello.py").write_text("TEXT = 'good day'\n")
    (made / "__main__.py").write_text("from .words.hello import TEXT\n\n\ndef main():\n    print(TEXT)\n    return 3\n")
    (made / "notes.txt").write_text("nobody's business")
    return made


def test_it_runs_and_ends_as_the_package_does(tmp_path: Path) -> None:
    (path,) = LookupModule().run([str(package(tmp_path))])
    done = subprocess.run([sys.executable, "-I", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "good day\n")


def test_the_same_sources_make_the_same_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    made, one, two = package(tmp_path), tmp_path / "one", tmp_path / "two"
    build(made, one)
    os.utime(made / "__main__.py", (1, 1))
    (made / "notes.txt").write_text("changed")
    build(made, two)
    assert one.read_bytes() == two.read_bytes()
    (made / "words/hello.py").write_text("TEXT = 'good night'\n")
    build(made, two)
    assert one.read_bytes() != two.read_bytes()


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match=r"has no __main__\.py"):
        LookupModule().run([str(tmp_path)])
