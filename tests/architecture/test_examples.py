# SPDX-License-Identifier: GPL-3.0-or-later
"""Every plugin shows at least two examples, and what they say is what the modules take.

tests/stories/test_examples.py carries out those of the modules of the API, test_host_examples.py there all others.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load, yaml_load_all

from ansible_collections.pvelab.proxmox.tests.architecture.test_complete import constant
from ansible_collections.pvelab.proxmox.tests.architecture.tree import MODULES, ROOT, name
from ansible_collections.pvelab.proxmox.tests.unit.plugins.modules.test_cases import validated

PACKAGE = "ansible_collections.pvelab.proxmox.plugins.modules"
# What stands for a value that only a run knows, for each type of an option.
ANY: dict[str, Any] = {"list": [], "dict": {}, "int": 1, "float": 1.0, "bool": True}
KEYWORDS = {
    "name", "register", "when", "loop", "loop_control", "until", "retries", "delay", "delegate_to", "check_mode",
    "failed_when", "changed_when", "become", "vars", "notify",
}  # fmt: skip


def calls(path: Path) -> list[dict[str, Any]]:
    """What the tasks of the examples hand to their module."""
    examples = yaml_load(constant(path, "EXAMPLES"))
    key = f"pvelab.proxmox.{path.stem}"
    return [task[key] or {} for task in examples if key in task]


def known(value: Any, spec: Mapping[str, Any]) -> Any:
    """The value, with something of the right kind for each template in it."""
    if isinstance(value, str) and "{{" in value:
        return spec["choices"][0] if spec.get("choices") else ANY.get(str(spec.get("type")), "any")
    inner = spec.get("options", {})
    if isinstance(value, Mapping):
        return {k: known(v, inner.get(k, {})) for k, v in value.items()}
    if isinstance(value, list):
        return [known(v, {"type": spec.get("elements"), "options": inner}) for v in value]
    return value


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_shows_two_examples_that_fit_its_options(path: Path) -> None:
    declared = importlib.import_module(f"{PACKAGE}.{path.stem}").RESOURCE
    found = calls(path)
    assert len(found) >= 2
    for given in found:
        validated(declared, known(given, {"options": declared.options}))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_tasks_of_examples_are_tasks(path: Path) -> None:
    for task in yaml_load(constant(path, "EXAMPLES")):
        modules = set(task) - KEYWORDS
        assert len(modules) == 1 and "." in next(iter(modules)), f"{task.get('name')}: {modules}"
        assert task["name"], "a task says what it is for"


def documents(path: Path) -> list[Any]:
    """The examples of a plugin: documents of YAML, or the entries of its one list."""
    beside = path.suffix == ".yml"
    text = yaml_load(path.read_text(encoding="utf-8"))["EXAMPLES"] if beside else constant(path, "EXAMPLES")
    loaded = list(yaml_load_all(text))
    if loaded in ([], [None]):
        # Settings of Ansible are no YAML: each paragraph is one.
        return [part for part in text.split("\n\n") if part.strip()]
    return loaded[0] if len(loaded) == 1 and isinstance(loaded[0], list) else loaded


OTHERS = sorted(
    [p for kind in ("inventory", "lookup", "callback") for p in (ROOT / "plugins" / kind).glob("*.py")]
    + list((ROOT / "plugins/filter").glob("*.yml"))
)


@pytest.mark.parametrize("path", OTHERS, ids=name)
def test_every_other_plugin_shows_two_examples(path: Path) -> None:
    assert len(documents(path)) >= 2
