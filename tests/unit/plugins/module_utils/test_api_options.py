# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options: what they come to, what is refused, and that they are documented as they are."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.module_utils.errors import AnsibleFallbackNotFound

from ansible_collections.pvelab.proxmox.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.pvelab.proxmox.plugins.module_utils import module
from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Scrubber
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_options import (
    CONNECTION,
    fingerprint,
    is_loopback,
    settings,
    shown_fingerprint,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure

TOKEN = {"api_token_id": "ci", "api_token_secret": "s"}
PIN = "AB:" * 31 + "CD"


def check(have_pvesh: bool = False, **params: Any) -> Any:
    return settings(params, have_pvesh=have_pvesh)


def test_options_are_documented_as_they_are() -> None:
    documented = yaml_load(ModuleDocFragment.DOCUMENTATION)["options"]
    declared = {n: {k: v for k, v in o.items() if k not in {"env", "no_log"}} for n, o in CONNECTION.items()}
    assert {n: {k: v for k, v in o.items() if k != "description"} for n, o in documented.items()} == declared
    notes = ModuleDocFragment.DOCUMENTATION
    assert [v for o in CONNECTION.values() for v in o["env"] if f"E({v})" not in notes] == []


def test_names_and_variables_are_those_of_community_proxmox() -> None:
    theirs = {
        "api_host": "PROXMOX_HOST", "api_port": "PROXMOX_PORT", "api_user": "PROXMOX_USER",
        "api_password": "PROXMOX_PASSWORD", "api_otp": "PROXMOX_OTP", "api_token_id": "PROXMOX_TOKEN_ID",
        "api_token_secret": "PROXMOX_TOKEN_SECRET", "ca_path": "PROXMOX_CA_PATH",
        "validate_certs": "PROXMOX_VALIDATE_CERTS", "api_timeout": "PROXMOX_API_TIMEOUT",
    }  # fmt: skip
    assert {name: CONNECTION[name]["env"] for name in theirs} == {name: [env] for name, env in theirs.items()}
    assert CONNECTION["validate_certs"]["default"] is True


def test_environment_stands_in_for_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXMOX_HOST", "pve1")
    monkeypatch.setenv("PROXMOX_HOSTS", "pve2,pve3")
    monkeypatch.setenv("PROXMOX_VALIDATE_CERTS", "no")
    monkeypatch.setenv("PROXMOX_API_TIMEOUT", "7")
    spec = module._with_environment(Api.OPTIONS)
    given = ArgumentSpecValidator(spec, **Api.CONSTRAINTS).validate({"api_timeout": 9}).validated_parameters
    assert (given["api_host"], given["api_hosts"]) == ("pve1", ["pve2", "pve3"])
    assert given["validate_certs"] is False and given["api_timeout"] == 9 and given["api_port"] == 8006
    assert ArgumentSpecValidator(spec, **Api.CONSTRAINTS).validate({"api_token_id": "ci"}).error_messages


def test_secrets_are_marked() -> None:
    assert {n for n, o in CONNECTION.items() if o.get("no_log")} == {"api_password", "api_otp", "api_token_secret"}


@pytest.mark.parametrize(
    ("params", "hosts"),
    [
        ({"api_host": "pve1"}, ("pve1:8006",)),
        ({"api_host": "pve1", "api_port": 443}, ("pve1:443",)),
        ({"api_host": "pve1:444", "api_port": 443}, ("pve1:444",)),
        ({"api_host": "https://pve1.lan/"}, ("pve1.lan:8006",)),
        ({"api_host": "fe80::1"}, ("[fe80::1]:8006",)),
        ({"api_host": "[::1]:8007"}, ("[::1]:8007",)),
        ({"api_host": "a", "api_hosts": ["a", "b:1"]}, ("a:8006", "b:1")),
        ({"api_hosts": ["b"]}, ("b:8006",)),
    ],
)
def test_hosts(params: dict[str, Any], hosts: tuple[str, ...]) -> None:
    assert check(**params, **TOKEN).hosts == hosts


@pytest.mark.parametrize("host", ["http://pve1", "pve1/api2", "two words", "user@pve1", "pve1:port"])
def test_what_is_not_a_host(host: str) -> None:
    with pytest.raises(Failure, match="is not a host"):
        check(api_host=host, **TOKEN)


def test_pvesh_takes_over_where_no_host_is_named() -> None:
    assert check(have_pvesh=True).hosts == ()
    assert check(have_pvesh=True, api_host="pve1", **TOKEN).hosts == ("pve1:8006",)
    assert check(have_pvesh=True, api_host="pve1", api_local=True).hosts == ()
    with pytest.raises(Failure, match="no pvesh"):
        check(api_local=True, api_host="pve1")
    with pytest.raises(Failure, match="Set api_host"):
        check()


def test_credentials() -> None:
    assert check(api_host="a", **TOKEN).identity == "root@pam!ci"
    assert check(api_host="a", api_token_id="lab@pve!ci", api_token_secret="s").identity == "lab@pve!ci"
    both = check(api_host="a", api_password="p", api_user="lab@pve", **TOKEN)
    assert (both.identity, both.password, both.token_secret) == ("lab@pve", "p", None)
    assert check(api_host="a", api_password="p", api_user="root").user == "root@pam"
    with pytest.raises(Failure, match="nothing to log in with"):
        check(api_host="a", api_token_id="ci")


def test_secrets_are_not_shown() -> None:
    shown = repr(check(api_host="a", api_password="pass-1", api_otp="otp-2"))
    shown += repr(check(api_host="a", api_token_id="ci", api_token_secret="secret-3"))
    assert not {"pass-1", "otp-2", "secret-3"} & {s for s in ("pass-1", "otp-2", "secret-3") if s in shown}


def test_scrubber_takes_the_longest_first() -> None:
    scrub = Scrubber(("abcd", "abcdef", "x"))
    assert scrub("abcdef abcd x") == "******** ******** x"


@pytest.mark.parametrize("text", [PIN, PIN.lower().replace(":", ""), f"sha256 {PIN}", f"SHA256:{PIN}", f" {PIN} "])
def test_fingerprint_forms(text: str) -> None:
    assert fingerprint(text) == "ab" * 31 + "cd"
    assert shown_fingerprint(fingerprint(text)) == PIN


@pytest.mark.parametrize("text", ["", "AB:CD", "zz" * 32, "ab" * 20])
def test_what_is_not_a_fingerprint(text: str) -> None:
    with pytest.raises(Failure, match="is not a SHA-256 fingerprint"):
        check(api_host="a", api_fingerprint=[text], **TOKEN)


@pytest.mark.parametrize(
    ("host", "there"),
    [
        ("localhost:8006", True), ("127.0.0.1", True), ("127.8.9.1:1", True), ("[::1]:8006", True), ("::1", True),
        ("a.localhost", True), ("pve1", False), ("10.0.0.1:8006", False), ("localhost.example.com", False),
    ],
)  # fmt: skip
def test_loopback(host: str, there: bool) -> None:
    assert is_loopback(host) is there


@pytest.mark.parametrize("option", ["api_timeout", "api_task_timeout"])
def test_times_are_checked(option: str) -> None:
    with pytest.raises(Failure, match=f"{option} is 0"):
        check(api_host="a", **TOKEN, **{option: 0})
    with pytest.raises(Failure, match="cannot be negative"):
        check(api_host="a", **TOKEN, api_retries=-1)


def test_from_params_sends_nothing() -> None:
    with Api.from_params({"api_host": "192.0.2.1", **TOKEN}, read_only=True) as api:
        assert repr(api) == "Api(https://192.0.2.1:8006 as root@pam!ci)"
        assert api.read_only


def test_a_variable_that_is_empty_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form, as AWX's credentials are, makes a variable without a value of what nobody filled in."""
    filled_in, names = module._with_environment(Api.OPTIONS)["api_port"]["fallback"]
    monkeypatch.setenv("PROXMOX_PORT", "")
    with pytest.raises(AnsibleFallbackNotFound):
        filled_in(*names)
    monkeypatch.setenv("PROXMOX_PORT", "8007")
    assert filled_in(*names) == "8007"
    monkeypatch.delenv("PROXMOX_PORT")
    with pytest.raises(AnsibleFallbackNotFound):
        filled_in(*names)
