# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed in the middle of site.yml, twice: the next one converges, without duplicate or orphan."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab, failures, orphans, stats, until
from ansible_collections.pvelab.proxmox.tests.proxy import Nth, Proxy

DISKS = [{"slot": f"scsi{i}", "storage": "local", "size": "1G", "format": "qcow2"} for i in range(2)]
GUEST: dict[str, Any] = {"memory": 64, "tags": ["kept"], "disks": DISKS, "status": "running"}
SITE = ROOT / "playbooks" / "site.yml"
CREW = ("crew1", "crew2")
# Writes at which the controller is killed, one run after the other, so that each finds what the one before has left.
# The storage, the image, the pool and the first guest are there; the second is being made, then waits for its snapshot.
MOMENTS = [(re.compile("/nodes/pve1/qemu"), 1), (re.compile(r"/nodes/pve1/qemu/\d+/snapshot"), 1)]


def inventory(folder: Path) -> Path:
    """A lab as users write it down, with guests that are made quickly."""
    (folder / "depot").mkdir()
    (folder / "tiny.iso").write_bytes(b"\0" * 4096)
    site = {
        "storage_list": [
            {"storage": "depot", "type": "dir", "path": str(folder / "depot"), "content": ["images", "iso"]}
        ],
        "images_list": [{"storage": "depot", "src": str(folder / "tiny.iso")}],
        "guests_pools": [{"poolid": "crew", "comment": "Together"}],
        "guests_defaults": {**GUEST, "pool": "crew", "disks": [{**disk, "storage": "depot"} for disk in DISKS]},
        "guests_list": [{"name": name} for name in CREW],
        "snapshots_list": [{"snapname": "fresh", "guests": list(CREW)}],
    }
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps({"proxmox": {"hosts": {"pve1": {**here, **site}}}}), encoding="utf-8")
    return hosts


def kill_during_site(lab: Lab, hosts: Path, path: re.Pattern[str], n: int) -> None:
    """Run site.yml until it sends the write number ``n`` to ``path``; it does not live to see the answer."""
    nth = Nth(n, "after", path)
    with Proxy(lab, nth) as proxy:
        process = lab.begin_playbook(SITE, "-i", str(hosts), port=proxy.port)
        try:
            until(lambda: nth.happened.is_set() or process.poll() is not None, f"it comes to {path.pattern}", 120)
        finally:
            kill_all(process)
    assert nth.happened.is_set()


def test_controller_is_killed_during_site(lab: Lab, tmp_path: Path) -> None:
    hosts = inventory(tmp_path)
    for path, n in MOMENTS:
        kill_during_site(lab, hosts, path, n)
    # Tasks that the node had begun go on; a careful person would look at them first, but need not.
    last = lab.playbook(SITE, "-i", str(hosts))
    assert last["rc"] == 0, failures(last)
    again = lab.playbook(SITE, "-i", str(hosts))
    assert (again["rc"], stats(again)["changed"]) == (0, 0), again
    api = lab.api()
    guests = api.nodes("pve1").qemu.get()
    assert sorted(g["name"] for g in guests) == sorted(CREW), "a guest twice, or half of one"
    assert orphans(api) == set()
    for vmid in [g["vmid"] for g in guests]:
        assert {s["name"] for s in api.nodes("pve1").qemu(vmid).snapshot.get()} == {"fresh", "current"}
        gone = lab.module("vm", {"vmid": vmid, "state": "absent", "force_stop": True, "allow_data_loss": True})
        assert gone["changed"], gone
    assert orphans(api) == set()


def kill_all(process: subprocess.Popen[str]) -> None:
    """kill -9 the controller with all its children, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
