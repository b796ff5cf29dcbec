# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode foresees what the run then does, and no write reaches the node: a proxy before it has seen them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import Lab
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy

GUEST: dict[str, Any] = {
    "name": "web1",
    "memory": 64,
    "disks": [{"slot": "scsi0", "storage": "local", "size": "1G", "format": "qcow2"}],
    "nics": [{"slot": "net0", "bridge": "vmbr0"}],
}
GROWN = {"slot": "scsi0", "size": "2G"}
ADDED = {"slot": "scsi1", "storage": "more", "size": "1G"}
# One after the other, as a lab comes and goes; "FOLDER" stands for a directory of the test.
STORY: list[tuple[str, dict[str, Any]]] = [
    ("storage", {"storage": "more", "type": "dir", "path": "FOLDER/more", "content": ["images", "iso"]}),
    ("storage", {"storage": "more", "content": ["images", "iso", "snippets"]}),
    ("image", {"storage": "local", "src": "FOLDER/tiny.iso"}),
    ("pool", {"poolid": "crew", "comment": "Together"}),
    ("vm", GUEST),
    ("vm", {**GUEST, "cores": 2, "tags": ["a", "b"], "pool": "crew"}),
    ("vm", {"name": "web1", "disks": [GROWN, ADDED]}),
    ("vm", {"name": "web1", "unset": ["scsi1"]}),
    ("vm", {"name": "web1", "unset": ["unused0"], "allow_data_loss": True}),
    ("vm", {"name": "web1", "status": "running"}),
    ("vm", {"name": "web1", "status": "paused"}),
    ("vm", {"name": "web1", "status": "stopped", "force_stop": True, "shutdown_timeout_s": 1}),
    ("snapshot", {"name": "web1", "snapname": "before", "description": "As it was"}),
    ("snapshot", {"name": "web1", "snapname": "before", "description": "As it had been"}),
    ("snapshot", {"name": "web1", "snapname": "before", "state": "absent", "allow_data_loss": True}),
    ("template", {"name": "web1"}),
    ("vm", {"name": "web2", "clone": {"source": "web1"}, "cores": 2}),
    ("vm", {"name": "web2", "state": "absent", "allow_data_loss": True}),
    ("vm", {"name": "web1", "state": "absent", "allow_data_loss": True}),
    ("pool", {"poolid": "crew", "state": "absent"}),
    ("image", {"storage": "local", "filename": "tiny.iso", "state": "absent", "allow_data_loss": True}),
    ("storage", {"storage": "more", "state": "absent"}),
]  # fmt: skip
QUESTIONS: list[tuple[str, dict[str, Any]]] = [("node_info", {}), ("task_info", {}), ("vm_info", {})]


@pytest.fixture(scope="module")
def proxy(lab: Lab) -> Iterator[Proxy]:
    with Proxy(lab) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    (made / "more").mkdir()
    (made / "tiny.iso").write_bytes(b"\0" * 4096)
    return made


def placed(value: Any, folder: Path) -> Any:
    """The parameters with FOLDER filled in."""
    if isinstance(value, dict):
        return {k: placed(v, folder) for k, v in value.items()}
    return value.replace("FOLDER", str(folder)) if isinstance(value, str) else value


def requests(result: Any) -> list[str]:
    return [step["request"] for step in result["steps"]]


def run(proxy: Proxy, module: str, params: dict[str, Any], *, check: bool) -> Any:
    """The result of a module that reached the node through the proxy, with the ``writes`` that it sent."""
    before = len(proxy.written)
    result = proxy.lab.module(module, params, check=check, port=proxy.port)
    assert not result.get("failed"), result["msg"]
    return {**result, "writes": proxy.written[before:]}


@pytest.mark.parametrize("step", range(len(STORY)), ids=[f"{i}-{m}" for i, (m, _params) in enumerate(STORY)])
def test_check_mode_foresees_the_run(proxy: Proxy, folder: Path, step: int) -> None:
    module, given = STORY[step]
    params = placed(given, folder)
    foreseen = run(proxy, module, params, check=True)
    assert foreseen["changed"] and foreseen["writes"] == []
    real = run(proxy, module, params, check=False)
    assert real["changed"] and real["writes"]
    assert real["action"] == foreseen["action"]
    # What is known only after a first round is not foreseen, but nothing else than what was is done first.
    assert requests(real)[: len(foreseen["steps"])] == requests(foreseen)
    assert foreseen["diff"]["before"] == real["diff"]["before"]
    for check in (True, False):
        again = run(proxy, module, params, check=check)
        assert not again["changed"] and again["writes"] == [], again


@pytest.mark.parametrize(("module", "params"), QUESTIONS, ids=[q[0] for q in QUESTIONS])
def test_questions_send_no_write(proxy: Proxy, module: str, params: dict[str, Any]) -> None:
    result = run(proxy, module, params, check=False)
    assert not result["changed"] and result["writes"] == []


def test_a_rollback_is_foreseen(proxy: Proxy) -> None:
    run(proxy, "vm", {"name": "back", "memory": 64}, check=False)
    run(proxy, "snapshot", {"name": "back", "snapname": "then"}, check=False)
    run(proxy, "vm", {"name": "back", "memory": 128}, check=False)
    params = {"name": "back", "snapname": "then", "allow_data_loss": True}
    foreseen = run(proxy, "snapshot_rollback", params, check=True)
    assert foreseen["changed"] and foreseen["writes"] == []
    real = run(proxy, "snapshot_rollback", params, check=False)
    assert requests(real) == requests(foreseen)
    vmid = next(g["vmid"] for g in proxy.lab.api().nodes("pve1").qemu.get() if g["name"] == "back")
    assert proxy.lab.api().nodes("pve1").qemu(vmid).config.get()["memory"] == "64"
