# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the real packages that the stand-ins are made of: a second kernel of Debian, ifupdown and ifupdown2.

    python fetch.py DIRECTORY

apt of this machine does it, with directories of its own, from the mirror that the lab's image is built from. What is
there already is not fetched again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from labvm.build import apt_settings, mirror
from labvm.recipe import SUITE

KERNEL = "linux-image-cloud-amd64"
OTHERS = ("ifupdown", "ifupdown2")
DONE = "complete"


def apt(work: Path, program: str, *argv: str, cwd: Path | None = None) -> str:
    """Standard output of one of apt's programs that knows nothing but what is in `work`."""
    command = [program, "-c", str(work / "apt.conf"), *argv]
    return subprocess.run(command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE).stdout


def prepare(work: Path) -> None:
    """Directories and settings of an apt of its own."""
    for name in ("lists/partial", "cache/archives/partial", "state", "empty"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb {mirror()} {SUITE} main\n")
    paths = {
        "Etc::SourceList": "sources.list",
        "Etc::SourceParts": "empty",
        "State": "state",
        "State::Lists": "lists",
        "State::status": "status",
        "Cache": "cache",
    }
    lines = [f'Dir::{key} "{work / name}";' for key, name in paths.items()]
    lines += ['Acquire::Languages "none";', 'APT::Sandbox::User "root";', 'APT::Architecture "amd64";', apt_settings()]
    (work / "apt.conf").write_text("\n".join(lines) + "\n")


def main(target: Path) -> None:
    """Fill `target`, one file for each package."""
    if (target / DONE).exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        prepare(work)
        apt(work, "apt-get", "-q", "update")
        shown = apt(work, "apt-cache", "show", KERNEL)
        (depends,) = [line for line in shown.splitlines() if line.startswith("Depends:")][:1]
        apt(work, "apt-get", "-q", "download", depends.split()[1], *OTHERS, cwd=target)
    (target / DONE).touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
