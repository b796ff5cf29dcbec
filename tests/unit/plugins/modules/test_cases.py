# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every case of tests/unit/cases/MODULE.yml twice, for real and in check mode, from the same data.

A case: ``name``; ``params``; ``answers`` ({"GET /path": data}, or for a module that works on a host see FakeHost);
``after``: a mapping or a list of mappings that overlay the answers once a round of writes is over; then what must come
out: ``changed``, ``action``, ``steps`` (exact; each "METHOD /path" or {"METHOD /path": params}; on a host the line of a
command or {"/path": text}, with null for a file that is removed and the SHA-256 of what is no text), and if given
``diff`` ({before, after}), ``object`` or ``result`` (each a subset), ``warns`` (a pattern); or ``fails``: a pattern
that the message matches. ``steps`` of a case that takes several rounds is a list of lists; check mode foresees the
first. ``only: real`` is for what check mode cannot foresee (the node refuses), ``only: check`` for what a real run
refuses because an earlier task has not seen to it.
"""

from __future__ import annotations

import importlib
import re
import shlex
import traceback
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import (
    Many,
    Query,
    Resource,
    Verb,
    perform,
    reconcile,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Write
from ansible_collections.pvelab.proxmox.tests.unit.fake_api import FakeApi
from ansible_collections.pvelab.proxmox.tests.unit.fake_host import FakeHost

MODULES = "ansible_collections.pvelab.proxmox.plugins.modules"
CASES = Path(__file__).resolve().parents[2] / "cases"


def declaration(module: str) -> Resource | Verb | Query | Many:
    loaded = importlib.import_module(f"{MODULES}.{module}")
    found: Resource | Verb | Query | Many = loaded.RESOURCE
    return found


def groups() -> Iterator[Any]:
    for path in sorted(CASES.glob("*.yml")):
        # ansible-test runs each test in a fork of its own: what is imported before the fork is imported once.
        declaration(path.stem)
        cases = yaml_load(path.read_text(encoding="utf-8"))
        for mode in ("real", "check"):
            mine = [case for case in cases if case.get("only", mode) == mode]
            yield pytest.param(path.stem, mine, mode == "check", id=f"{path.stem} ({mode})")


@pytest.mark.parametrize(("module", "cases", "check"), list(groups()))
def test_cases(module: str, cases: list[Mapping[str, Any]], check: bool) -> None:
    """All cases of a module in one test, because a fork costs more than a case; each that fails is told by its name."""
    failures = []
    for case in cases:
        try:
            judge(module, case, check)
        except (AssertionError, Failure, BadOptions) as error:
            failures.append(f"{case['name']}:\n{''.join(traceback.format_exception(error))}")
    assert not failures, "\n".join([f"{len(failures)} of {len(cases)} cases fail", *failures])


def judge(module: str, case: Mapping[str, Any], check: bool) -> None:
    declared = declaration(module)
    after = case.get("after", [])
    stages = [case.get("answers", {}), *(after if isinstance(after, list) else [after])]
    api = seam_of(module)(stages, read_only=check)
    if "fails" in case:
        with pytest.raises((Failure, BadOptions)) as caught:
            result_of(declared, api, case["params"], check)
        message = caught.value.result()["msg"] if isinstance(caught.value, Failure) else str(caught.value)
        assert re.search(case["fails"], message), message
        if "steps" in case:
            assert [described(w, declared) for w in api.writes] == rounds(case["steps"], check, everything=True)
        return
    result = result_of(declared, api, case["params"], check)
    assert_result(result, case, check)
    assert [described(w, declared) for w in api.writes] == ([] if check else rounds(case.get("steps", []), check))
    if "warns" in case:
        assert any(re.search(case["warns"], w) for w in api.warnings), api.warnings


def assert_result(result: Mapping[str, Any], case: Mapping[str, Any], check: bool) -> None:
    assert result["changed"] is case.get("changed", False)
    if "action" in case:
        assert result["action"] == case["action"]
    if "steps" in case and "steps" in result:
        assert [from_result(s) for s in result["steps"]] == [shown(s) for s in rounds(case["steps"], check)]
    if "diff" in case:
        assert {k: result["diff"].get(k) for k in ("before", "after")} == case["diff"]
    if "result" in case:
        assert_subset(case["result"], result)
    if "object" in case and not check:
        assert_subset(case["object"], result["object"])


def assert_subset(expected: Any, actual: Any, where: str = "") -> None:
    """Every key of ``expected`` is in ``actual`` with that value; lists and scalars are equal."""
    if isinstance(expected, Mapping):
        assert isinstance(actual, Mapping), where
        for key, value in expected.items():
            assert key in actual, f"{where}.{key} is missing"
            assert_subset(value, actual[key], f"{where}.{key}")
    else:
        assert actual == expected, where


class BadOptions(Exception):
    """The argument specification refused the parameters."""


def result_of(
    declared: Resource | Verb | Query | Many, api: FakeApi | FakeHost, params: Mapping[str, Any], check: bool
) -> dict[str, Any]:
    given = validated(declared, params)
    if isinstance(declared, Query):
        return {"changed": False, **declared.read(api, given)}
    if isinstance(declared, Many):
        return dict(declared.work(api, given, check))
    engine: Any = perform if isinstance(declared, Verb) else reconcile
    result: dict[str, Any] = engine(declared, api, given, check=check).result()
    return result


def validated(declared: Resource | Verb | Query | Many, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as AnsibleModule would hand them over: typed, with defaults."""
    outcome = ArgumentSpecValidator(dict(declared.options), **declared.constraints).validate(dict(params))
    if outcome.error_messages:
        raise BadOptions("; ".join(outcome.error_messages))
    given: dict[str, Any] = outcome.validated_parameters
    return given


def seam_of(module: str) -> type[FakeApi | FakeHost]:
    return FakeHost if hasattr(importlib.import_module(f"{MODULES}.{module}"), "Host") else FakeApi


def described(step: Any, declared: Resource | Verb | Query | Many) -> Any:
    if isinstance(step, Write):
        return {step.path: sha256(step.content).hexdigest() if isinstance(step.content, bytes) else step.content}
    return from_result(step.describe(getattr(declared, "secret", ())))


def shown(step: Any) -> Any:
    """A step of a case as a result tells it: of a file that is written, the path alone."""
    path, *more = step if isinstance(step, Mapping) else [""]
    return path if path.startswith("/") and not more else step


def from_result(step: Mapping[str, Any]) -> Any:
    if "argv" in step:
        return shlex.join(step["argv"])
    if "path" in step:
        return step["path"]
    return {step["request"]: step["params"]} if step.get("params") else step["request"]


def rounds(steps: list[Any], check: bool, everything: bool = False) -> list[Any]:
    """Flatten the rounds of a case; check mode foresees only the first one."""
    if not steps or not isinstance(steps[0], list):
        return [] if check and everything else steps
    if everything:
        return [] if check else [s for r in steps for s in r]
    return list(steps[0]) if check else [s for r in steps for s in r]
