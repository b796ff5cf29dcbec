# SPDX-License-Identifier: GPL-3.0-or-later
"""Small enough to read: lengths of files and functions, and nothing that silences the tools that hold them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests.architecture.tree import (
    DOC_NAMES,
    MODULES,
    ROOT,
    code_lines,
    files,
    name,
    nodes,
    parsed,
)

FUNCTION, FILE, MODULE = 40, 400, 80
PYTHON = files("*.py")


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    functions = [n for n in nodes(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    many = [f for f in functions if (f.end_lineno or 0) - f.lineno >= FUNCTION]
    long = {f.name: lines for f in many if (lines := code_lines(f, source)) > FUNCTION}
    assert long == {}


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_files_are_short(path: Path) -> None:
    docs = sum((n.end_lineno or 0) - n.lineno + 1 for n in documentation(path))
    assert len(path.read_text(encoding="utf-8").splitlines()) - docs <= FILE


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_declarations_of_few_lines(path: Path) -> None:
    tables = [n for n in parsed(path).body if isinstance(n, ast.Assign) and targets(n) & {*DOC_NAMES, "OPTIONS"}]
    source = path.read_text(encoding="utf-8")
    code = code_lines(parsed(path), source) - sum(code_lines(n, source) for n in tables)
    assert code <= MODULE, "what several modules or states share belongs into plugins/module_utils"


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_nothing_is_silenced(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"noqa: *PLR09\d\d|noqa *$|pylint: *disable|type: ignore *$", text, re.MULTILINE) == []


@pytest.mark.parametrize("path", [p for p in PYTHON if "tests" in p.parts], ids=name)
def test_tests_wait_for_conditions_and_do_not_patch(path: Path) -> None:
    loops = [n for n in nodes(path) if isinstance(n, ast.While | ast.For | ast.AsyncFor)]
    polled = {id(n) for loop in loops for n in ast.walk(loop)}
    sleeps = [
        n
        for n in nodes(path)
        if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "sleep" and not is_zero(n.args[0])
    ]
    assert [n.lineno for n in sleeps if id(n) not in polled] == [], "poll a condition with a deadline"
    imported = {a.name for n in nodes(path) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    assert imported & {"mock", "patch", "MagicMock", "unittest.mock"} == set(), "hand in a fake seam"


def is_zero(node: ast.expr) -> bool:
    """sleep(0) only lets others run."""
    return isinstance(node, ast.Constant) and node.value == 0


def test_no_unfinished_work() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b")
    places = [
        f"{name(p)}:{i}"
        for p in files("*.py", "*.yml", "*.md", "*.toml", "*.cfg", "Makefile")
        if p.name != Path(__file__).name
        for i, line in enumerate(p.read_text(encoding="utf-8").splitlines(), start=1)
        if marks.search(line)
    ]
    assert places == []


def test_nothing_is_ignored_by_sanity() -> None:
    assert list((ROOT / "tests").rglob("ignore*.txt")) == []
    assert "skip_list" not in (ROOT / ".ansible-lint").read_text(encoding="utf-8")
    assert "warn_list" not in (ROOT / ".ansible-lint").read_text(encoding="utf-8")


def documentation(path: Path) -> list[ast.Assign]:
    """The assignments of DOCUMENTATION, EXAMPLES and RETURN, those of a fragment of documentation among them."""
    tree = parsed(path)
    places = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ModuleDocFragment")]
    return [n for body in places for n in body if isinstance(n, ast.Assign) and targets(n) & DOC_NAMES]


def targets(node: ast.Assign) -> set[str]:
    return {t.id for t in node.targets if isinstance(t, ast.Name)}
