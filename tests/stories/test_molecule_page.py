# SPDX-License-Identifier: GPL-3.0-or-later
"""The role of docs/molecule.md is tested as the page says, with the collection from its archive and nothing of the tree
but the embedded node. Takes about two minutes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab

pytestmark = pytest.mark.release

PAGE = (ROOT / "docs/molecule.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(crew/[^`]+)`:\n\n```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
# Stands in for lab/lab of a clone: it writes down each call, and a node that is up already as the machine's.
STANDIN = """#!/bin/sh
echo "$*" >> {calls}
case "$3" in
    up) echo "up after 1 s" >&2 ;;
    path) echo {folder} ;;
esac
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with the collection from its archive, and the role of the page."""
    folder = tmp_path_factory.mktemp("home")
    environment = {"PATH": f"{BIN}:{os.defpath}", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    galaxy = [BIN / "ansible-galaxy", "collection"]
    subprocess.run([*galaxy, "build", "--output-path", folder], cwd=ROOT, env=environment, check=True, timeout=120)
    (archive,) = folder.glob("pvelab-proxmox-*.tar.gz")
    install = [*galaxy, "install", archive, "--offline", "-p", folder / "collections"]
    subprocess.run(install, cwd=folder, env=environment, check=True, timeout=120)
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def molecule(home: Path, *arguments: str, **more: str) -> str:
    """Run it in the role's directory, with nothing of this tree in the environment."""
    environment = {
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"),
        "NO_COLOR": "1",
        **more,
    }
    command = [BIN / "molecule", *arguments]
    done = subprocess.run(
        command, cwd=home / "crew", env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, "\n".join(
        line for line in said.splitlines() if re.search("ERROR|failed:|fatal:", line)
    )
    return said


def nodes(home: Path) -> list[psutil.Process]:
    """Embedded nodes that were started from this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if "labnode" in " ".join(process.info["cmdline"] or ()) and str(home) in str(process.info["cwd"]):
            found.append(process)
    return found


def test_the_role_of_the_page_is_tested(home: Path) -> None:
    assert len(FILES) == 9, sorted(FILES)
    said = molecule(home, "test")
    actions = ("create", "prepare", "converge", "idempotence", "check", "verify", "destroy")
    assert [a for a in actions if not re.search(rf"{a}.*Executed: Successful", said)] == []
    assert str(ROOT) not in re.sub(re.escape(str(BIN)), "", said), "nothing of the tree is used"
    assert nodes(home) == []


def test_a_lab_machine_takes_the_place_of_the_embedded_node(home: Path, lab: Lab, tmp_path: Path) -> None:
    calls, tool = tmp_path / "calls", tmp_path / "clone/lab/lab"
    tool.parent.mkdir(parents=True)
    tool.write_text(STANDIN.format(calls=calls, folder=tmp_path), encoding="utf-8")
    tool.chmod(0o755)
    endpoint = {
        "host": "127.0.0.1",
        "api_port": lab.port,
        "password_file": str(lab.folder / "password"),
        "fingerprint": lab.fingerprint,
        "ssh_port": 22,
        "ssh_key": "key",
        "ssh_config": "config",
        "known_hosts": "known",
    }
    (tmp_path / "endpoint.json").write_text(json.dumps(endpoint), encoding="utf-8")
    clone = {"PVELAB_CLONE": str(tmp_path / "clone"), "PVELAB_LAB": "mine"}
    molecule(home, "create", **clone)
    molecule(home, "prepare", **clone)
    assert "snippets" in lab.api().storage("local").get()["content"]
    molecule(home, "destroy", **clone)
    assert calls.read_text().splitlines() == ["--name mine up", "--name mine path", "--name mine down"]
    assert nodes(home) == []
