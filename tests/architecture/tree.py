# SPDX-License-Identifier: GPL-3.0-or-later
"""What the architecture tests look at: the files of this tree, parsed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UTILS = ROOT / "plugins/module_utils"
MODULES = sorted(p for p in (ROOT / "plugins/modules").glob("*.py") if p.stem != "__init__")
ROLES = sorted(p for p in (ROOT / "roles").glob("*") if p.is_dir())
DOC_NAMES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
OURS = "ansible_collections.pvelab.proxmox.plugins.module_utils"
SKIPPED = {"__pycache__", "build", "output"}


def files(*patterns: str, under: str = ".") -> list[Path]:
    """The files below ``under`` that belong to the project: nothing hidden or generated, no my-….yml of a guide."""
    found = {p for pattern in patterns for p in _walk(ROOT / under) if p.match(pattern)}
    return sorted(found)


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith((".", "my-")) or path.name in SKIPPED or path.name.endswith(".egg-info"):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file():
            yield path


def product_python() -> list[Path]:
    """Every Python file that is shipped: the collection's and labnode's."""
    return [*files("*.py", under="plugins"), *files("*.py", under="labnode/src")]


def name(path: Path) -> str:
    """The path as messages and test ids show it."""
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file: what most rules look at."""
    return tuple(ast.walk(parsed(path)))


@cache
def imports(path: Path) -> frozenset[str]:
    """The dotted names that a file of the collection imports; relative ones made absolute."""
    package = ".".join(["ansible_collections.pvelab.proxmox", *path.relative_to(ROOT).parent.parts])
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import part` imports the part.
            inner = UTILS.joinpath(*source.removeprefix(OURS).strip(".").split("."))
            found |= {f"{source}.{a.name}" if (inner / f"{a.name}.py").exists() else source for a in node.names}
    return frozenset(found)


def is_stdlib(dotted: str) -> bool:
    return dotted.split(".", maxsplit=1)[0] in sys.stdlib_module_names


def code_lines(node: ast.AST, source: str) -> int:
    """Lines of code of a node: without docstrings, comments and blank lines."""
    docs = {
        line
        for inner in ast.walk(node)
        if isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(inner) is not None
        for line in range(inner.body[0].lineno, (inner.body[0].end_lineno or 0) + 1)
    }
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", len(source.splitlines()))
    lines = enumerate(source.splitlines()[first - 1 : last], start=first)
    return sum(1 for i, text in lines if i not in docs and _is_code(text))


def _is_code(text: str) -> bool:
    return bool(text.strip()) and not text.strip().startswith("#")
