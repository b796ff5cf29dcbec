# SPDX-License-Identifier: GPL-3.0-or-later
"""The only imperative shell: it builds the AnsibleModule, runs a declaration against a seam, exits and fails.

Modules call ``run(RESOURCE, Api)``; nothing else in the collection knows check mode, ``exit_json`` or ``fail_json``.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.parameters import env_fallback

from .core.reconcile import Outcome, Query, Resource, Verb, perform, reconcile
from .core.steps import Failure


class Seam(Protocol):
    """What the shell needs of ``Api`` and ``Host``."""

    OPTIONS: Mapping[str, Any]

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool) -> AbstractContextManager[Any]:
        """A target for these parameters; connects at first use, closes on exit. ``read_only`` refuses every write."""


def run(declared: Resource | Verb | Query, seam: type[Seam] | Any) -> NoReturn:
    """Run one declaration as an Ansible module; never returns."""
    spec = {**_with_environment(seam.OPTIONS), **declared.options}
    constraints = _joined(getattr(seam, "CONSTRAINTS", {}), declared.constraints)
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **constraints)
    warnings: list[str] = []
    try:
        with seam.from_params(module.params, read_only=module.check_mode) as target:
            warnings = target.warnings
            result = _result(declared, target, module.params, module.check_mode)
    except Failure as failure:
        _warn(module, warnings)
        _fail(module, failure)
    except Exception as bug:
        _warn(module, warnings)
        module.fail_json(
            msg=f"This is a bug in pvelab.proxmox: {type(bug).__name__}: {bug}. Please report it with the traceback.",
            exception=traceback.format_exc(),
        )
    _warn(module, warnings)
    module.exit_json(**result)


def _result(declared: Resource | Verb | Query, target: Any, params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    if isinstance(declared, Query):
        try:
            return {"changed": False, **declared.read(target, params)}
        except Failure as failure:
            failure.doing = failure.doing or f"read {declared.noun}"
            raise
    outcome: Outcome
    if isinstance(declared, Verb):
        outcome = perform(declared, target, params, check=check)
    else:
        outcome = reconcile(declared, target, params, check=check)
    return outcome.result()


def _joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Join AnsibleModule constraints, whose values are lists, key by key."""
    whole: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, Mapping):
                whole[key] = {**whole.get(key, {}), **value}
            else:
                whole[key] = [*whole.get(key, []), *value]
    return whole


def _with_environment(options: Mapping[str, Any]) -> dict[str, Any]:
    """A seam knows nothing of Ansible: it names the variables that stand in for an option with ``env``."""
    return {
        name: {k: v for k, v in option.items() if k != "env"}
        | ({"fallback": (env_fallback, option["env"])} if "env" in option else {})
        for name, option in options.items()
    }


def _warn(module: Any, warnings: list[str]) -> None:
    for text in warnings:
        module.warn(text)


def _fail(module: Any, failure: Failure) -> NoReturn:
    result = failure.result()
    if failure.library:
        result["msg"] = missing_required_lib(failure.library, reason=failure.msg)
    module.fail_json(**result)
    raise AssertionError("fail_json returned")
