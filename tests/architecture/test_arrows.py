# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrows point down only: modules → core, one seam, module.py; seams → core; core → the standard library."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests.architecture.tree import (
    MODULES,
    OURS,
    UTILS,
    files,
    imports,
    is_stdlib,
    name,
    nodes,
    product_python,
)

SHELL = UTILS / "module.py"
# The shell's way of telling how far it is while it runs.
CHANNEL = UTILS / "progress.py"
SEAMS = {"api", "host"}
# A core that cannot reach the outside or a clock can be tested with data alone.
IMPURE = {
    "asyncio", "http", "io", "locale", "os", "pathlib", "random", "secrets", "select", "shutil", "signal", "socket",
    "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid",
}  # fmt: skip
# The only places where an unforeseen error becomes an answer: the shell, and where a request or a task ends.
BOUNDARIES = {"plugins/module_utils/module.py", "labnode/src/labnode/app.py", "labnode/src/labnode/tasks.py"}


def part(path: Path) -> str:
    """The layer of a file in module_utils."""
    if path.parent != UTILS:
        return path.relative_to(UTILS).parts[0]
    stem = path.stem.split("_")[0]
    return stem if stem in SEAMS | {"module"} or path == CHANNEL else "helper"


def own(path: Path) -> set[str]:
    """The files of module_utils that a file imports, as names below it ("core.steps")."""
    return {i.removeprefix(OURS).strip(".") for i in imports(path) if i.startswith(OURS)}


def foreign(path: Path) -> set[str]:
    return {i for i in imports(path) if not is_stdlib(i) and not i.startswith(OURS)}


@pytest.mark.parametrize("path", files("*.py", under="plugins/module_utils/core"), ids=name)
def test_core_is_pure(path: Path) -> None:
    assert foreign(path) == set(), "core imports the standard library only"
    assert {i for i in own(path) if not i.startswith("core")} == set(), "core imports nothing above it"
    assert imports(path) & IMPURE == set(), "core has no I/O and no clock"
    calls = {n.func.id for n in nodes(path) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert calls & {"open", "input", "print", "exec", "eval"} == set()


@pytest.mark.parametrize("path", sorted(UTILS.glob("*.py")), ids=name)
def test_helpers_and_seams_point_down(path: Path) -> None:
    layer = part(path)
    if layer in SEAMS:
        wrong = {i for i in own(path) if not i.startswith("core") and i.split("_")[0] != layer}
        assert wrong == set(), f"the {layer} seam imports core and its own parts"
        assert {i for i in foreign(path) if i.startswith("ansible")} == set(), "a seam knows nothing of Ansible"
    elif layer == "helper":
        upwards = {i for i in own(path) if i.split("_")[0] in SEAMS | {"module"}}
        assert upwards == set(), "a helper works through a seam that it is handed"
        assert foreign(path) == set()
        assert imports(path) & (IMPURE - {"uuid", "time"}) == set(), "I/O belongs into a seam"
    assert path == SHELL or "progress" not in own(path), "what tells progress is handed it: core.progress.Progress"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_use_one_seam_and_the_shell(path: Path) -> None:
    used = own(path)
    assert foreign(path) == set(), "a module imports the standard library and module_utils"
    assert "module" in used, "main() is one call of module.run"
    assert len(used & SEAMS) == 1, "exactly one seam"
    assert {i for i in used if i.split("_")[0] in SEAMS} <= SEAMS, "the inner parts of a seam are its own"
    assert imports(path) & IMPURE == set(), "I/O belongs into a seam"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_declarations(path: Path) -> None:
    words = {"check_mode", "exit_json", "fail_json", "AnsibleModule", "_diff"}
    names = {n.id for n in nodes(path) if isinstance(n, ast.Name)}
    names |= {n.attr for n in nodes(path) if isinstance(n, ast.Attribute)}
    names |= {a.arg for n in nodes(path) if isinstance(n, ast.arguments) for a in [*n.args, *n.kwonlyargs]}
    assert names & words == set()
    assert "RESOURCE" in names


@pytest.mark.parametrize("path", product_python(), ids=name)
def test_no_broad_except_below_the_shell(path: Path) -> None:
    if name(path) in BOUNDARIES:
        return
    handlers = [n for n in nodes(path) if isinstance(n, ast.ExceptHandler)]
    # Cleaning up and raising again swallows nothing.
    broad = [h.lineno for h in handlers if is_broad(h.type) and not isinstance(h.body[-1], ast.Raise)]
    assert broad == [], f"broad except in lines {broad}"


def is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(is_broad(inner) for inner in caught.elts)
    return caught is None or (isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"})


@pytest.mark.parametrize("path", product_python(), ids=name)
def test_constructors_do_no_io(path: Path) -> None:
    verbs = {"open", "run", "Popen", "connect", "read_text", "write_text", "read_bytes", "mkdir", "unlink", "request"}
    for maker in nodes(path):
        if isinstance(maker, ast.FunctionDef) and maker.name in {"__init__", "__post_init__"}:
            called = {
                n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")
                for n in ast.walk(maker)
                if isinstance(n, ast.Call)
            }
            assert called & verbs == set(), f"line {maker.lineno}"


def test_labnode_and_collection_do_not_know_each_other() -> None:
    for path in files("*.py", under="labnode/src"):
        assert not {i for i in imports(path) if i.startswith("ansible")}, name(path)
    for path in files("*.py", under="plugins"):
        assert not {i for i in imports(path) if i.split(".")[0] == "labnode"}, name(path)
