# SPDX-License-Identifier: GPL-3.0-or-later
"""The API seam against an independent fake of Proxmox VE, which checks every request against the published schema.

Its ``fakepve`` fixtures serve one fake for each test; faults are its own scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakepve import FakePve

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import (
    Forbidden,
    Locked,
    NoQuorum,
    NotFound,
    ParameterErrors,
    TaskFailed,
    Unauthorized,
    Unreachable,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure
from ansible_collections.pvelab.proxmox.tests.integration.api_parts import SECRET, Clock, api_for

VM = "/nodes/pve1/qemu/100"
START = Call("POST", f"{VM}/status/start")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reach(fakepve: FakePve, fakepve_cafile: str, clock: Clock) -> Callable[..., Any]:
    fakepve.add_vm(100, "web1", config={"scsi0": "local-lvm:vm-100-disk-0,size=1G"})
    fakepve.apitokens["root@pam!ci"] = SECRET
    fakepve.apitokens["lab@pve!ci"] = SECRET
    host = fakepve.url.removeprefix("https://")
    return lambda **params: api_for(host, clock, ca_path=fakepve_cafile, **params)


@pytest.fixture
def api(reach: Callable[..., Any]) -> Iterator[Api]:
    with reach() as ready:
        yield ready


def sent(fake: FakePve, method: str) -> list[str]:
    return [p for m, p, _body in fake.requests if m == method and not p.endswith("/access/ticket")]


def test_password_login_and_a_whole_life(reach: Callable[..., Any], fakepve: FakePve) -> None:
    with reach(api_user="root@pam", api_password="secret") as api:
        assert api.version() == (9, 0, 10)
        api.do(START)
        assert api.get(f"{VM}/status/current")["status"] == "running"
        api.do(Call("PUT", f"{VM}/config", {"name": "web2", "onboot": True}))
        assert api.get(f"{VM}/config")["onboot"] in (1, "1")
        api.do(Call("POST", f"{VM}/status/stop"))
        assert api.get(f"{VM}/status/current")["status"] == "stopped"
    assert len([p for m, p, _body in fakepve.requests if p.endswith("/access/ticket")]) == 1


def test_what_is_missing(api: Api) -> None:
    assert api.find("/nodes/pve1/qemu/999/config") is None
    assert api.find("/pools/none") is None
    with pytest.raises(NotFound):
        api.get("/storage/none")


def test_parameters_are_refused_by_name(api: Api) -> None:
    with pytest.raises(ParameterErrors, match="cores:") as caught:
        api.do(Call("PUT", f"{VM}/config", {"cores": 0, "nosuch": 1}))
    assert set(caught.value.errors or {}) == {"cores", "nosuch"}
    assert "Proxmox VE 9.0.10 does not know that option" in caught.value.msg


def test_wrong_secret(reach: Callable[..., Any]) -> None:
    with reach(api_token_id="ci", api_token_secret="0" * 36) as api, pytest.raises(Unauthorized) as caught:
        api.get("/nodes")
    assert "0000" not in str(caught.value.result())


def test_missing_privilege_is_named(reach: Callable[..., Any], fakepve: FakePve) -> None:
    fakepve.grant("lab@pve!ci", "/vms/100", "VM.Audit")
    with reach(api_token_id="lab@pve!ci", api_token_secret=SECRET) as api:
        assert api.get(f"{VM}/status/current")["status"] == "stopped"
        with pytest.raises(Forbidden, match=r"lab@pve!ci lacks the privilege VM\.PowerMgmt on /vms/100"):
            api.do(START)


def test_second_factor_is_asked_for(reach: Callable[..., Any], fakepve: FakePve) -> None:
    fakepve.tfa = True
    with reach(api_password="secret") as api, pytest.raises(Unauthorized, match="has a second factor"):
        api.get("/nodes")


def test_revoked_ticket(reach: Callable[..., Any], fakepve: FakePve) -> None:
    with reach(api_password="secret") as api:
        api.get("/nodes")
        fakepve.revoke_tickets()
        api.do(START)
    assert fakepve.vm(100).status == "running"


def test_failing_task_has_its_log(api: Api, fakepve: FakePve) -> None:
    fakepve.vm(100).start_error = "volume 'local-lvm:vm-100-disk-0' does not exist"
    with pytest.raises(TaskFailed, match="vm-100-disk-0' does not exist") as caught:
        api.do(START)
    assert any("does not exist" in line for line in caught.value.task_log or [])
    assert len(sent(fakepve, "POST")) == 1


def test_no_quorum_reads_and_does_not_write(api: Api, fakepve: FakePve, clock: Clock) -> None:
    fakepve.lose_quorum()
    assert api.get(f"{VM}/config")["name"] == "web1"
    with pytest.raises(NoQuorum, match="until enough nodes are back"):
        api.do(START)
    assert clock.pauses == [0.5, 1.0, 2.0], "it may come back soon, and nothing was done"


def test_quorum_that_comes_back(api: Api, fakepve: FakePve) -> None:
    fakepve.fail("POST", f"{VM}/status/start", 500, "cluster not ready - no quorum?", times=2)
    api.do(START)
    assert fakepve.vm(100).status == "running"


def test_file_lock_is_tried_again(api: Api, fakepve: FakePve) -> None:
    text = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    fakepve.fail("PUT", f"{VM}/config", 500, text, times=2)
    api.do(Call("PUT", f"{VM}/config", {"onboot": 1}))
    assert len(sent(fakepve, "PUT")) == 3


def test_forgotten_lock(api: Api, fakepve: FakePve) -> None:
    fakepve.snapshot_lock(100)
    with pytest.raises(Locked, match=r"VM 100 is locked \(snapshot\), but no task is running .* qm unlock 100"):
        api.do(START)


def test_backup_is_waited_for(api: Api, fakepve: FakePve, clock: Clock) -> None:
    name = "UPID:pve1:00000001:00000001:00000001:vzdump:100:root@pam:"
    task = {"upid": name, "node": "pve1", "id": "100", "type": "vzdump", "starttime": 1, "user": "root@pam"}
    fakepve.tasklog.append({**task, "status": "running", "log": []})
    fakepve.snapshot_lock(100, "backup")

    def end(now: float) -> None:
        if now > 20:
            fakepve.unlock(100)

    clock.ticks.append(end)
    api.do(START)
    assert fakepve.vm(100).status == "running"
    assert clock.now > 20 and len(sent(fakepve, "POST")) == 2


def test_node_that_is_offline(api: Api, fakepve: FakePve) -> None:
    fakepve.add_node("pve2", online=False)
    with pytest.raises(Unreachable, match="the node 'pve2' is offline"):
        api.get("/nodes/pve2/status")


def test_node_that_does_not_exist(api: Api, fakepve: FakePve) -> None:
    fakepve.fail("GET", "/nodes/pve1.lan/status", 596, "certificate verify failed")
    with pytest.raises(Failure, match=r"there is no node 'pve1\.lan'; the cluster has pve1"):
        api.get("/nodes/pve1.lan/status")


def test_page_of_a_proxy(api: Api, fakepve: FakePve) -> None:
    fakepve.fail("GET", "/nodes", 502, "<html>Bad Gateway</html>", html=True, times=2)
    assert api.get("/nodes")[0]["node"] == "pve1"


def test_connections_that_drop_now_and_then(api: Api, fakepve: FakePve) -> None:
    fakepve.flaky_network(drop_rate=0.3, seed=7)
    fakepve._random.seed(7)
    for _each in range(30):
        assert api.get("/nodes")[0]["node"] == "pve1"
    assert len(sent(fakepve, "GET")) == 30


def test_lost_answer_to_a_start_is_found_or_said_to_be_unknown(api: Api, fakepve: FakePve) -> None:
    fakepve.fail("POST", f"{VM}/status/start", 596, "Broken pipe", times=1)
    with pytest.raises(Failure, match="not known whether POST"):
        api.do(START)
    assert len(sent(fakepve, "POST")) == 1
    api.do(START)
    assert fakepve.vm(100).status == "running"
