# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/security.md says what docs/privileges.yml says, of every module of the API."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT
from ansible_collections.pvelab.proxmox.tests.privileges import security_page


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return security_page()


def test_the_page_is_what_the_data_make_of_it(tool: ModuleType) -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    assert tool.written(page) == page, "docs/privileges.yml has changed: run python tools/security_page.py"


def test_every_module_of_the_api_says_what_it_needs(tool: ModuleType) -> None:
    group = yaml_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]["api"]
    data = tool.load()
    assert sorted(data["modules"]) == sorted(group)
    entries = [e for lists in (*data["modules"].values(), data["inventory"]) for e in lists]
    assert {tuple(sorted(e)) for e in entries} == {("for", "path", "privilege")}
    assert {e["path"] for e in entries} <= set(tool.ROLES)


def test_the_modules_that_roles_call_are_found(tool: ModuleType) -> None:
    assert {"guests", "images", "snapshots", "storage"} <= set(tool.used_by_roles(tool.load()["modules"]))


def test_every_test_that_the_page_names_is_there() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = {word for word in text.replace("`", " ").split() if word.startswith("tests/") and word.endswith(".py")}
    assert named and [n for n in named if not Path(ROOT, n).is_file()] == []
