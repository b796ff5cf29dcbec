# SPDX-License-Identifier: GPL-3.0-or-later
"""An execution environment has what the collection imports, in the versions that are tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.test_complete import normal, pins
from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT, files, imports, is_stdlib, name

# Ansible brings itself and PyYAML; requests brings certifi and urllib3.
BROUGHT = {"ansible", "ansible_collections", "certifi", "urllib3", "yaml"}
NAMES = {"requests_toolbelt": "requests-toolbelt"}


def wanted() -> dict[str, str]:
    """The lowest version of each package that execution environments of others are asked for."""
    text = (ROOT / "meta/ee-requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)>=([\d.]+)", line) for line in lines]
    assert all(found), lines
    return {normal(line[1]): line[2] for line in found if line}


def load(path: str) -> Any:
    return yaml_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", files("*.py", under="plugins"), ids=name)
def test_what_plugins_import_is_asked_for(path: Path) -> None:
    foreign = {dotted.split(".", maxsplit=1)[0] for dotted in imports(path) if not is_stdlib(dotted)} - BROUGHT
    assert {normal(NAMES.get(package, package)) for package in foreign} <= set(wanted())


def test_nothing_is_asked_for_that_nobody_imports() -> None:
    used = {dotted.split(".", maxsplit=1)[0] for path in files("*.py", under="plugins") for dotted in imports(path)}
    # proxmoxer imports it by itself, for uploads of more than 10 MiB.
    assert set(wanted()) == {normal(package) for package in used & {"proxmoxer", "requests"}} | {"requests-toolbelt"}


def test_what_is_asked_for_is_what_is_documented_and_tested() -> None:
    run = pins(ROOT / "requirements/run.txt")
    text = (ROOT / "plugins/doc_fragments/connection.py").read_text(encoding="utf-8")
    for package, lowest in wanted().items():
        (tested,) = run[package]
        assert [int(part) for part in tested.split(".")] >= [int(part) for part in lowest.split(".")], package
        said = re.search(rf"- {package.replace('-', '_')} (?:>= ([\d.]+))?", text)
        assert said and said[1] in (None, lowest), f"{package} is documented otherwise"


def test_our_own_environment_has_the_versions_that_are_tested() -> None:
    ours = load("execution-environment.yml")
    core, runner = (ours["dependencies"][key]["package_pip"].split("==") for key in ("ansible_core", "ansible_runner"))
    assert core[1] in pins(ROOT / "requirements/run.txt")["ansible-core"]
    assert {runner[1]} == pins(ROOT / "requirements/test.txt")["ansible-runner"]
    python = ours["dependencies"]["python_interpreter"]["package_system"].removeprefix("python")
    assert [int(part) for part in python.split(".")] >= [3, 12], "ansible-core 2.21 needs it"


def test_our_own_environment_holds_this_version() -> None:
    ours, version = load("execution-environment.yml"), load("galaxy.yml")["version"]
    archive = f"pvelab-proxmox-{version}.tar.gz"
    assert ours["dependencies"]["galaxy"]["collections"] == [{"name": f"dist/{archive}", "type": "file"}]
    assert ours["additional_build_files"] == [{"src": f".build/dist/{archive}", "dest": "dist"}]
    image = load("playbooks/vars/awx/settings.yml")["awx_image"]
    assert image.endswith(f":{version}")


def test_a_fork_as_a_project_finds_what_the_image_has() -> None:
    """AWX has ansible-core 2.19 read a project's ansible.cfg for an inventory, and names no places for collections."""
    settings = (ROOT / "ansible.cfg").read_text(encoding="utf-8")
    places = re.findall(r"^collections_path = (.+)$", settings, re.MULTILINE)[0].split(":")
    assert places[0] == ".build"
    assert {"~/.ansible/collections", "/usr/share/ansible/collections"} <= set(places)
