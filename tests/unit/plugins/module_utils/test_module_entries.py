# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of a list come to the same whether Ansible is told of all options that they may have or of those in use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.pvelab.proxmox.plugins.module_utils.module_entries import filled, said, used
from ansible_collections.pvelab.proxmox.plugins.modules.guests import OPTIONS

GUESTS = OPTIONS["guests"]
LISTS: list[list[Any]] = [
    [],
    [{"name": "a"}],
    [{"vmid": "100", "memory": "512"}, {"name": "b", "tags": "one,two"}],
    [
        {"name": "a", "nics": [{"slot": "net0", "bridge": "vmbr0"}]},
        {"name": "b", "nics": [{"slot": "net1", "model": "e1000"}]},
    ],
    [{"name": "a", "disks": [{"slot": "scsi0", "size": "1G"}, {"slot": "scsi1", "ssd": "yes"}]}],
    [{"name": "a", "cloud_init": {"user": "root"}}, {"name": "b", "clone": {"source": "a"}}],
    [{"name": "a", "nics": []}, {"name": "b", "disks": None}],
    ["name=a memory=64", {"name": "b"}],
    [{"name": "a", "nics": ["slot=net0 bridge=vmbr0"]}],
]
WRONG: list[list[Any]] = [
    [{"memory": 64}],
    [{"name": "a", "memry": 64}],
    [{"name": "a", "memory": "much"}],
    [{"name": "a"}, {"name": "b", "state": "gone"}],
    [{"name": "a", "nics": [{"slot": "net0", "brigde": "vmbr0"}]}],
    [3],
]


def checked(given: list[Any], options: dict[str, Any]) -> Any:
    return ArgumentSpecValidator({"guests": {**GUESTS, "options": options}}).validate({"guests": given})


@pytest.mark.parametrize("given", LISTS, ids=json.dumps)
def test_a_list_comes_to_the_same(given: list[Any]) -> None:
    whole, part = checked(given, GUESTS["options"]), checked(given, used(GUESTS["options"], given))
    assert whole.error_messages == part.error_messages == []
    told = [filled(GUESTS["options"], entry) for entry in part.validated_parameters["guests"]]
    assert told == whole.validated_parameters["guests"]
    assert said(told) == said(whole.validated_parameters["guests"])


@pytest.mark.parametrize("given", WRONG, ids=json.dumps)
def test_what_is_wrong_is_found(given: list[Any]) -> None:
    assert checked(given, GUESTS["options"]).error_messages
    assert checked(given, used(GUESTS["options"], given)).error_messages


def test_what_nobody_gives_is_not_gone_through() -> None:
    assert len(used(GUESTS["options"], [{"name": "a", "memory": 64}])) < 10 < len(GUESTS["options"])


def test_an_option_that_means_something_unsaid_stays() -> None:
    options = {"a": {"default": 1}, "b": {"required": True}, "c": {}, "d": {"aliases": ["dee"]}}
    assert set(used(options, [{"dee": 1}])) == {"a", "b", "d"}
