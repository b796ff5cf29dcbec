# SPDX-License-Identifier: GPL-3.0-or-later
"""The only imperative shell: it builds the AnsibleModule, runs a declaration against a seam, exits and fails.

Modules call ``run(RESOURCE, Api)``; nothing else in the collection knows check mode, ``exit_json`` or ``fail_json``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, NoReturn, Protocol, TypeAlias
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.parameters import env_fallback, remove_values
from ansible.module_utils.errors import AnsibleFallbackNotFound

from .core.reconcile import Many, Outcome, Query, Resource, Verb, perform, reconcile
from .core.steps import Failure
from .module_entries import EntriesModule, said
from .progress import channel

Declared: TypeAlias = Resource | Verb | Query | Many


class Seam(Protocol):
    """What the shell needs of ``Api`` and ``Host``."""

    OPTIONS: Mapping[str, Any]

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, read_only: bool) -> AbstractContextManager[Any]:
        """A target for these parameters; connects at first use, closes on exit. ``read_only`` refuses every write."""


def run(declared: Declared, seam: type[Seam] | Any) -> NoReturn:
    """Run one declaration as an Ansible module; never returns."""
    spec = {**_with_environment(seam.OPTIONS), **declared.options}
    constraints = _joined(getattr(seam, "CONSTRAINTS", {}), declared.constraints)
    kind: Any = _of_entries(declared.entries) if isinstance(declared, Many) and declared.entries else AnsibleModule
    module: AnsibleModule = kind(argument_spec=spec, supports_check_mode=True, **constraints)
    module.no_log_values.update(_in_urls(module.params))
    invocation = {"module_args": module.told() if isinstance(module, EntriesModule) else said(module.params)}
    if isinstance(module, EntriesModule):
        module.fill()
    warnings: list[str] = []
    try:
        with (
            channel(_called(declared, module.params), _scrubber(module)) as progress,
            seam.from_params(module.params, read_only=module.check_mode) as target,
        ):
            warnings, target.progress = target.warnings, progress
            result = _result(declared, target, module.params, module.check_mode)
    except Failure as failure:
        _warn(module, warnings)
        _fail(module, failure, invocation)
    except Exception as bug:
        _warn(module, warnings)
        module.fail_json(
            msg=f"This is a bug in pvelab.proxmox: {type(bug).__name__}: {bug}. Please report it with the traceback.",
            exception=traceback.format_exc(),
            invocation=invocation,
        )
    _warn(module, warnings)
    module.exit_json(**result, invocation=invocation)


def _of_entries(name: str) -> type[EntriesModule]:
    return type("Entries", (EntriesModule,), {"entries": name})


def _result(declared: Declared, target: Any, params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    if isinstance(declared, Query):
        try:
            return {"changed": False, **declared.read(target, params)}
        except Failure as failure:
            failure.doing = failure.doing or f"read {declared.noun}"
            raise
    if isinstance(declared, Many):
        return dict(declared.work(target, params, check))
    outcome: Outcome
    if isinstance(declared, Verb):
        outcome = perform(declared, target, params, check=check)
    else:
        outcome = reconcile(declared, target, params, check=check)
    return outcome.result()


def _called(declared: Declared, params: Mapping[str, Any]) -> str:
    """What the task is about, as far as its own words say."""
    return declared.noun if isinstance(declared, Query | Many) else f"{declared.noun} {declared.name(params)}"


def _in_urls(options: Any) -> set[str]:
    """Secrets in URLs among the options: passwords, and what stands behind a question mark, where signatures are."""
    found: set[str] = set()
    left = [options]
    while left:
        value = left.pop()
        if isinstance(value, str):
            found |= _secrets(value) if "://" in value else set()
        elif isinstance(value, Mapping):
            left += [v for v in value.values() if v is not None]
        elif isinstance(value, list):
            left += value
    return found


def _secrets(value: str) -> set[str]:
    try:
        parts = urlsplit(value)
        password = parts.password
    except ValueError:
        return set()
    # A word of three letters or fewer would be masked wherever it stands.
    return {text for text in (password, parts.query) if text and len(text) > 3}


def _scrubber(module: AnsibleModule) -> Callable[[str], str]:
    """What takes the secrets of the task's options out of a text."""
    return partial(remove_values, no_log_strings=module.no_log_values)


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
        | ({"fallback": (_filled_in, option["env"])} if "env" in option else {})
        for name, option in options.items()
    }


def _filled_in(*names: str) -> str:
    """The first of these variables; one that is empty says nothing.

    Where a form makes the environment, as AWX's credentials do, what nobody filled in is there all the same.
    """
    for name in names:
        with suppress(AnsibleFallbackNotFound):
            if value := str(env_fallback(name)):
                return value
    raise AnsibleFallbackNotFound


def _warn(module: Any, warnings: list[str]) -> None:
    for text in warnings:
        module.warn(text)


def _fail(module: Any, failure: Failure, invocation: Mapping[str, Any]) -> NoReturn:
    result = failure.result()
    if failure.library:
        result["msg"] = missing_required_lib(failure.library, reason=failure.msg)
    module.fail_json(**result, invocation=invocation)
    raise AssertionError("fail_json returned")
