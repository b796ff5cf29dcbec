# SPDX-License-Identifier: GPL-3.0-or-later
"""Which storages are on a host's pools."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pvelab.proxmox.plugins.filter.pool_storages import pool_storages


@pytest.mark.parametrize(
    ("kind", "pool", "where"),
    [
        ("lvm", {"name": "vmdata"}, {"vgname": "vmdata"}),
        ("lvmthin", {"vg": "vmdata", "name": "thin"}, {"vgname": "vmdata", "thinpool": "thin"}),
        ("zfspool", {"name": "tank/vm"}, {"pool": "tank/vm"}),
        ("dir", {"path": "/srv/images"}, {"path": "/srv/images", "is_mountpoint": "yes"}),
    ],
)
def test_type_and_place_follow_from_the_pool(kind: str, pool: dict[str, Any], where: dict[str, Any]) -> None:
    own = {"storage": "fast", "content": ["images"]}
    assert pool_storages([{**pool, "storage": own}], kind) == [{"type": kind, **where, **own}]


def test_a_pool_without_a_storage_is_none() -> None:
    assert pool_storages([{"name": "vmdata"}, {"name": "other", "storage": None}], "lvm") == []


def test_what_the_storage_says_itself_counts() -> None:
    (got,) = pool_storages([{"path": "/srv", "storage": {"storage": "s", "is_mountpoint": "no"}}], "dir")
    assert got["is_mountpoint"] == "no"


def test_a_storage_goes_with_its_pool() -> None:
    pool = {"name": "tank", "state": "absent", "storage": {"storage": "fast", "content": ["images"]}}
    assert pool_storages([pool], "zfspool") == [{"storage": "fast", "state": "absent"}]


@pytest.mark.parametrize("own", ["fast", {"content": ["images"]}])
def test_a_storage_needs_a_name(own: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="pool tank: 'storage' has to be a mapping with at least a name"):
        pool_storages([{"name": "tank", "storage": own}], "zfspool")


def test_a_type_that_is_none() -> None:
    with pytest.raises(AnsibleFilterError, match="no type of storage 'nfs'"):
        pool_storages([], "nfs")
