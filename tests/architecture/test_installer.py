# SPDX-License-Identifier: GPL-3.0-or-later
"""The role installer hands over every option of its modules."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT

MODULES = "ansible_collections.pvelab.proxmox.plugins.modules"
ROLE = ROOT / "roles/installer"
# What is not the role's to say: answers are kept or removed by its own list, certificates last as long as they do.
OWN = {"state", "days"}


def options(module: str) -> dict[str, Any]:
    found: dict[str, Any] = importlib.import_module(f"{MODULES}.{module}").OPTIONS
    return found


@pytest.mark.parametrize(
    ("module", "file"),
    [("answer_file", "host"), ("answer_partition", "host"), ("answer_rules", "main"), ("answer_certificate", "main")],
)
def test_every_option_is_handed_over(module: str, file: str) -> None:
    tasks = yaml_load((ROLE / f"tasks/{file}.yml").read_text())
    (call,) = [task[f"pvelab.proxmox.{module}"] for task in tasks if f"pvelab.proxmox.{module}" in task]
    assert set(call) == set(options(module)) - OWN


def test_every_mark_of_a_host_is_handed_over() -> None:
    specs = yaml_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    marks = set(options("answer_rules")["hosts"]["options"])
    assert marks <= set(specs["installer_hosts"]["options"])
    tasks = (ROLE / "tasks/main.yml").read_text()
    assert [mark for mark in sorted(marks) if f"'{mark}'" not in tasks] == []
