# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of a node mean: which type, which words, and what never shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils import api_errors as types
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import Scrubber, refusal
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import Refused, Request
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.complaints import is_missing
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure

ROOT = Path(__file__).resolve().parents[4]
RECORDED = ROOT.parent / "shared/contract/recorded"
GET = Request("GET", "/x")
NO_STORAGE = {"storage": "No such storage."}
NO_SCHEMA = "property is not defined in schema and the schema does not allow additional properties"

# status, message, errors → type, a part of the message
MEANING: list[tuple[int, str, dict[str, str], type[Failure], str]] = [
    (500, "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n", {}, types.NotFound, "999.conf"),
    (500, "storage 'none' does not exist\n", {}, types.NotFound, "storage 'none' does not exist"),
    (500, "delete pool failed: pool 'drills' does not exist\n", {}, types.NotFound, "pool 'drills'"),
    (500, "400 Parameter verification failed.\nid: No such job 'nightly'\n", {}, types.NotFound, "id: No such job"),
    (400, "Parameter verification failed.\n", NO_STORAGE, types.NotFound, "storage: No such storage"),
    (400, "Parameter verification failed.\n", {"iface": "interface does not exist"}, types.NotFound, "iface:"),
    (400, "Parameter verification failed.\n", {"foo": NO_SCHEMA}, types.ParameterErrors, "does not know that option"),
    (400, "Parameter verification failed.\n", {"b": "two\n", "a": "one"}, types.ParameterErrors, "a: one; b: two"),
    (400, "Parameter verification failed.\n", {"net0": "hotplug problem - x"}, types.ParameterErrors, "restart the"),
    (500, "unable to create VM 100 - VM 100 already exists on node 'pve1'\n", {}, types.Taken, "already exists"),
    (500, "create storage failed: storage ID 'pool1' already defined\n", {}, types.Taken, "already defined"),
    (500, "checksum mismatch (file change by other user?)\n", {}, types.Stale, "run the task again"),
    (500, "detected modified configuration - file changed by other user? Try again.\n", {}, types.Stale, "again"),
    (500, "VM is locked (backup)\n", {}, types.Locked, "locked (backup)"),
    (500, "CT is locked (snapshot-delete)\n", {}, types.Locked, "snapshot-delete"),
    (500, "can't lock file '/var/lock/x.conf' - got timeout\n", {}, types.Locked, "held the lock"),
    (500, "cluster not ready - no quorum?\n", {}, types.NoQuorum, "pvecm status"),
    (500, "cfs-lock 'file-user_cfg' error: no quorum!\n", {}, types.NoQuorum, "pvecm status"),
    (401, "No ticket", {}, types.Unauthorized, "the node refused the login of lab@pve!ci: No ticket"),
    (403, "Permission check failed (/vms/100, VM.Config.Disk)\n", {}, types.Forbidden,
     "lab@pve!ci lacks the privilege VM.Config.Disk on /vms/100. Give the token"),
    (403, "Permission check failed (user != root@pam)\n", {}, types.Forbidden, "root@pam itself"),
    (596, "tls: broken pipe", {}, types.Unreachable, "broken pipe"),
    (500, "VM 100 is running - destroy failed\n", {}, Failure, "is running - destroy failed"),
    (501, "Method 'GET /nosuch' not implemented", {}, Failure, "not implemented"),
    (500, "", {}, Failure, "no reason given"),
    (500, "hostname lookup 'nosuch' failed - failed to get address info for: nosuch\n", {}, Failure, "hostname lookup"),
    (500, "zfs error: open3: exec of zpool failed: No such file or directory at x line 1.\n", {}, Failure, "zpool"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "errors", "kind", "part"), MEANING, ids=[m[1][:40] for m in MEANING])
def test_meaning(status: int, message: str, errors: dict[str, str], kind: type[Failure], part: str) -> None:
    failure = refusal(Refused(status, message, errors), GET, "lab@pve!ci")
    assert failure.__class__ is kind
    assert part in failure.msg
    assert "\n" not in failure.msg and not failure.msg.endswith("..") and failure.msg.endswith(".")
    assert (failure.status, failure.request) == (status, "GET /x")
    assert (failure.errors is not None) == bool(errors)
    assert is_missing(failure) is (kind is types.NotFound)


def test_plain_404_is_missing() -> None:
    assert is_missing(Failure("Not Found", status=404))
    assert not is_missing(Failure("storage 'x' does not exist")), "without a status it did not come from the API"


def test_secrets_are_taken_out() -> None:
    refused = Refused(400, "value 'hunter22' is bad", {"password": "hunter22 is too short"})
    failure = refusal(refused, GET, "root@pam", Scrubber(("hunter22",)))
    assert "hunter22" not in str(failure.result())


def recorded() -> list[Any]:
    """Every refusal that a real node was recorded to give."""
    files = sorted(RECORDED.glob("*.json"))
    found = [e for f in files for e in json.loads(f.read_text(encoding="utf-8"))["exchanges"] if e["status"] >= 400]
    return found or [
        {"method": "GET", "path": "/nodes/pve1/qemu/999/config", "status": 500, "reason": MEANING[0][1], "body": ""}
    ]


@pytest.mark.parametrize("exchange", recorded(), ids=lambda e: f"{e['method']} {e['path']} {e['status']}")
def test_recorded_refusals_make_a_sentence(exchange: dict[str, Any]) -> None:
    body = exchange["body"] if isinstance(exchange["body"], dict) else {}
    refused = Refused(exchange["status"], body.get("message") or exchange["reason"], body.get("errors"))
    failure = refusal(refused, Request(exchange["method"], exchange["path"]), "root@pam")
    assert failure.msg.endswith(".") and "\n" not in failure.msg and "Parameter verification" not in failure.msg
    reads_a_guest = exchange["method"] == "GET" and "/qemu/999/" in exchange["path"]
    if reads_a_guest or exchange["path"] in {"/storage/none", "/nodes/pve1/storage/none/status"}:
        assert isinstance(failure, types.NotFound)
    if exchange["method"] == "GET" and "/nosuch" in exchange["path"]:
        assert not isinstance(failure, types.NotFound), "a wrong node is not a missing object"
