# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing comes without what belongs to it: cases for a module, specs for a role, a licence for a file."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.tree import MODULES, ROLES, ROOT, files, name, parsed

SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"
SHELLS = {"shell", "command", "raw", "script"}
KEYWORDS = {
    "name", "when", "loop", "loop_control", "register", "vars", "become", "delegate_to", "run_once", "tags", "block",
    "rescue", "always", "until", "retries", "delay", "changed_when", "failed_when", "no_log", "notify", "environment",
    "module_defaults", "check_mode", "diff", "any_errors_fatal", "ignore_errors", "with_items", "args", "listen",
    "throttle", "timeout", "ignore_unreachable",
}  # fmt: skip


def constant(path: Path, wanted: str) -> str:
    """The text of a module's DOCUMENTATION, EXAMPLES or RETURN."""
    for node in parsed(path).body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == wanted for t in node.targets):
            return str(ast.literal_eval(node.value))
    raise AssertionError(f"{name(path)} has no {wanted}")


def load(path: Path) -> Any:
    return yaml_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_has_cases(path: Path) -> None:
    cases = load(ROOT / f"tests/unit/cases/{path.stem}.yml")
    assert len({c["name"] for c in cases}) == len(cases), "each case has a name of its own"
    kinds = {"fails" if "fails" in c else bool(c.get("changed", False)) for c in cases}
    attributes = yaml_load(constant(path, "DOCUMENTATION")).get("attributes", {})
    act = attributes.get("idempotent", {}).get("support") == "none"
    wanted = {False} if path.stem.endswith("_info") else {True, "fails"} if act else {True, False, "fails"}
    assert wanted <= kinds, "cases show a change, no change (but for an act, which always is one) and a refusal"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_documents_itself(path: Path) -> None:
    docs = yaml_load(constant(path, "DOCUMENTATION"))
    assert docs["module"] == path.stem
    examples = yaml_load(constant(path, "EXAMPLES"))
    assert any(f"pvelab.proxmox.{path.stem}" in str(task) for task in examples)
    assert constant(path, "RETURN").strip()


def test_modules_of_the_api_have_actions_that_begin_them() -> None:
    group = load(ROOT / "meta/runtime.yml")["action_groups"]["api"]
    actions = {path.stem: path for path in files("*.py", under="plugins/action")}
    assert set(actions) == set(group)
    for module, path in actions.items():
        assert f"main = staticmethod({module}.main)" in path.read_text(encoding="utf-8")


def test_action_group_is_the_modules_of_the_api() -> None:
    group = load(ROOT / "meta/runtime.yml")["action_groups"]["api"]
    fragment = "pvelab.proxmox.connection"
    users = [
        p.stem
        for p in MODULES
        if fragment in yaml_load(constant(p, "DOCUMENTATION")).get("extends_documentation_fragment", [])
    ]
    assert group == sorted(users)


def flat_tasks(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    inner = [t for task in tasks for key in ("block", "rescue", "always") for t in flat_tasks(task.get(key) or [])]
    return [*tasks, *inner]


@pytest.mark.parametrize("path", ROLES, ids=name)
def test_role_is_specified(path: Path) -> None:
    specs = load(path / "meta/argument_specs.yml")["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}
    assert "main" in specs and specs["main"]["short_description"]
    assert [name for name, option in options.items() if not option.get("description")] == []
    defaults = load(path / "defaults/main.yml") if (path / "defaults/main.yml").exists() else {}
    private = {key for key in defaults if key.startswith("_")}
    assert set(defaults) - private <= set(options), "each default is a documented option"
    assert (path / "README.md").exists()


def test_readme_lists_what_there_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [p.stem for p in [*MODULES, *ROLES, *sorted((ROOT / "playbooks").glob("*.yml"))]]
    assert [n for n in names if f"`pvelab.proxmox.{n}`" not in readme] == []


TASK_FILES = [p for role in ROLES for kind in ("tasks", "handlers") for p in sorted((role / kind).rglob("*.yml"))]


@pytest.mark.parametrize("path", TASK_FILES, ids=name)
def test_roles_call_modules_by_full_name_and_no_shell(path: Path) -> None:
    for task in flat_tasks(load(path) or []):
        used = set(task) - KEYWORDS
        assert all(key.count(".") >= 2 for key in used), f"{task.get('name')}: {used}"
        assert not {key.split(".")[-1] for key in used} & SHELLS, f"{task.get('name')} shells out"


HEADED = files("*.py", "*.yml", "*.yaml", "*.sh", "*.cfg", "*.ini", "*.toml", "Makefile")


@pytest.mark.parametrize("path", HEADED, ids=name)
def test_file_names_its_licence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if not text.strip() or path.name == "REUSE.toml" or path == ROOT / "changelogs/changelog.yaml":
        return
    first = text.splitlines()[:3]
    assert any(SPDX in line for line in first), "the first line says the licence"
    if path in MODULES:
        assert any("GNU General Public License v3.0+" in line for line in first)


def pins(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(("#", "-")):
            exact = re.fullmatch(r"([A-Za-z0-9._-]+)==([^;\s]+)(; .+)?", line)
            assert exact, f"{name(path)}: {line} is not pinned"
            found.setdefault(normal(exact[1]), set()).add(exact[2])
    return found


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_requirements_are_pinned_and_agree() -> None:
    names = ("run", "bench", "units", "test", "constraints")
    run, bench, units, test, all_ = (pins(ROOT / f"requirements/{name}.txt") for name in names)
    elsewhere = pins(ROOT / "tests/unit/requirements.txt")
    for package, versions in [*run.items(), *bench.items(), *units.items(), *test.items(), *elsewhere.items()]:
        if package not in {"ansible", "ansible-core"}:
            assert all_.get(package) == versions, package
    # The site has an environment of its own, because of this one package.
    site = {package: versions for package, versions in pins(ROOT / "requirements/docs.txt").items() if package in all_}
    assert [package for package, versions in site.items() if versions != all_[package]] == ["docutils"]
    labnode = tomllib.loads((ROOT / "labnode/pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    needed = {normal(re.split(r"[<>=!~ ;\[]", d)[0]) for d in labnode}
    assert needed <= set(run), "what labnode needs is in requirements/run.txt"


def test_decisions_are_numbered_and_listed() -> None:
    decisions = sorted(p for p in (ROOT / "docs/adr").glob("*.md") if p.name != "README.md")
    assert [p.name[:4] for p in decisions] == [f"{i:04}" for i in range(len(decisions))]
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    assert [p.name for p in decisions if f"({p.name})" not in index] == []
