# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the YAML inside modules and doc fragments to the rules of .yamllint, and names the Python line."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from yamllint import linter
from yamllint.config import YamlLintConfig

ROOT = Path(__file__).resolve().parents[1]
DOC_NAMES = {"DOCUMENTATION", "EXAMPLES", "RETURN"}


def documents(path: Path) -> Iterator[tuple[int, str]]:
    """The line before each YAML text of a plugin, and the text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            names = {getattr(target, "id", "") for target in node.targets}
            if names & DOC_NAMES:
                yield node.value.lineno, node.value.value.removeprefix("\n")


def main() -> int:
    config = YamlLintConfig(file=str(ROOT / ".yamllint"))
    found = [
        f"{path.relative_to(ROOT)}:{line + problem.line}:{problem.column}: {problem.desc} ({problem.rule})"
        for folder in ("modules", "doc_fragments", "filter", "inventory", "callback")
        for path in sorted((ROOT / "plugins" / folder).glob("*.py"))
        for line, text in documents(path)
        for problem in linter.run(text, config)
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
