# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the module vm share: each task is foreseen, done, and done again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import reconcile
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.modules.vm import RESOURCE
from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, Lab
from ansible_collections.pvelab.proxmox.tests.unit.plugins.modules.test_cases import validated


def everything(lab: Lab) -> dict[str, Any]:
    """The node's configuration files and the names and sizes of its volumes: what a write could have changed."""
    etc, stores = lab.state / "etc", lab.state / "storage"
    return {
        **{str(p): p.read_bytes() for p in sorted(etc.rglob("*")) if p.is_file() and not _is_log(p)},
        **{str(p): p.stat().st_size for p in sorted(stores.rglob("*")) if p.is_file()},
    }


def _is_log(path: Path) -> bool:
    return "tasks" in path.parts or path.suffix in (".lock", ".log")


def engine(lab: Lab, params: Mapping[str, Any], *, check: bool = False) -> dict[str, Any]:
    """The module's declaration, carried out in this process, which takes a tenth of the time of a module."""
    connection = {"api_host": lab.url, "api_user": "root@pam", "api_password": PASSWORD}
    with Api.from_params({**connection, "api_fingerprint": [lab.fingerprint]}, read_only=check) as api:
        try:
            outcome = reconcile(RESOURCE, api, validated(RESOURCE, params), check=check)
        except Failure as failure:
            return {**failure.result(), "failed": True}
        return {**outcome.result(), "warnings": api.warnings}


def module(lab: Lab, params: Mapping[str, Any], *, check: bool = False) -> Any:
    """The module as Ansible runs it, in a process of its own."""
    return lab.module("vm", params, check=check)


def done(lab: Lab, params: Mapping[str, Any], *, rounds: int = 1, run: Any = engine) -> Any:
    """Foresee, do, do again: nothing is written in check mode, the same steps are, and a second run changes nothing.

    ``rounds`` is how many rounds of steps it takes; check mode foresees the first.
    """
    before = everything(lab)
    foreseen = run(lab, params, check=True)
    assert not foreseen.get("failed"), foreseen
    assert everything(lab) == before
    real = run(lab, params)
    assert not real.get("failed"), real
    assert foreseen["changed"] is real["changed"] is True
    assert real["steps"][: len(foreseen["steps"])] == foreseen["steps"]
    if rounds == 1:
        assert len(real["steps"]) == len(foreseen["steps"])
    again = run(lab, params)
    assert not again.get("failed"), again
    assert (again["changed"], again["steps"]) == (False, []), again["diff"]
    return real


def refused(lab: Lab, params: Mapping[str, Any], *, check: bool = False) -> str:
    """The message of a task that fails without having changed anything."""
    before = everything(lab)
    result = module(lab, params, check=check)
    assert result.get("failed"), result
    assert everything(lab) == before
    return str(result["msg"])
