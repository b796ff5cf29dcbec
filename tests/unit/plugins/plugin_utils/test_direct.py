# SPDX-License-Identifier: GPL-3.0-or-later
"""When a module begins as a copy of Ansible's worker: only where Ansible would have started it right here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.plugin_utils.direct import Direct

HERE = {"ansible_python_interpreter": sys.executable}


def may(variables: dict[str, Any], *, transport: str = "local", become: Any = None, **task: Any) -> bool:
    action = Direct(
        task=SimpleNamespace(**{"delegate_to": None, "async_val": 0, **task}),
        connection=SimpleNamespace(transport=transport, become=become),
        play_context=None,
        loader=None,
        templar=SimpleNamespace(template=lambda value: value),
        shared_loader_obj=None,
    )
    return action.may(variables)


def test_here_with_this_python_it_may() -> None:
    assert may(HERE)


def test_a_delegated_task_is_told_of_its_own_host() -> None:
    assert may({"ansible_delegated_vars": {"localhost": HERE}}, delegate_to="localhost")
    assert not may({**HERE, "ansible_delegated_vars": {"localhost": {}}}, delegate_to="localhost")


@pytest.mark.parametrize(
    "told",
    [
        {"transport": "ssh"},
        {"become": SimpleNamespace(name="sudo")},
        {"async_val": 30},
    ],
    ids=str,
)
def test_what_asks_for_more_goes_the_way_of_all_modules(told: dict[str, Any]) -> None:
    assert not may(HERE, **told)


@pytest.mark.parametrize("python", [None, "", "/usr/bin/python9", "python3"])
def test_another_python_is_started(python: str | None) -> None:
    assert not may({"ansible_python_interpreter": python})


def test_the_same_program_elsewhere_has_other_libraries(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    assert not may({"ansible_python_interpreter": str(tmp_path / "python")})


@pytest.mark.parametrize("value", [False, "no", "false"])
def test_it_can_be_switched_off(value: Any) -> None:
    assert not may({**HERE, "pvelab_direct": value})
