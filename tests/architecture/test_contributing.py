# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk-through of writing a resource is done as written: its module passes its cases, the linter and the arrows."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT, code_lines, parsed
from ansible_collections.pvelab.proxmox.tests.unit.plugins.modules.test_cases import judge as run_case

PACKAGE = "ansible_collections.pvelab.proxmox.plugins.modules"
PAGE = ROOT / "docs/guides/writing-a-resource.md"
TEXT = PAGE.read_text(encoding="utf-8")


def listing(path: str) -> str:
    """The text of the code block that the page puts under a file name."""
    found = re.search(rf"^`{re.escape(path)}`:\n\n```\w+[^\n]*\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"{PAGE.name} shows no {path}"
    return found[1]


CASES = yaml_load(listing("tests/unit/cases/group.yml"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "group.py"
    path.write_text(listing("plugins/modules/group.py"), encoding="utf-8")
    return path


@pytest.fixture
def group(source: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the page, importable as if it were in its place."""
    spec = importlib.util.spec_from_file_location(f"{PACKAGE}.group", source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"{PACKAGE}.group", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_cases_of_the_page_pass(case: dict[str, object], check: bool) -> None:
    run_case("group", case, check)


def test_module_of_the_page_is_as_small_and_clean_as_others(source: Path) -> None:
    arguments = ["check", "--config", str(ROOT / "ruff.toml"), "--ignore", "E402", str(source)]
    done = subprocess.run(
        [Path(sys.executable).parent / "ruff", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert code_lines(parsed(source), source.read_text(encoding="utf-8")) < 110


def test_every_target_that_documents_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs/guides").rglob("*.md"), ROOT / "tests/README.md"]:
        text = page.read_text(encoding="utf-8")
        # In a sentence, or as a line of its own with no more than settings and a remark behind it.
        found = re.findall(r"(?:^    |`)make ([a-z-]+)|^make ([a-z-]+)(?: [A-Z_]+=\S+)*(?: +#.*)?$", text, re.MULTILINE)
        for target in filter(None, (name for names in found for name in names)):
            assert re.search(rf"^{target}:|PARTS := .*\b{target}\b", makefile, re.MULTILINE), f"{page.name}: {target}"


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/README.md"]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists() or "NNNN" in link, f"{page.relative_to(ROOT)}: {link}"
