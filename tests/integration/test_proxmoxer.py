# SPDX-License-Identifier: GPL-3.0-or-later
"""proxmoxer's own calls work against labnode, unchanged: logins, uploads, tasks, errors."""

from __future__ import annotations

import io
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.backends.https import AuthenticationError
from proxmoxer.tools import Tasks

from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, Lab


def login(lab: Lab, **credentials: Any) -> Any:
    return ProxmoxAPI("127.0.0.1", port=lab.port, verify_ssl=str(lab.certificate), **credentials)


def test_a_password_gives_a_ticket(lab: Lab) -> None:
    api = login(lab, user="root@pam", password=PASSWORD)
    assert api.version.get()["release"]
    ticket, csrf = api.get_tokens()
    assert ticket.startswith("PVE:root@pam:") and csrf


def test_a_wrong_password_is_refused(lab: Lab) -> None:
    with pytest.raises(AuthenticationError):
        login(lab, user="root@pam", password="wrong")


def test_a_token_may_do_what_it_was_given(lab: Lab, api: Any) -> None:
    secret = api.access.users("root@pam").token("robot").post(privsep=1)["value"]
    robot = login(lab, user="root@pam", token_name="robot", token_value=secret)
    assert robot.version.get()["version"]
    assert robot.nodes("pve1").qemu.get() == []
    with pytest.raises(ResourceException) as refused:
        robot.pools.post(poolid="mine")
    assert refused.value.status_code == 403
    api.access.acl.put(path="/pool", tokens="root@pam!robot", roles="PVEPoolAdmin")
    robot.pools.post(poolid="mine")
    api.pools("mine").delete()
    api.access.users("root@pam").token("robot").delete()


def test_a_guest_is_made_by_a_task_that_can_be_followed(api: Any) -> None:
    node = api.nodes("pve1")
    vmid = int(api.cluster.nextid.get())
    upid = node.qemu.post(vmid=vmid, name="made", memory=64, scsi0="local:1")
    done = Tasks.blocking_status(api, upid, timeout=60, polling_interval=0.1)
    assert done["exitstatus"] == "OK"
    assert Tasks.decode_upid(upid)["type"] == "qmcreate"
    assert "TASK OK" in Tasks.decode_log(node.tasks(upid).log.get())
    Tasks.blocking_status(api, node.qemu(vmid).delete(), timeout=60, polling_interval=0.1)
    with pytest.raises(ResourceException):
        node.qemu(vmid).config.get()


def test_a_file_is_uploaded(api: Any) -> None:
    storage = api.nodes("pve1").storage("local")
    image = io.BytesIO(b"\0" * 65536)
    image.name = "up.iso"
    upid = storage.upload.post(content="iso", filename=image)
    Tasks.blocking_status(api, upid, timeout=60, polling_interval=0.1)
    assert [v["volid"] for v in storage.content.get(content="iso")] == ["local:iso/up.iso"]
    storage.content("local:iso/up.iso").delete()


def test_wrong_parameters_are_named(api: Any) -> None:
    with pytest.raises(ResourceException) as refused:
        api.nodes("pve1").qemu.post(vmid=5, colour="blue")
    assert refused.value.status_code == 400
    assert set(refused.value.errors) == {"vmid", "colour"}
