# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam as modules use it: reads, what is kept for a run, what is closed, what is missing."""

from __future__ import annotations

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Forbidden, NotFound, Unknown
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import MissingLibrary, NoAnswer, Refused, Reply
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.tests.unit.plugins.module_utils.api_fakes import Clock, FakeWire, api_over

GONE = Refused(500, "storage 'a' does not exist")


def test_find_tells_missing_from_forbidden() -> None:
    api = api_over(
        FakeWire({"GET /storage/a": [Reply({"storage": "a"}), GONE, Refused(403, "Permission check failed")]})
    )
    assert api.find("/storage/a") == {"storage": "a"}
    assert api.find("/storage/a") is None
    with pytest.raises(Forbidden):
        api.find("/storage/a")


def test_get_of_what_is_missing() -> None:
    with pytest.raises(NotFound) as caught:
        api_over(FakeWire({"GET /storage/a": GONE})).get("/storage/a")
    assert (caught.value.status, caught.value.request) == (500, "GET /storage/a")


def test_write_to_what_is_missing_is_not_found_either() -> None:
    with pytest.raises(NotFound):
        api_over(FakeWire({"DELETE /storage/a": GONE})).do(Call("DELETE", "/storage/a"))


@pytest.mark.parametrize(
    ("text", "version"),
    [("9.1.7", (9, 1, 7)), ("8.4.0~11", (8, 4, 0)), ("9.0", (9, 0)), ("9.1.7-rc2", (9, 1, 7))],
)
def test_version_is_asked_once(text: str, version: tuple[int, ...]) -> None:
    wire = FakeWire({"GET /version": Reply({"version": text})})
    api = api_over(wire)
    assert api.version() == api.version() == version
    assert len(wire.sent) == 1


def test_other_reads_are_never_kept() -> None:
    wire = FakeWire({"GET /nodes": [Reply([1]), Reply([2])]})
    api = api_over(wire)
    assert (api.get("/nodes"), api.get("/nodes")) == ([1], [2])


def test_wire_is_closed() -> None:
    wire = FakeWire({})
    with api_over(wire) as api:
        assert isinstance(api, Api)
    assert wire.closed


def test_missing_library_is_named() -> None:
    wire = FakeWire({"GET /nodes": MissingLibrary("proxmoxer")})
    with pytest.raises(Failure) as caught:
        api_over(wire).get("/nodes")
    assert caught.value.library == "proxmoxer"


def test_read_only_lets_nothing_through() -> None:
    wire = FakeWire({"POST /a": Reply(None)})
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(Failure, match="which is a bug"):
            api_over(wire, read_only=True).do(Call(method, "/a"))
    assert wire.sent == []


def test_lookup_that_fails_ends_as_unknown_too() -> None:
    """The node went away with the request: nobody can say what became of it."""
    wire = FakeWire(
        {
            "POST /nodes/pve1/qemu/100/status/start": NoAnswer("cut", sent=True),
            "GET /nodes/pve1/tasks": NoAnswer("connection refused", sent=False),
        }
    )
    clock = Clock()
    with pytest.raises(Unknown, match=r"cut; so it is not known .* pve1 cannot be reached to look for a task of it\."):
        api_over(wire, clock).do(Call("POST", "/nodes/pve1/qemu/100/status/start"))
    assert len(wire.lines("POST")) == 1 and clock.now < 60
