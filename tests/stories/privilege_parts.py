# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of privileges share: a token that may do exactly what it is told, and modules run with it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, ROOT, Lab
from ansible_collections.pvelab.proxmox.tests.unit.plugins.modules.test_cases import MODULES, result_of

USER = "trial@pve"
TOKEN = f"{USER}!ci"


@dataclass(frozen=True)
class Privilege:
    """One line of docs/privileges.yml."""

    name: str
    path: str


def documented() -> dict[str, frozenset[Privilege]]:
    """What docs/privileges.yml says: for each module, and for the inventory under that name."""
    data = yaml_load((ROOT / "docs/privileges.yml").read_text(encoding="utf-8"))
    lists = {**data["modules"], "inventory": data["inventory"]}
    return {name: frozenset(Privilege(e["privilege"], e["path"]) for e in entries) for name, entries in lists.items()}


class Token:
    """A token of a user who may do everything. ``grant`` says what the token itself may do from then on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._root = lab.api()
        self._granted: dict[str, str] = {}
        self._root.access.users.post(userid=USER)
        self._root.access.acl.put(path="/", users=USER, roles="Administrator")
        self.secret = str(self._root.access.users(USER).token("ci").post(privsep=1)["value"])

    def grant(self, privileges: Iterable[Privilege]) -> None:
        """Give it exactly these."""
        wanted: dict[str, list[str]] = {path: [] for path in self._granted}
        for privilege in privileges:
            wanted.setdefault(privilege.path, []).append(privilege.name)
        for path, names in wanted.items():
            role, text = "Trial" + path.replace("/", "-"), ",".join(sorted(names))
            if path not in self._granted:
                self._root.access.roles.post(roleid=role, privs=text)
                self._root.access.acl.put(path=path, tokens=TOKEN, roles=role)
            elif self._granted[path] != text:
                self._root.access.roles(role).put(privs=text)
            self._granted[path] = text

    def connection(self) -> dict[str, Any]:
        return {"api_token_id": TOKEN, "api_token_secret": self.secret}


def run(
    lab: Lab, connection: Mapping[str, Any], module: str, params: Mapping[str, Any], *, check: bool = False
) -> dict[str, Any]:
    """A module's declaration, carried out in this process, which takes a tenth of the time of a module."""
    declared = importlib.import_module(f"{MODULES}.{module}").RESOURCE
    options = {"api_host": lab.url, "api_fingerprint": [lab.fingerprint], **connection}
    # Defaults are those of the connection's options, and validating fills them in.
    with Api.from_params(options, read_only=check) as api:
        try:
            # An Api takes the place of the fake that the unit tests hand in.
            return result_of(declared, api, params, check)  # type: ignore[arg-type]
        except Failure as failure:
            return {**failure.result(), "failed": True}


def as_root(lab: Lab, module: str, params: Mapping[str, Any]) -> dict[str, Any]:
    result = run(lab, {"api_user": "root@pam", "api_password": PASSWORD}, module, params)
    assert not result.get("failed"), result
    return result


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """A task with its places put in: {folder}, {web}, {upid}."""
    if isinstance(value, Mapping):
        return {k: filled(v, places) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, places) for v in value]
    return value.format_map(places) if isinstance(value, str) else value


def trials() -> dict[str, list[dict[str, Any]]]:
    path = Path(__file__).with_name("privilege_trials.yml")
    loaded: dict[str, list[dict[str, Any]]] = yaml_load(path.read_text(encoding="utf-8"))
    return loaded
