# SPDX-License-Identifier: GPL-3.0-or-later
"""The built archive holds what a collection needs and nothing else, and works where nothing of this tree is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests import importer

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SHIPPED = {
    "CHANGELOG.md", "CONTRIBUTING.md", "COPYING", "FILES.json", "MANIFEST.json", "README.md", "REUSE.toml",
    "ARCHITECTURE.md", "SECURITY.md", "changelogs", "docs", "meta", "playbooks", "plugins", "roles",
}  # fmt: skip
PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/pvelab.proxmox.api:
      api_host: 127.0.0.1
      api_port: 1
      api_user: nobody@pve
      api_password: unused
      api_retries: 0
  tasks:
    - pvelab.proxmox.node_info:
"""


def ansible(command: str, *arguments: str | Path, home: Path, ok: bool = True) -> str:
    """Run a command of Ansible that sees the installed archive and no other copy of this collection."""
    done = subprocess.run(
        [BIN / command, *arguments],
        cwd=home,
        env={
            "PATH": f"{BIN}:{os.defpath}",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"),
            "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [BIN / "ansible-galaxy", "collection", "build", "--output-path", folder], cwd=ROOT, check=True, timeout=120
    )
    (built,) = folder.glob("pvelab-proxmox-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def home(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory in which the archive is installed, without any network."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "ansible.cfg").write_text("[defaults]\n", encoding="utf-8")
    ansible("ansible-galaxy", "collection", "install", archive, "--offline", "-p", folder / "collections", home=folder)
    return folder


def modules() -> list[str]:
    return sorted(p.stem for p in (ROOT / "plugins/modules").glob("*.py"))


def test_archive_holds_only_what_a_collection_needs(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert {name.split("/", maxsplit=1)[0] for name in names} <= SHIPPED
    assert [n for n in names if "__pycache__" in n or n.endswith((".pyc", ".swp"))] == []
    version = yaml_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert archive.name == f"pvelab-proxmox-{version}.tar.gz"


def test_galaxy_would_take_the_archive(archive: Path, tmp_path: Path) -> None:
    """Its importer finds neither an error nor anything to warn of. It asks ansible-doc of every plugin."""
    said, found = importer.run(archive, tmp_path, lint=False)
    assert importer.complaints(said) == []
    contents = {(c["content_type"], c["content_name"]): c for c in found["docs_blob"]["contents"]}
    for name in modules():
        docs = contents["module", name]["doc_strings"]
        assert docs["doc"]["short_description"] and docs["examples"] and docs["return"], name
    kinds = [kind for kind, _name in contents]
    assert [kinds.count(k) for k in ("inventory", "callback", "lookup", "filter")] == [1, 1, 1, 2]
    assert found["docs_blob"]["collection_readme"]["html"]


def test_every_role_is_documented_from_the_archive(home: Path) -> None:
    roles = json.loads(ansible("ansible-doc", "-t", "role", "-j", "--list", "pvelab.proxmox", home=home))
    assert sorted(roles) == sorted(f"pvelab.proxmox.{p.name}" for p in (ROOT / "roles").iterdir() if p.is_dir())


def test_a_play_reaches_the_modules_by_their_full_names(home: Path) -> None:
    play = home / "play.yml"
    play.write_text(PLAY, encoding="utf-8")
    said = ansible("ansible-playbook", play, home=home, ok=False)
    assert "Unable to" in said and "127.0.0.1" in said, said
    assert "Traceback" not in said and "bug in pvelab" not in said


def test_the_playbooks_are_found_by_their_full_names(home: Path) -> None:
    for playbook in sorted((ROOT / "playbooks").glob("*.yml")):
        ansible("ansible-playbook", f"pvelab.proxmox.{playbook.stem}", "--syntax-check", home=home)


def test_the_runtime_file_says_what_there_is() -> None:
    """What Ansible is to be, and for the modules of the API where their common options come from."""
    runtime = yaml_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert sorted(runtime) == ["action_groups", "requires_ansible"]
    assert sorted(runtime["action_groups"]) == ["api"]
    pins = (ROOT / "requirements/run.txt").read_text(encoding="utf-8")
    lowest = min(tuple(map(int, v.split("."))) for v in re.findall(r"^ansible-core==([\d.]+)", pins, re.MULTILINE))
    assert runtime["requires_ansible"] == f">={lowest[0]}.{lowest[1]}.0"
