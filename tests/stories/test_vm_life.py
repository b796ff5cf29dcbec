# SPDX-License-Identifier: GPL-3.0-or-later
"""The module vm with guests that really run: imported, booted, changed while they run, paused, shut down, cut off."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.vm_parts import done, engine, module, refused
from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab, finished, orphans, until

pytestmark = pytest.mark.release

BOOT_S = 120.0


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    """The guest image as a volume to import."""
    built = subprocess.run([ROOT / "labnode/image/build", "--quiet"], capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(built.stderr.strip())
    uploaded = lab.module("image", {"storage": "local", "content": "import", "src": built.stdout.strip()})
    assert not uploaded.get("failed"), uploaded
    return "local:import/canary.qcow2"


def info(lab: Lab, vmid: int) -> Any:
    result = lab.module("vm_info", {"vmid": vmid, "addresses": True, "snapshots": True})
    assert not result.get("failed"), result
    return result["vms"][0]


def test_an_imported_guest_boots_is_changed_and_shuts_down(lab: Lab, image: str, api: Any) -> None:
    guest: dict[str, Any] = {
        "vmid": 100,
        "name": "canary",
        "memory": 128,
        "agent": {"enabled": True},
        "disks": [{"slot": "virtio0", "storage": "local", "import_from": image, "size": "256M", "format": "qcow2"}],
        "nics": [{"slot": "net0", "bridge": "vmbr0"}],
        "serial": [{"slot": "serial0", "device": "socket"}],
        "cloud_init": {"storage": "local", "ip_configs": [{"slot": "ipconfig0", "ip": "10.77.0.5/24"}]},
        "status": "running",
    }
    made = done(lab, guest, run=module)
    assert made["object"]["virtio0"]["size"] == "256M"
    mac = made["object"]["net0"]["mac"]
    until(lambda: info(lab, 100)["agent"] == "running", "the guest agent answers", BOOT_S)
    addresses = [a for a in info(lab, 100)["addresses"] if a["mac"] == mac]
    assert "10.77.0.5" in [a["address"] for a in addresses]

    # While it runs: what can be changed at once, what waits, and what a restart then applies.
    done(lab, {"vmid": 100, "description": "changed while running", "nics": [{"slot": "net0", "link_down": True}]})
    assert info(lab, 100)["pending"] == []
    waits = done(lab, {"vmid": 100, "cores": 2})
    assert [p["key"] for p in waits["object"]["pending"]] == ["cores"]
    assert any("take effect when it is shut down and started: cores" in w for w in waits["warnings"])
    before = info(lab, 100)["uptime_s"]
    applied = done(lab, {"vmid": 100, "cores": 2, "apply_pending": "reboot", "shutdown_timeout_s": 90})
    assert (applied["object"]["pending"], applied["object"]["status"]) == ([], "running")
    assert [s["request"].rpartition("/")[2] for s in applied["steps"]] == ["shutdown", "start"]
    assert info(lab, 100)["uptime_s"] <= max(before, 5)

    done(lab, {"vmid": 100, "status": "paused"})
    done(lab, {"vmid": 100, "status": "running"})
    assert "is running. Stop it first" in refused(lab, {"vmid": 100, "state": "absent", "allow_data_loss": True})
    until(lambda: info(lab, 100)["agent"] == "running", "the guest agent answers again", BOOT_S)
    stopped = done(lab, {"vmid": 100, "status": "stopped", "shutdown_timeout_s": 90})
    assert stopped["object"]["status"] == "stopped"
    done(lab, {"vmid": 100, "state": "absent", "allow_data_loss": True, "purge": True})
    assert orphans(api) == set()


def test_a_guest_that_ignores_the_shutdown_is_only_cut_off_on_request(lab: Lab) -> None:
    done(lab, {"vmid": 110, "name": "deaf", "memory": 32, "status": "running"})
    result = engine(lab, {"vmid": 110, "status": "stopped", "shutdown_timeout_s": 1})
    assert "got timeout. The guest ignored it: stop it, or give it longer" in result["msg"]
    assert info(lab, 110)["status"] == "running"
    done(lab, {"vmid": 110, "status": "stopped", "shutdown_timeout_s": 1, "force_stop": True})
    done(lab, {"vmid": 110, "status": "paused"})
    done(lab, {"vmid": 110, "status": "stopped", "force_stop": True})
    done(lab, {"vmid": 110, "status": "running"})
    done(lab, {"vmid": 110, "state": "absent", "force_stop": True})


def test_disks_and_cards_of_a_running_guest(lab: Lab, api: Any) -> None:
    done(
        lab,
        {
            "vmid": 120,
            "name": "plugs",
            "memory": 32,
            "scsihw": "virtio-scsi-pci",
            "disks": [{"slot": "scsi0", "storage": "local", "size": "8M", "format": "qcow2"}],
            "cloud_init": {"storage": "local", "user": "one"},
            "status": "running",
        },
    )
    done(
        lab,
        {"vmid": 120, "disks": [{"slot": "scsi0", "size": "16M"}, {"slot": "scsi1", "storage": "local", "size": "4M"}]},
    )
    done(lab, {"vmid": 120, "nics": [{"slot": "net0", "bridge": "vmbr0"}]})
    again = done(lab, {"vmid": 120, "cloud_init": {"user": "two"}})
    assert [s["request"] for s in again["steps"]] == [
        "PUT /nodes/pve1/qemu/120/config",
        "PUT /nodes/pve1/qemu/120/cloudinit",
    ]
    done(lab, {"vmid": 120, "unset": ["scsi1", "net0"]})
    done(lab, {"vmid": 120, "state": "absent", "force_stop": True, "allow_data_loss": True})
    assert orphans(api) == set()


def cut_off(lab: Lab, params: dict[str, Any], begun: str) -> None:
    """Begin to make a guest, and kill the node as soon as ``begun`` shows in its state directory; start it again."""
    run = lab.begin_module("vm", params)
    until(lambda: list(lab.state.rglob(begun)) or run.poll() is not None, f"{begun} is there")
    lab.kill()
    lab.start()
    assert "was killed or its node restarted while it ran" in finished(run)["msg"]


@pytest.mark.parametrize(("kind", "number"), [("by id", 130), ("by name", 131), ("clone", 132)])
def test_a_guest_whose_making_the_node_did_not_survive_is_finished_by_the_next_run(
    lab: Lab, tmp_path: Path, kind: str, number: int
) -> None:
    source = tmp_path / "big.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", source, "8G"], check=True)
    # Many volumes, so that the node is still busy with them when the first one is there.
    image = {"storage": "local", "import_from": str(source), "format": "qcow2"}
    disks = [{"slot": f"scsi{i}", **image} for i in range(6)]
    params: dict[str, Any] = {"vmid_range": [131, 131]} if kind == "by name" else {"vmid": number}
    if kind == "clone":
        done(lab, {"vmid": 139, "name": "seed", "disks": disks})
        params["clone"] = {"source": "seed", "full": True}
    else:
        params["disks"] = disks
    params["name"] = f"cut-{number}"
    cut_off(lab, params, f"vm-{number}-disk-0*")
    result = module(lab, params)
    assert not result.get("failed"), result["msg"]
    what = "clone" if kind == "clone" else "creation"
    assert f"the {what} of guest {number} was cut off" in str(result["warnings"])
    guests = lab.api().nodes("pve1").qemu.get()
    assert [g["vmid"] for g in guests if g["name"] == params["name"]] == [number]
    assert module(lab, params)["changed"] is False
    assert orphans(lab.api()) == set()
    done(lab, {"vmid": number, "state": "absent", "allow_data_loss": True})
