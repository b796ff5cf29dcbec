# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer files as text: written the same way each time, and read back as a flat state.

Proxmox VE 8.2 and 8.3 want underscores in the keys of a section, later ones have dashes (and would take both; 9.0
warns of underscores). The names of sections have dashes everywhere.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from .state import State, flatten

HEADER = "# Written by pvelab.proxmox.answer_file, which replaces what is changed by hand.\n"
UNREADABLE = "not TOML"
_OF_OTHERS = ("filter", "mapping")  # tables whose keys are no words of the installer
_DASHES_SINCE = (8, 4)


def styled(answer: Mapping[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """A checked answer with its keys as the installer of this release spells them."""
    if version >= _DASHES_SINCE:
        return dict(answer)
    return {section: _underscored(table) for section, table in answer.items()}


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.replace("-", "_"): _underscored(value) if isinstance(value, Mapping) and key not in _OF_OTHERS else value
        for key, value in table.items()
    }


def render(answer: Mapping[str, Any]) -> str:
    """The text of a checked and styled answer."""
    return HEADER + "".join(_section(name, table) for name, table in answer.items())


def parse(text: str) -> State:
    """The flat state of an answer file; a text that is no TOML is a state of its own, which equals no wanted one."""
    try:
        return flatten(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return {UNREADABLE: True}


def _section(name: str, table: Mapping[str, Any]) -> str:
    plain = "".join(f"{_key(k)} = {_value(v)}\n" for k, v in table.items() if not isinstance(v, Mapping))
    inner = "".join(_section(f"{name}.{_key(k)}", v) for k, v in table.items() if isinstance(v, Mapping))
    return f"\n[{name}]\n{plain}{inner}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
