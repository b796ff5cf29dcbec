# SPDX-License-Identifier: GPL-3.0-or-later
"""The privileges of docs/privileges.yml are enough, and none of them is too many: without it, it is asked for by name.

A module never takes what its token may not see for what is not there.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_inventory import Wants, survey
from ansible_collections.pvelab.proxmox.tests.lab import Lab
from ansible_collections.pvelab.proxmox.tests.stories.privilege_parts import (
    Privilege,
    Token,
    as_root,
    documented,
    filled,
    run,
    trials,
)

pytestmark = pytest.mark.release

DOCUMENTED = documented()
TRIALS = trials()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_said: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def places(lab: Lab) -> Iterator[dict[str, str]]:
    """What tasks refer to: a directory with a file, and a web server that has it."""
    folder = lab.folder / "given"
    folder.mkdir()
    (folder / "disc.iso").write_bytes(b"not much of a disc" * 1000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"folder": str(folder), "web": f"http://127.0.0.1:{server.server_port}", "upid": ""}
        server.shutdown()


@pytest.fixture(scope="module")
def token(lab: Lab) -> Token:
    return Token(lab)


def prepare(lab: Lab, places: dict[str, str], step: Mapping[str, Any]) -> None:
    as_root(lab, step["module"], filled(step["params"], places))
    places["upid"] = lab.api().nodes(lab.node).tasks.get(source="all", limit=1)[0]["upid"]


def wrapped(module: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The task of the module vm, as one of a list."""
    return {"guests": [params]} if module == "guests" else params


def told(result: Mapping[str, Any]) -> str:
    return "\n".join([str(result["msg"]), *map(str, result.get("lines", ()))])


def test_every_module_of_the_api_is_listed_and_tried() -> None:
    assert set(TRIALS) == set(DOCUMENTED) - {"inventory"}


@pytest.mark.parametrize("module", sorted(TRIALS))
def test_exactly_these_privileges(lab: Lab, token: Token, places: dict[str, str], module: str) -> None:
    whole = DOCUMENTED[module]
    missed: set[str] = set()
    for step in TRIALS[module]:
        if "prepare" in step:
            prepare(lab, places, step["prepare"])
            continue
        task = wrapped(module, filled(step["task"], places))
        for name in step["lacks"]:
            token.grant(p for p in whole if p.name != name)
            refused = run(lab, token.connection(), module, task)
            assert refused.get("failed"), f"{name} is not needed for {task}: {refused}"
            assert name in told(refused), f"{name} is not named for {task}: {refused}"
        missed |= set(step["lacks"])
        token.grant(whole)
        foreseen = run(lab, token.connection(), module, task, check=True)
        assert not foreseen.get("failed"), f"{task}: {foreseen}"
        done = run(lab, token.connection(), module, task)
        assert not done.get("failed"), f"{task}: {done}"
    if module == "guests":
        assert whole == DOCUMENTED["vm"]
    else:
        assert missed == {p.name for p in whole}, "each privilege is taken away once"


@pytest.mark.parametrize("module", ["guests", "image", "node_config", "node_info", "pool", "snapshot", "storage", "vm"])
def test_check_mode_needs_no_more_than_to_see(lab: Lab, token: Token, places: dict[str, str], module: str) -> None:
    for step in TRIALS[module]:
        if "task" in step:
            break
        prepare(lab, places, step["prepare"])
    # What is granted nearer to an object replaces what comes from above, so each is granted where it is used.
    where = {
        "Datastore": ["/storage"],
        "Pool": ["/pool"],
        "SDN": ["/sdn/zones"],
        "Sys": ["/", "/nodes"],
        "VM": ["/vms"],
    }
    token.grant(Privilege(f"{area}.Audit", path) for area, paths in where.items() for path in paths)
    task = wrapped(module, filled(step["task"], places))
    foreseen = run(lab, token.connection(), module, task, check=True)
    assert not foreseen.get("failed"), foreseen


def test_the_inventory_needs_these(lab: Lab, token: Token) -> None:
    as_root(lab, "pool", {"poolid": "crew"})
    guest = {"vmid": 400, "name": "host1", "memory": 16, "kvm": False, "pool": "crew", "agent": {"enabled": True}}
    as_root(lab, "vm", {**guest, "status": "running"})
    whole = DOCUMENTED["inventory"]

    def look(without: str) -> tuple[dict[str, Any], str]:
        token.grant(p for p in whole if p.name != without)
        warnings: list[str] = []
        options = {"api_host": lab.url, "api_fingerprint": [lab.fingerprint], **token.connection()}
        with Api.for_many(options, read_only=True) as api:
            found = survey(api, Wants(addresses=True, agent_timeout_s=1.0), warnings.append)
        return next(g for g in found if g["name"] == "host1"), " ".join(warnings)

    found, warned = look("")
    assert (found["pool"], warned) == ("crew", "")
    with pytest.raises(Failure, match=r"lacks the privilege VM\.Audit on /vms"):
        look("VM.Audit")
    assert "VM.GuestAgent.Audit" in look("VM.GuestAgent.Audit")[1]
    assert look("Pool.Audit")[0]["pool"] == ""


def test_whoever_sees_only_some_guests_works_on_those(lab: Lab, token: Token) -> None:
    as_root(lab, "vm", {"vmid": 410, "name": "mine", "memory": 16})
    as_root(lab, "vm", {"vmid": 411, "name": "theirs", "memory": 16})
    token.grant([Privilege("VM.Audit", "/vms/410"), Privilege("VM.Config.Options", "/vms/410")])
    shown = run(lab, token.connection(), "vm_info", {})
    assert [guest["name"] for guest in shown["vms"]] == ["mine"]
    assert not run(lab, token.connection(), "vm", {"vmid": 410, "description": "Seen"}).get("failed")
    refused = run(lab, token.connection(), "snapshot", {"name": "theirs", "snapname": "never"})
    assert "no guest called 'theirs'" in refused["msg"]
