# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of single modules share: each task is foreseen, done, and done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.tests.lab import Lab

Look = Callable[[], Any]


def done(lab: Lab, module: str, params: Mapping[str, Any], look: Look) -> Any:
    """Foresee, do, do again. ``look`` asks the node for what the task is about: check mode and the second run leave it.

    The steps that are done are those that were foreseen, and so is the difference. Returns the result of the real run.
    """
    before = look()
    foreseen = passed(lab.module(module, params, check=True))
    assert look() == before, "check mode changed something"
    real = passed(lab.module(module, params))
    assert foreseen["changed"] is real["changed"] is True
    assert foreseen["steps"] == real["steps"]
    assert foreseen["diff"]["before"] == real["diff"]["before"]
    after = look()
    assert after != before, "the run changed nothing"
    again = passed(lab.module(module, params))
    assert (again["changed"], again["steps"]) == (False, []), again["diff"]
    assert look() == after, "the second run changed something"
    return real


def same(lab: Lab, module: str, params: Mapping[str, Any]) -> Any:
    """A task that finds everything as it should be."""
    result = passed(lab.module(module, params))
    assert (result["changed"], result["steps"]) == (False, []), result["diff"]
    return result


def refused(lab: Lab, module: str, params: Mapping[str, Any], look: Look, *, check: bool = False) -> str:
    """The message of a task that fails and leaves everything as it was."""
    before = look()
    result = lab.module(module, params, check=check)
    assert result.get("failed"), result
    assert look() == before, "the failed task changed something"
    return str(result["msg"])


def passed(result: Any) -> Any:
    assert not result.get("failed"), result
    return result
