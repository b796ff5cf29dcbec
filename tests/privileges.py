# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/security_page.py as a module, and the commands of docs/security.md as what they make of a node."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def security_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("security_page", ROOT / "tools/security_page.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def typed() -> list[list[str]]:
    """The commands of the page, as a shell hands them over, without "pveum"."""
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- commands.*?```bash\n(.*?)```", page, re.DOTALL)
    assert block, "the page has commands"
    words = [shlex.split(line) for line in block[1].splitlines()]
    assert {line[0] for line in words} == {"pveum"}
    return [line[1:] for line in words]


def carry_out(api: Any, command: list[str]) -> str:
    """One command of pveum as the request that it stands for, by somebody else's client: the secret of a new token."""
    plain = [word for i, word in enumerate(command) if not _belongs(command, i)]
    options = {command[i].removeprefix("--"): command[i + 1] for i, w in enumerate(command) if w.startswith("--")}
    what, names = tuple(plain[:3]) if plain[:2] == ["user", "token"] else tuple(plain[:2]), plain
    calls: dict[tuple[str, ...], Callable[[], Any]] = {
        ("role", "add"): lambda: api.access.roles.post(roleid=names[2], **options),
        ("user", "add"): lambda: api.access.users.post(userid=names[2], **options),
        ("user", "token", "add"): lambda: api.access.users(names[3]).token(names[4]).post(**options),
        ("acl", "modify"): lambda: api.access.acl.put(path=names[2], **options),
    }
    answer = calls[what]()
    return str(answer["value"]) if what[-2:] == ("token", "add") else ""


def _belongs(command: list[str], i: int) -> bool:
    """Whether a word is an option, or the value of one."""
    return command[i].startswith("--") or (i > 0 and command[i - 1].startswith("--"))
