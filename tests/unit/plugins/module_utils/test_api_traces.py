# SPDX-License-Identifier: GPL-3.0-or-later
"""Which task a write starts: held against tasks that a real node was recorded to start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_tasks import upid
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_traces import Trace, trace
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import Request

RECORDED = Path(__file__).resolve().parents[5] / "shared/contract/recorded"
EXAMPLES = [
    ("POST", "/nodes/pve1/qemu", {"vmid": 100}, "UPID:pve1:00000146:0007D22A:6B014F7D:qmcreate:100:root@pam:"),
    ("PUT", "/nodes/pve1/qemu/100/resize", {}, "UPID:pve1:0000018C:0007D3F4:6B014F82:resize:100:root@pam:"),
    ("PUT", "/nodes/pve1/network", {}, "UPID:pve1:00000325:0007E800:6B014FB5:srvreload:networking:root@pam:"),
    ("POST", "/nodes/n/qemu/100/move_disk", {}, "UPID:n:00000325:0007E800:6B014FB5:qmmove:100-scsi1>101-scsi0:a@b:"),
    ("POST", "/nodes/n/storage/s/download-url", {"filename": "a:b.iso"},
     "UPID:n:00000325:0007E800:6B014FB5:download:a%3Ab.iso:root@pam:"),
    ("DELETE", "/nodes/pve1/storage/local/content/local%3Aiso%2Fa.iso", {},
     "UPID:pve1:00000325:0007E800:6B014FB5:imgdel:local:root@pam:"),
]  # fmt: skip


def recorded() -> list[Any]:
    found = [e for f in sorted(RECORDED.glob("*.json")) for e in json.loads(f.read_text(encoding="utf-8"))["exchanges"]]
    tasks = [e for e in found if isinstance(e["body"], dict) and upid(e["body"].get("data"))]
    return EXAMPLES + [(e["method"], e["path"], e["params"], e["body"]["data"]) for e in tasks]


@pytest.mark.parametrize(("method", "path", "params", "name"), recorded())
def test_task_is_recognised(method: str, path: str, params: dict[str, Any], name: str) -> None:
    expected, task = trace(Request(method, path, params)), upid(name)
    assert expected is not None and task is not None
    assert expected.fitting([{"upid": name}], task.user, task.start, frozenset()) == [task]
    assert expected.fitting([{"upid": name}], task.user, task.start, frozenset({name})) == [], "known already"
    assert expected.fitting([{"upid": name}], "other@pve", task.start, frozenset()) == [], "another user's"
    assert expected.fitting([{"upid": name}], task.user, task.start + 60, frozenset()) == [], "an older one"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/pools"), ("PUT", "/nodes/pve1/qemu/100/config"), ("POST", "/storage"), ("DELETE", "/storage/a"),
        ("POST", "/nodes/pve1/network"), ("POST", "/nodes/pve1/qemu/100/agent/exec"),
    ],
)  # fmt: skip
def test_what_is_done_before_it_is_answered_leaves_no_task(method: str, path: str) -> None:
    assert trace(Request(method, path)) is None


def test_newest_of_several_and_never_another_guest() -> None:
    names = [
        f"UPID:pve1:0000000{n}:00000001:0000{n}000:qmstart:{vmid}:a@b:" for n, vmid in ((1, 100), (2, 100), (3, 101))
    ]
    found = Trace("pve1", frozenset({"qmstart"}), "100").fitting([{"upid": n} for n in names], "a@b", 0, frozenset())
    assert [t.text for t in found] == [names[1], names[0]]
    assert Trace("pve1", frozenset({"qmstop"}), "100").fitting([{"upid": "nonsense"}], "a@b", 0, frozenset()) == []


def test_clones_of_one_guest_are_told_apart_by_their_logs() -> None:
    expected = trace(Request("POST", "/nodes/pve1/qemu/900/clone", {"newid": 101}))
    assert expected is not None
    assert expected.told_by(["creating a clone of VM 900 with ID 101", "done"])
    assert not expected.told_by(["creating a clone of VM 900 with ID 1010"])
    assert not expected.told_by([])
