# SPDX-License-Identifier: GPL-3.0-or-later
"""What is hidden is not taken for missing, and what a node does not name when it refuses is named."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Forbidden
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import Refused, Reply
from ansible_collections.pvelab.proxmox.plugins.module_utils.core import sight
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call
from ansible_collections.pvelab.proxmox.tests.unit.plugins.module_utils.api_fakes import FakeWire, api_over

MINE = "GET /access/permissions"
NODE = {"type": "node", "node": "pve1"}


class TokenWire(FakeWire):
    user = "ci@pve!lab"


def asked(path: str, data: Any, granted: Any) -> tuple[Api, TokenWire]:
    wire = TokenWire({f"GET {path}": Reply(data), MINE: Reply(granted)})
    return api_over(wire), wire


@pytest.mark.parametrize(
    ("path", "data", "named"),
    [
        ("/cluster/resources", [NODE], "VM.Audit on /vms"),
        ("/nodes/pve1/qemu", [], "VM.Audit on /vms"),
        ("/nodes/pve1/lxc", [], "VM.Audit on /vms"),
        ("/storage", [], "Datastore.Audit or Datastore.AllocateSpace on /storage"),
        ("/nodes/pve1/storage", [], "Datastore.Audit or Datastore.AllocateSpace on /storage"),
        ("/pools", [], "Pool.Audit on /pool"),
        ("/nodes/pve1/network", [{"type": "eth", "iface": "eno1"}], "SDN.Audit or SDN.Use on /sdn/zones/localnetwork"),
    ],
)
def test_a_list_that_shows_nothing_is_not_believed(path: str, data: Any, named: str) -> None:
    api, _wire = asked(path, data, {"/": {"Sys.Audit": 1}})
    with pytest.raises(Forbidden) as caught:
        api.get(path)
    assert caught.value.msg.startswith(f"ci@pve!lab lacks the privilege {named}. ")
    assert "pveum acl modify" in caught.value.msg


@pytest.mark.parametrize("where", ["/", "/vms", "/vms/100", "/pool/lab"])
def test_it_is_believed_of_whoever_may_see_some_of_it(where: str) -> None:
    api, _wire = asked("/nodes/pve1/qemu", [], {where: {"VM.Audit": 1}})
    assert api.get("/nodes/pve1/qemu") == []


def test_what_one_may_do_is_asked_once_and_only_for_empty_lists() -> None:
    api, wire = asked("/nodes/pve1/qemu", [], {"/": {"VM.Audit": 1}})
    api.get("/nodes/pve1/qemu")
    api.get("/nodes/pve1/qemu")
    assert wire.lines().count(MINE) == 1
    api, wire = asked("/nodes/pve1/qemu", [{"vmid": 100}], {})
    assert api.get("/nodes/pve1/qemu") == [{"vmid": 100}]
    assert MINE not in wire.lines()


def test_root_is_never_asked() -> None:
    wire = FakeWire({"GET /pools": Reply([])})
    assert api_over(wire).get("/pools") == []
    assert wire.lines() == ["GET /pools"]


@pytest.mark.parametrize("params", [{"type": "storage"}, {"type": "node"}])
def test_lists_of_something_else_are_left_alone(params: dict[str, str]) -> None:
    assert sight.blank("/cluster/resources", params, []) is None


@pytest.mark.parametrize("data", [None, {}, "text", [1, 2]])
def test_what_is_no_list_of_objects_is_left_alone(data: Any) -> None:
    assert sight.blank("/nodes/pve1/network", {}, data) is None


@pytest.mark.parametrize("granted", [None, [], {}])
def test_nothing_granted_is_nothing_held(granted: Any) -> None:
    assert sight.held(granted) == frozenset()


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (Call("POST", "/nodes/pve1/storage/local/download-url"), "Sys.AccessNetwork on /nodes/pve1"),
        (Call("POST", "/nodes/pve1/qemu"), "VM.Allocate on /vms"),
        (Call("POST", "/nodes/pve1/qemu/100/clone"), "VM.Allocate on /vms"),
    ],
)
def test_a_refusal_without_a_name_gets_one(step: Call, named: str) -> None:
    wire = TokenWire({f"POST {step.path}": Refused(403, "Permission check failed")})
    with pytest.raises(Forbidden, match=f"lacks the privilege {named}"):
        api_over(wire).do(step)
    wire = TokenWire({"POST /pools": Refused(403, "Permission check failed")})
    with pytest.raises(Forbidden, match="may not: Permission check failed"):
        api_over(wire).do(Call("POST", "/pools"))
