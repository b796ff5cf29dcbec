# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder makes of execution-environment.yml, and what it finds in the collection, without a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    environment = {"PATH": f"{BIN}:{os.defpath}", "HOME": str(cwd), "LC_ALL": "C.UTF-8", **more}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context, made from a copy of what the file names, so that nothing of it is written into this tree."""
    folder = tmp_path_factory.mktemp("ee")
    dist = folder / ".build/dist"
    run(BIN / "ansible-galaxy", "collection", "build", "--output-path", dist, cwd=ROOT, HOME=str(folder))
    shutil.copy(ROOT / "execution-environment.yml", folder)
    named = ("--file", "execution-environment.yml", "--output-filename", "Containerfile", "--context", "context")
    run(BIN / "ansible-builder", "create", *named, cwd=folder)
    return folder / "context"


def test_the_context_holds_what_the_file_names(context: Path) -> None:
    ours: Any = yaml_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))
    wanted = ours["dependencies"]
    galaxy = yaml_load((context / "_build/requirements.yml").read_text(encoding="utf-8"))
    assert galaxy["collections"] == wanted["galaxy"]["collections"]
    assert (context / "_build/bindep.txt").read_text(encoding="utf-8").split("\n")[0] == wanted["system"][0]
    recipe = (context / "Containerfile").read_text(encoding="utf-8")
    for said in (
        ours["images"]["base_image"]["name"],
        wanted["python_interpreter"]["package_system"],
        wanted["ansible_core"]["package_pip"],
        wanted["ansible_runner"]["package_pip"],
    ):
        assert said in recipe, said


def test_the_collection_is_installed_from_the_context_and_says_what_it_needs(context: Path) -> None:
    """The two steps of the build that need no container: galaxy's, and the introspection of what it has installed."""
    build = context / "_build"
    there = context.parent / "collections"
    run(
        *(BIN / "ansible-galaxy", "collection", "install", "--offline", "-r", "requirements.yml"),
        *("--collections-path", there),
        cwd=build,
    )
    assert (there / "ansible_collections/pvelab/proxmox/plugins/inventory/guests.py").exists()
    said = run(BIN / "ansible-builder", "introspect", there, "--write-pip", "pip.txt", cwd=context.parent)
    asked = (context.parent / "pip.txt").read_text(encoding="utf-8")
    lines = (ROOT / "meta/ee-requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert len(wanted) == 3
    for line in wanted:
        assert any(found.startswith(line) and "pvelab.proxmox" in found for found in asked.splitlines()), (line, said)
