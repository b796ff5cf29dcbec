# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the kernel runs with beside those that it gets at boot, and the files that hold the latter. Pure.

A tunable has two keys in a state, ``runtime.NAME`` and ``persisted.NAME``, so that a value which was changed by hand,
or only in the file, shows as drift.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .steps import Write

# tmpfiles.d(5): type, path, four fields that writing does not use, and the text. "!" is: at boot only; "-" is: go on
# where this kernel has no such file or refuses the value.
_BOOT_LINE = re.compile(r"^w\S*\s+(?P<path>/\S+)(?:\s+-){4}\s+(?P<value>.*?)\s*$")
_ASSIGNMENT = re.compile(r"^\s*(?P<key>[A-Za-z][\w./]*)\s*=\s*(?P<value>.*?)\s*$")


def shown(value: object) -> str:
    """A value as the kernel takes it: True → "1", False → "0"."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def in_place(path: str, value: object, label: str) -> Write:
    """The step that gives the running kernel a value."""
    return Write(path, f"{shown(value)}\n", label=label, in_place=True)


def boot_values(text: str | None) -> dict[str, str]:
    """{path: value} of the lines of a tmpfiles.d file that write; of several for one path the last."""
    found = (_BOOT_LINE.match(line) for line in (text or "").splitlines())
    return {line["path"]: line["value"] for line in found if line}


def with_boot_values(text: str | None, values: Mapping[str, str | None], head: str) -> str | None:
    """The text of a tmpfiles.d file that writes ``values`` at boot, in their order; None leaves a path to the kernel.

    Other lines stay as they are. None where nothing is left but the head, so that the file goes.
    """
    kept = [
        line
        for line in (text or f"# {head}\n").splitlines()
        if not ((found := _BOOT_LINE.match(line)) and found["path"] in values)
    ]
    lines = [*kept, *(f"w!- {path} - - - - {value}" for path, value in values.items() if value is not None)]
    used = any(line.strip() and not line.startswith("#") for line in lines)
    return "\n".join(lines) + "\n" if used else None


def assignments(text: str | None) -> dict[str, str]:
    """{key: value} of a file of lines KEY=VALUE, such as sysctl.d(5) or a shell fragment without quoting."""
    found = (_ASSIGNMENT.match(line) for line in (text or "").splitlines())
    return {line["key"]: line["value"] for line in found if line}


def with_assignments(text: str | None, changes: Mapping[str, str | None], head: str, equals: str = "=") -> str | None:
    """The text with ``changes`` made where their lines are and added at the end; None removes a key.

    Every other line stays as it is. None where nothing but comments is left of a file that begins with the head.
    """
    left, lines = dict(changes), []
    for line in (text if text is not None else f"# {head}\n").splitlines():
        found = _ASSIGNMENT.match(line)
        if not found or found["key"] not in changes:
            lines.append(line)
        elif (value := left.pop(found["key"], None)) is not None:
            lines.append(f"{found['key']}{equals}{value}")
    lines += [f"{key}{equals}{value}" for key, value in left.items() if value is not None]
    used = any(line.strip() and not line.lstrip().startswith(("#", ";")) for line in lines)
    return "\n".join(lines) + "\n" if used or not lines or lines[0] != f"# {head}" else None
