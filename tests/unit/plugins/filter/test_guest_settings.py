# SPDX-License-Identifier: GPL-3.0-or-later
"""Merging of defaults, profiles and guests."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pvelab.proxmox.plugins.filter.guest_settings import guest_settings

DEFAULTS: dict[str, Any] = {
    "memory": 96,
    "tags": ["lab"],
    "agent": {"enabled": True},
    "nics": [{"slot": "net0", "bridge": "vmbr0", "model": "virtio"}],
    "cloud_init": {"storage": "lab", "nameserver": ["10.0.0.1"]},
}
PROFILES: dict[str, Any] = {
    "small": {"cores": 1, "memory": 64},
    "web": {"tags": ["web"], "nics": [{"slot": "net0", "tag": 10}], "gateway": "10.0.0.1"},
}


def test_the_guest_goes_over_its_profiles_and_these_over_the_defaults() -> None:
    got = guest_settings({"name": "a", "profile": ["small", "web"], "cores": 2}, DEFAULTS, PROFILES)
    assert (got["cores"], got["memory"], got["tags"]) == (2, 64, ["lab", "web"])
    assert got["nics"] == [{"slot": "net0", "bridge": "vmbr0", "model": "virtio", "tag": 10}]
    assert "profile" not in got


def test_slots_that_only_one_layer_has_are_kept() -> None:
    got = guest_settings({"name": "a", "nics": [{"slot": "net1", "bridge": "vmbr1"}]}, DEFAULTS)
    assert [nic["slot"] for nic in got["nics"]] == ["net0", "net1"]


def test_address_and_gateway_meet_in_one_entry() -> None:
    got = guest_settings({"name": "a", "profile": "web", "address": "10.0.0.5/24"}, DEFAULTS, PROFILES)
    assert got["cloud_init"]["ip_configs"] == [{"slot": "ipconfig0", "gw": "10.0.0.1", "ip": "10.0.0.5/24"}]
    assert got["cloud_init"]["storage"] == "lab"
    assert not {"address", "gateway"} & set(got)


def test_null_takes_away() -> None:
    got = guest_settings({"name": "a", "memory": None, "cloud_init": {"nameserver": None}}, DEFAULTS)
    assert "memory" not in got
    assert got["cloud_init"] == {"storage": "lab"}


def test_layers_are_not_changed() -> None:
    before = repr((DEFAULTS, PROFILES))
    guest_settings({"name": "a", "profile": ["small", "web"], "tags": ["x"]}, DEFAULTS, PROFILES)
    assert repr((DEFAULTS, PROFILES)) == before


def test_other_lists_replace_each_other() -> None:
    got = guest_settings({"name": "a", "cloud_init": {"nameserver": ["10.0.0.9"]}}, DEFAULTS)
    assert got["cloud_init"]["nameserver"] == ["10.0.0.9"]


def test_an_unknown_profile_names_the_guest_and_what_there_is() -> None:
    with pytest.raises(AnsibleFilterError, match=r"guest a: there is no profile 'huge'; .* small, web"):
        guest_settings({"name": "a", "profile": "huge"}, DEFAULTS, PROFILES)


def test_something_that_is_no_guest_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="a guest has to be a mapping"):
        guest_settings("web1", DEFAULTS, PROFILES)  # type: ignore[arg-type]


def test_a_slip_of_the_pen_is_found() -> None:
    with pytest.raises(
        AnsibleFilterError, match="guest a: the module vm has no option 'memroy'; did you mean 'memory'"
    ):
        guest_settings({"name": "a", "memroy": 64})
