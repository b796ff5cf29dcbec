# SPDX-License-Identifier: GPL-3.0-or-later
"""The type of credential "Proxmox VE": what AWX makes of its fields is what modules and the inventory understand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_options import CONNECTION
from ansible_collections.pvelab.proxmox.tests.integration import awx_rules as rules
from ansible_collections.pvelab.proxmox.tests.integration.awx_parts import DATA, loaded
from ansible_collections.pvelab.proxmox.tests.integration.inventory_parts import listed
from ansible_collections.pvelab.proxmox.tests.lab import Lab

pytestmark = pytest.mark.release

# What is decided by whoever writes a play, or good for one login only.
NOT_ASKED = {
    "PROXMOX_LOCAL", "PROXMOX_OTP", "PROXMOX_CA_PATH", "PROXMOX_VALIDATE_CERTS", "PROXMOX_API_TIMEOUT",
    "PROXMOX_TASK_TIMEOUT", "PROXMOX_LOCK_TIMEOUT", "PROXMOX_RETRIES",
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds() -> dict[str, Any]:
    return {kind["name"]: kind for kind in loaded(DATA / "access.yml")["controller_credential_types"]}


def environment(kind: Any, fields: dict[str, str]) -> dict[str, str]:
    """What a job's environment has, filled in as AWX does: what was left empty is empty text."""
    done = {name: rules.rendered(text, fields, strict=False) for name, text in kind["injectors"]["env"].items()}
    assert [wrong for _text, wrong in done.values() if wrong] == []
    return {name: text for name, (text, _none) in done.items()}


def test_it_knows_every_variable_and_hides_every_secret(kinds: dict[str, Any]) -> None:
    kind = kinds["Proxmox VE"]
    variables = {name: option for option in CONNECTION.values() for name in option["env"]}
    assert set(kind["injectors"]["env"]) == set(variables) - NOT_ASKED
    secret = {field["id"] for field in kind["inputs"]["fields"] if field.get("secret")}
    hidden = {name for name, text in kind["injectors"]["env"].items() if any(f"{{ {one} }}" in text for one in secret)}
    assert hidden == {name for name, option in variables.items() if option.get("no_log")} - NOT_ASKED


def test_awx_takes_both_types(kinds: dict[str, Any]) -> None:
    assert len(kinds) == 2
    for kind in kinds.values():
        assert rules.credential_type(kind["inputs"], kind["injectors"]) == []
        assert all("type" in field for field in kind["inputs"]["fields"]), (
            "AWX adds it, and it would look like a change"
        )


def test_the_token_of_drills_comes_as_the_role_wants_it(kinds: dict[str, Any]) -> None:
    options = loaded(DATA.parents[2] / "roles/drill/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    variables = kinds["Proxmox VE drill token"]["injectors"]["extra_vars"]
    assert set(variables) <= set(options)
    assert rules.rendered(variables["drill_token_secret"], {"token_secret": "s"})[0] == "s"


@pytest.mark.parametrize("way", ["password", "token"])
def test_fields_that_are_left_empty_are_in_nobodys_way(
    lab: Lab, tmp_path: Path, kinds: dict[str, Any], way: str
) -> None:
    """A module, and the inventory, with nothing filled in but what has to be."""
    fields = {"host": f"127.0.0.1:{lab.port}", "fingerprint": lab.fingerprint}
    if way == "password":
        fields |= {"password": lab.password}
    else:
        made = lab.api().access.users("root@pam").token("awx").post(privsep=0)
        fields |= {"token_id": "root@pam!awx", "token_secret": made["value"]}
    given = environment(kinds["Proxmox VE"], fields)
    assert "" in given.values()
    process = lab.begin_module("node_info", {}, **given)
    out, _err = process.communicate(timeout=120)
    assert '"changed": false' in out and '"failed"' not in out, out
    found = listed(tmp_path, lab.environment(**given), {})
    assert found.rc == 0, found.told


def test_without_a_fingerprint_the_authority_counts(lab: Lab, tmp_path: Path, kinds: dict[str, Any]) -> None:
    """The node's certificate is its own, so nobody is told the password: not by a module, and not by the inventory."""
    fields = {"host": f"127.0.0.1:{lab.port}", "password": lab.password}
    given = environment(kinds["Proxmox VE"], fields)
    process = lab.begin_module("node_info", {}, **given)
    out, _err = process.communicate(timeout=120)
    assert '"failed": true' in out and "certificate" in out and "is not a SHA-256" not in out, out
    found = listed(tmp_path, lab.environment(**given), {})
    assert found.rc != 0 and "certificate" in found.told and "is not a SHA-256" not in found.told, found.told
