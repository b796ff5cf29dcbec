# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles hand over every option of the modules they call: none is forgotten when a module gets a new one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.filter.guest_settings import OPTIONS
from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT, imports, is_stdlib

CALLS = {
    "storage": ("storage", "main.yml"),
    "image": ("images", "main.yml"),
    "pool": ("guests", "main.yml"),
    "vm": ("guests", "make.yml"),
    **dict.fromkeys(
        ("volume_group", "thin_pool", "zpool", "dataset", "directory_storage"), ("storage_pools", "main.yml")
    ),
    **dict.fromkeys(("memory_policy", "zfs_arc", "hugepages", "zram", "swap", "ksm"), ("memory", "main.yml")),
}


PROGRAMS = sorted(ROOT.glob("roles/*/files/**/*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_role_leaves_on_a_host_needs_nothing_but_python(path: Path) -> None:
    role = path.relative_to(ROOT).parts[:3]
    beside = ".".join(["ansible_collections.pvelab.proxmox", *role])
    assert [name for name in imports(path) if not is_stdlib(name) and not name.startswith(beside)] == []


@pytest.fixture(scope="module")
def documented() -> dict[str, set[str]]:
    """Each module's options, without those of the connection."""
    command = Path(sys.executable).with_name("ansible-doc")
    names = [f"pvelab.proxmox.{module}" for module in CALLS]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    said = subprocess.run(
        [command, "-j", "-t", "module", *names], capture_output=True, check=True, env=environment, cwd=ROOT
    )
    return {
        name.rpartition(".")[2]: {option for option in found["doc"]["options"] if not is_connection(option)}
        for name, found in json.loads(said.stdout).items()
    }


def is_connection(option: str) -> bool:
    return option.startswith("api_") or option in ("ca_path", "validate_certs")


@pytest.mark.parametrize("module", CALLS)
def test_a_role_hands_over_every_option(documented: dict[str, set[str]], module: str) -> None:
    role, file = CALLS[module]
    tasks = yaml_load((ROOT / "roles" / role / "tasks" / file).read_text())
    (call,) = [task[f"pvelab.proxmox.{module}"] for task in tasks if f"pvelab.proxmox.{module}" in task]
    assert set(call) == documented[module]
    for name, value in call.items():
        assert re.search(rf"\b\w+\.{name} \| default\(omit\)", value)


@pytest.mark.parametrize(
    ("module", "variable"),
    [
        ("memory_policy", "memory_policy"),
        ("zfs_arc", "memory_zfs_arc"),
        ("hugepages", "memory_hugepages"),
        ("zram", "memory_zram"),
        ("swap", "memory_swap"),
        ("ksm", "memory_ksm"),
    ],
)
def test_the_role_of_the_memory_knows_every_option(documented: dict[str, set[str]], module: str, variable: str) -> None:
    specs = yaml_load((ROOT / "roles/memory/meta/argument_specs.yml").read_text())["argument_specs"]
    assert set(specs["main"]["options"][variable]["options"]) == documented[module]


@pytest.mark.parametrize(
    ("module", "role", "variable"), [("storage", "storage", "storage"), ("image", "images", "images")]
)
def test_a_role_knows_every_option(documented: dict[str, set[str]], module: str, role: str, variable: str) -> None:
    entries = yaml_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    for entry in entries.values():
        for name in (f"{variable}_list", f"{variable}_defaults"):
            assert set(entry["options"][name]["options"]) == documented[module]


def test_the_filter_knows_every_option_of_a_guest(documented: dict[str, set[str]]) -> None:
    assert documented["vm"] == OPTIONS


def test_the_options_of_every_role_can_be_looked_up() -> None:
    """ansible-doc refuses a role of which one option has no description."""
    command = Path(sys.executable).with_name("ansible-doc")
    names = [f"pvelab.proxmox.{path.name}" for path in sorted((ROOT / "roles").iterdir())]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    said = subprocess.run(
        [command, "-t", "role", *names], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert said.returncode == 0, said.stderr
