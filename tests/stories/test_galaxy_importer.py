# SPDX-License-Identifier: GPL-3.0-or-later
"""What Galaxy does with an archive, with all of ansible-lint that it does: it finds nothing. Takes about a minute.

tests/build/test_archive.py does the same without ansible-lint, at each change.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests import importer
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT

pytestmark = pytest.mark.release


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what an archive is made of."""
    names = ("meta", "playbooks", "plugins", "roles", "docs", "changelogs")
    for name in names:
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.md"), ROOT / "galaxy.yml", ROOT / "COPYING", ROOT / "REUSE.toml"]:
        shutil.copy(path, tmp_path / "tree")
    return tmp_path / "tree"


def built(tree: Path, folder: Path) -> Path:
    command = [BIN / "ansible-galaxy", "collection", "build", "--force", "--output-path", folder]
    subprocess.run(command, cwd=tree, check=True, timeout=120)
    (archive,) = folder.glob("pvelab-proxmox-*.tar.gz")
    return archive


def test_it_takes_the_archive_without_a_word(tree: Path, tmp_path: Path) -> None:
    said, found = importer.run(built(tree, tmp_path), tmp_path, lint=True)
    assert "ansible-lint run complete" in said
    assert importer.complaints(said) == []
    assert found["metadata"]["name"] == "proxmox"


def test_it_would_not_take_what_is_broken(tree: Path, tmp_path: Path) -> None:
    (tree / "meta/runtime.yml").write_text("requires_ansible: nonsense\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="requires_ansible"):
        importer.run(built(tree, tmp_path), tmp_path, lint=False)
