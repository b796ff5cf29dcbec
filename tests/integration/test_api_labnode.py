# SPDX-License-Identifier: GPL-3.0-or-later
"""The API seam against labnode, on the real clock: every way of logging in, tasks, errors, an upload, a restart."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import (
    Forbidden,
    NotFound,
    ParameterErrors,
    Stale,
    Taken,
    TaskFailed,
    Unauthorized,
    Unreachable,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_tasks import upid
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, Lab, until

QEMU = "/nodes/pve1/qemu"


def connect(lab: Lab, **params: Any) -> Api:
    given = {"api_password": PASSWORD} if "api_token_id" not in params else {}
    where = {"api_host": "127.0.0.1", "api_port": lab.port, "api_fingerprint": [lab.fingerprint]}
    return Api.from_params({**where, **given, **params})


@pytest.fixture
def api(lab: Lab) -> Iterator[Api]:
    with connect(lab) as ready:
        yield ready


@pytest.fixture
def vmid(api: Api) -> Iterator[int]:
    chosen = int(api.get("/cluster/nextid"))
    api.do(Call("POST", QEMU, {"vmid": chosen, "name": f"guest{chosen}", "memory": 64}))
    yield chosen
    if api.find(f"{QEMU}/{chosen}/status/current"):
        api.do(Call("DELETE", f"{QEMU}/{chosen}"))


def test_certificate_of_the_node_is_trusted_by_its_path(lab: Lab) -> None:
    with connect(lab, api_fingerprint=None, ca_path=str(lab.certificate)) as api:
        assert api.version() >= (9, 0)


def test_wrong_pin(lab: Lab) -> None:
    with (
        connect(lab, api_fingerprint=["00" * 32]) as api,
        pytest.raises(Unreachable, match="another certificate") as told,
    ):
        api.get("/nodes")
    assert lab.fingerprint in told.value.msg


def test_wrong_password(lab: Lab) -> None:
    with connect(lab, api_password="wrong-one") as api, pytest.raises(Unauthorized, match="login of root@pam") as told:
        api.get("/nodes")
    assert "wrong-one" not in str(told.value.result())


def test_token_and_its_rights(lab: Lab, api: Api, vmid: int) -> None:
    made = api.do(Call("POST", "/access/users/root%40pam/token/seam", {"privsep": True}))
    try:
        with connect(lab, api_token_id="root@pam!seam", api_token_secret=made["value"]) as robot:
            assert robot.version() >= (9, 0)
            with pytest.raises(Forbidden, match=r"the token 'root@pam!seam' a role .* privilege separation"):
                robot.do(Call("POST", "/pools", {"poolid": "seam"}))
            api.do(Call("PUT", "/access/acl", {"path": "/vms", "tokens": "root@pam!seam", "roles": "PVEVMAdmin"}))
            started = robot.do(Call("POST", f"{QEMU}/{vmid}/template"))
            assert started is None or ":root@pam!seam:" in started
    finally:
        api.do(Call("DELETE", "/access/users/root%40pam/token/seam"))
    gone = connect(lab, api_token_id="root@pam!seam", api_token_secret=made["value"])
    with gone, pytest.raises(Unauthorized) as told:
        gone.get("/nodes")
    assert made["value"] not in str(told.value.result())


def test_life_of_a_guest(api: Api, vmid: int) -> None:
    guest = f"{QEMU}/{vmid}"
    assert api.get(f"{guest}/config")["name"] == f"guest{vmid}"
    with pytest.raises(Taken):
        api.do(Call("POST", QEMU, {"vmid": vmid}))
    digest = api.get(f"{guest}/config")["digest"]
    api.do(Call("PUT", f"{guest}/config", {"onboot": True, "digest": digest}))
    with pytest.raises(Stale, match="run the task again"):
        api.do(Call("PUT", f"{guest}/config", {"onboot": False, "digest": digest}))
    ended = api.do(Call("DELETE", guest))
    assert upid(ended) is not None
    assert api.find(f"{guest}/config") is None
    with pytest.raises(NotFound):
        api.get(f"{guest}/status/current")


def test_parameters_are_refused_by_name(api: Api, vmid: int) -> None:
    with pytest.raises(ParameterErrors) as told:
        api.do(Call("PUT", f"{QEMU}/{vmid}/config", {"cores": 0, "nosuch": 1}))
    assert set(told.value.errors or {}) == {"cores", "nosuch"}


def test_failing_task_has_its_log(api: Api, vmid: int) -> None:
    with pytest.raises(TaskFailed, match="does not exist") as told:
        api.do(Call("POST", f"{QEMU}/{vmid}/snapshot/none/rollback"))
    assert any("TASK ERROR" in line for line in told.value.task_log or [])
    assert told.value.request == f"POST {QEMU}/{vmid}/snapshot/none/rollback"


def test_node_that_does_not_exist(api: Api) -> None:
    with pytest.raises(Failure, match=r"there is no node 'pve1\.lan'; the cluster has pve1\."):
        api.get("/nodes/pve1.lan/status")


def test_upload_is_checked_by_its_sum(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "big.bin"
    content = secrets.token_bytes(1 << 20) * 12
    file.write_bytes(content)
    wanted = {"content": "import", "filename": "seam.raw", "checksum-algorithm": "sha256"}
    path = "/nodes/pve1/storage/local/upload"
    with pytest.raises(TaskFailed, match="checksum mismatch"):
        api.do(Call("POST", path, {**wanted, "checksum": "0" * 64}, file=str(file)))
    api.do(Call("POST", path, {**wanted, "checksum": hashlib.sha256(content).hexdigest()}, file=str(file)))
    listed = {v["volid"]: v["size"] for v in api.get("/nodes/pve1/storage/local/content", content="import")}
    assert listed["local:import/seam.raw"] == len(content)
    api.do(Call("DELETE", "/nodes/pve1/storage/local/content/local%3Aimport%2Fseam.raw"))


def test_tasks_have_their_total_beside_them(api: Api, vmid: int) -> None:
    reply = api.ask("/nodes/pve1/tasks", limit=1, vmid=vmid)
    assert len(reply.data) == 1 and (reply.total or 0) >= 1


def test_restart_of_the_node_is_lived_through(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab, connect(lab) as api:
        assert api.get("/nodes")[0]["node"] == "pve1"
        lab.kill()
        with connect(lab, api_retries=0) as quick, pytest.raises(Unreachable, match="Connection refused"):
            quick.get("/nodes")
        lab.start()
        api.do(Call("POST", "/pools", {"poolid": "after"}))
        assert api.get("/pools/after")["members"] == []


INTERRUPTED = """
import sys
from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
host, port, pin, password, vmid = sys.argv[1:]
with Api.from_params({"api_host": host, "api_port": port, "api_fingerprint": [pin], "api_password": password}) as api:
    api.do(Call("POST", f"/nodes/pve1/qemu/{vmid}/status/start"))
    try:
        api.do(Call("POST", f"/nodes/pve1/qemu/{vmid}/status/shutdown", {"timeout": 60}))
    except Failure as failure:
        sys.exit(failure.msg)
"""


def test_terminated_run_says_which_task_goes_on(lab: Lab, api: Api, vmid: int) -> None:
    """The guest has nothing to boot from, so it never answers the request to shut down."""
    arguments = ["127.0.0.1", str(lab.port), lab.fingerprint, PASSWORD, str(vmid)]
    run = subprocess.Popen([sys.executable, "-c", INTERRUPTED, *arguments], stderr=subprocess.PIPE, text=True, env={
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)
    })  # fmt: skip

    def shutting_down() -> list[str]:
        running = api.get("/nodes/pve1/tasks", source="active", vmid=vmid)
        return [t["upid"] for t in running if t["type"] == "qmshutdown" and not t.get("endtime")]

    try:
        task = until(shutting_down, "the shutdown runs")[0]
        run.send_signal(signal.SIGTERM)
        _out, told = run.communicate(timeout=30)
        assert f"The task goes on: {task}" in told
        assert shutting_down() == [task]
    finally:
        run.kill()
        run.wait()
        api.do(Call("POST", f"{QEMU}/{vmid}/status/stop", {"overrule-shutdown": True}))
