# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of the inventory from guests that boot: from an agent that answers, and beside one that is held."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from proxmoxer import ResourceException

from ansible_collections.pvelab.proxmox.tests.integration.inventory_parts import listed
from ansible_collections.pvelab.proxmox.tests.integration.module_parts import passed
from ansible_collections.pvelab.proxmox.tests.lab import Lab, until

pytestmark = pytest.mark.release

BOOT_S = 180
GUEST = {
    "ostype": "l26", "memory": 96, "scsihw": "virtio-scsi-pci", "agent": {"enabled": True}, "boot": ["scsi0"],
    "disks": [{"slot": "scsi0", "storage": "local", "import_from": "local:import/canary.qcow2"}],
    "nics": [{"slot": "net0", "model": "virtio", "bridge": "vmbr0"}], "status": "running",
}  # fmt: skip
ADDRESSES = {100: "192.0.2.100", 101: "192.0.2.101"}


@pytest.fixture(scope="module")
def booted(lab: Lab, canary_image: Path) -> Iterator[Lab]:
    """Two guests whose agents answer, and one that has none and nothing to boot."""
    passed(lab.module("storage", {"storage": "local", "content": ["images", "import", "iso"]}))
    upload = {"storage": "local", "src": str(canary_image), "filename": "canary.qcow2"}
    passed(lab.module("image", upload))
    for vmid, address in ADDRESSES.items():
        cloud_init = {"storage": "local", "ip_configs": [{"slot": "ipconfig0", "ip": f"{address}/24"}]}
        passed(lab.module("vm", {"vmid": vmid, "name": f"g{vmid}", "cloud_init": cloud_init, **GUEST}))
    passed(lab.module("vm", {"vmid": 102, "name": "bare", "memory": 64, "status": "running"}))
    qemu = lab.api().nodes(lab.node).qemu
    for vmid in ADDRESSES:
        until(lambda vmid=vmid: agent_answers(qemu(vmid)), f"the agent of {vmid} answers", BOOT_S)
    yield lab


def agent_answers(guest: Any) -> bool:
    try:
        return bool(guest.agent("network-get-interfaces").get()["result"])
    except ResourceException:
        return False


def test_an_address_comes_from_the_agent_and_one_that_hangs_costs_its_time(booted: Lab, tmp_path: Path) -> None:
    found = listed(tmp_path, booted.environment(), {"strict": True})
    assert found.rc == 0, found.told
    seen = found.hosts["g100"]
    assert (seen["ansible_host"], seen["proxmox_agent"]) == ("192.0.2.100", "running")
    assert [card["name"] for card in seen["proxmox_agent_interfaces"]] == ["lo", "eth0"]
    assert found.hosts["bare"]["proxmox_agent"] == "not asked" and "ansible_host" not in found.hosts["bare"]
    assert found.groups["proxmox_status_running"] == ["bare", "g100", "g101"]

    process = psutil.Process(int((booted.state / "run/101/qemu.pid").read_text(encoding="ascii")))
    process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        held = listed(tmp_path, booted.environment(), {"agent_timeout_s": 1})
        took = time.monotonic() - began
    finally:
        process.send_signal(signal.SIGCONT)
    assert held.rc == 0, held.told
    assert held.hosts["g100"]["proxmox_agent"] == "running"
    assert "did not answer within 1 seconds" in held.hosts["g101"]["proxmox_agent"]
    assert held.hosts["g101"]["ansible_host"] == "192.0.2.101", "what cloud-init was told stands in for it"
    assert took < 20, "one second for the agent, the rest for Ansible on a busy machine"
