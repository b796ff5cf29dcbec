# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drills' program says of itself, read from its source: what a fault is, what it needs, what is guarded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "roles/drill/files/drill"


@dataclass(frozen=True)
class Fault:
    """``says`` is its first paragraph; ``needs`` are options without which there is none, ``takes`` all others."""

    says: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]


Place = tuple[Path, str]
# How a fault asks for an option: for one that it needs, and for one that it does without.
ASKED = ("plan.option", "plan.options.get")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in parsed(path).body if isinstance(node, ast.FunctionDef)}


def first(node: ast.FunctionDef) -> str:
    """The first paragraph of what a function says of itself, as one line."""
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


@cache
def kinds() -> dict[str, Place]:
    """Where the function of each kind of fault is."""
    found = {}
    for path in sorted((PROGRAM / "faults").glob("*.py")):
        for node in parsed(path).body:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "KINDS":
                assert isinstance(node.value, ast.Dict)
                for key, value in zip(node.value.keys, node.value.values, strict=True):
                    assert isinstance(key, ast.Constant) and isinstance(value, ast.Name)
                    found[str(key.value)] = (path, value.id)
    return found


@cache
def fault(kind: str) -> Fault:
    """A kind of fault. Raises KeyError where there is none."""
    path, name = kinds()[kind]
    asked = {option: needed for place in _reached((path, name)) for option, needed in _options(_node(place))}
    needs = tuple(sorted(option for option, needed in asked.items() if needed))
    return Fault(first(_node((path, name))), needs, tuple(sorted(set(asked) - set(needs))))


def _node(place: Place) -> ast.FunctionDef:
    return functions(place[0])[place[1]]


def _reached(start: Place) -> list[Place]:
    """The functions of the program that a function calls, and those that these call."""
    found, waiting = [start], [start]
    while waiting:
        path, name = waiting.pop()
        for place in _mentions(path, _node((path, name))):
            if place not in found:
                found.append(place)
                waiting.append(place)
    return found


def _mentions(path: Path, function: ast.FunctionDef) -> Iterator[Place]:
    names, whole = _imported(path)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id in functions(path):
            yield path, node.id
        elif isinstance(node, ast.Name) and node.id in names:
            yield names[node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            module = whole[node.value.id]
            if node.attr in functions(module):
                yield module, node.attr


@cache
def _imported(path: Path) -> tuple[dict[str, Place], dict[str, Path]]:
    """The functions, and the modules, that a file of the program has from others of it."""
    names: dict[str, Place] = {}
    whole: dict[str, Path] = {}
    for node in parsed(path).body:
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        folder = path.parents[node.level - 1]
        for alias in node.names:
            module = folder.joinpath(*(node.module or "").split("."), f"{alias.name}.py")
            source = folder.joinpath(*(node.module or "__init__").split(".")).with_suffix(".py")
            if module.is_file():
                whole[alias.asname or alias.name] = module
            elif source.is_file() and alias.name in functions(source):
                names[alias.asname or alias.name] = (source, alias.name)
    return names, whole


def _options(function: ast.FunctionDef) -> Iterator[tuple[str, bool]]:
    """The options that it asks for, and whether it does without: ``plan.option(…)``, ``plan.options.get(…)``."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ASKED and node.args:
            for name in _named(function, node.args[0]):
                yield name, ast.unparse(node.func) == ASKED[0]


def _named(function: ast.FunctionDef, asked: ast.expr) -> list[str]:
    """What is asked for: a word, or each word over which a loop goes."""
    if isinstance(asked, ast.Constant):
        return [str(asked.value)]
    loops = [node for node in ast.walk(function) if isinstance(node, ast.comprehension | ast.For)]
    over = [loop.iter for loop in loops if ast.unparse(asked) in [ast.unparse(n) for n in ast.walk(loop.target)]]
    words = [n.value for source in over for n in ast.walk(source) if isinstance(n, ast.Constant)]
    return [word for word in words if isinstance(word, str)]


@cache
def guards() -> tuple[str, ...]:
    """What has to be so before anything is broken, in the order in which it is looked at."""
    path = PROGRAM / "guards.py"
    for node in parsed(path).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CHECKS":
            assert isinstance(node.value, ast.Tuple)
            return tuple(first(_node((path, getattr(name, "id", "")))) for name in node.value.elts)
    raise LookupError(f"{path} has no CHECKS")


@cache
def limits() -> dict[str, float]:
    """How long each state of a drill may last where nobody says otherwise, in seconds."""
    for node in parsed(PROGRAM / "plan.py").body:
        if isinstance(node, ast.ClassDef) and node.name == "Limits":
            return {
                field.target.id: float(ast.literal_eval(field.value))
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value
            }
    raise LookupError("the drills' plan has no Limits")
