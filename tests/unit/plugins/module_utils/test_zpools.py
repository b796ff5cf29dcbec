# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of zpools out of what real ones printed: texts and JSON tell the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.zpools import Pool, from_json, from_text, importable

STATES = yaml_load((Path(__file__).resolve().parents[2] / "zpool_status.yml").read_text(encoding="utf-8"))


def told(pools: Mapping[str, Pool]) -> list[Any]:
    (pool,) = pools.values()
    return [[[v.kind, v.role, v.devices] for v in pool.vdevs], pool.resilvering]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state["name"])
def test_text_and_json_tell_the_same(state: Mapping[str, Any]) -> None:
    expected = [state["vdevs"], state["resilvering"]]
    assert told(from_json(state["json"])) == expected
    assert told(from_text(state["text"])) == expected


def test_several_pools_in_one_text() -> None:
    text = "\n".join(state["text"].replace("many", f"pool{i}") for i, state in enumerate(STATES))
    assert [(name, pool.resilvering) for name, pool in from_text(text).items()] == [
        ("pool0", False),
        ("pool1", False),
        ("pool2", True),
    ]


def test_no_pool() -> None:
    assert from_text("no pools available\n") == {} == from_json({"pools": {}})


def test_a_pool_may_be_called_like_a_class_of_devices() -> None:
    text = STATES[0]["text"].replace("many", "logs", 1).replace("\tmany ", "\tlogs ")
    assert from_text(text)["logs"].vdevs[0].role == "data"


def test_pools_that_can_be_imported() -> None:
    assert importable("   pool: tank\n     id: 17\n  state: ONLINE\nconfig:\n") == ["tank"]
    assert importable("no pools available to import\n") == []
