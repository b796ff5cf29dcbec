# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of docs/security.md make a token that may do what the roles do, and no more, and the whole site runs
with it: made, left alone, and taken away. Takes about a minute."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab
from ansible_collections.pvelab.proxmox.tests.privileges import carry_out, security_page, typed
from ansible_collections.pvelab.proxmox.tests.stories.secret_parts import Plays

pytestmark = pytest.mark.release

TOKEN = "ansible@pve!lab"


def inventory(folder: Path, connection: dict[str, Any]) -> Path:
    """A lab with something for every role, and what takes privileges of its own."""
    (folder / "tiny.iso").write_bytes(b"\0" * 4096)
    disk = {"slot": "scsi0", "storage": "depot", "size": "4M", "format": "qcow2"}
    site = {
        "storage_list": [
            {"storage": "depot", "type": "dir", "path": str(folder / "depot"), "content": ["images", "iso"]}
        ],
        "images_list": [{"storage": "depot", "src": str(folder / "tiny.iso"), "filename": "tiny.iso"}],
        "guests_pools": [{"poolid": "crew"}],
        "guests_defaults": {"pool": "crew", "memory": 16, "kvm": False, "tags": ["crew"]},
        "guests_templates": [{"name": "mould", "vmid": 900, "disks": [disk], "boot": ["scsi0"]}],
        "guests_list": [
            {
                "name": "web1",
                "clone": {"source": "mould", "full": False},
                "cores": 1,
                "startup": {"order": 1},
                "nics": [{"slot": "net0", "bridge": "vmbr0"}],
                "cloud_init": {"storage": "depot", "user": "admin"},
                "disks": [{**disk, "slot": "scsi1"}, {"slot": "ide0", "volume": "none", "media": "cdrom"}],
                "shutdown_timeout_s": 1,
                "status": "running",
            }
        ],
        "snapshots_list": [{"snapname": "fresh", "guests": ["web1"]}],
    }
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = folder / "hosts.json"
    groups = {"proxmox": {"hosts": {"pve1": {**here, **connection, **site}}}, "hypervisors": {"hosts": {}}}
    hosts.write_text(json.dumps(groups), encoding="utf-8")
    return hosts


def test_the_site_runs_with_the_token_of_the_page(lab: Lab, tmp_path: Path) -> None:
    api = lab.api()
    secrets = [secret for command in typed() if (secret := carry_out(api, command))]
    (secret,) = secrets
    tool = security_page()
    granted = api.access.permissions.get(userid=TOKEN)
    wanted = tool.of_the_roles(tool.load())
    assert {path: sorted(granted[path]) for path in wanted} == wanted
    assert "Sys.Modify" not in granted["/nodes"], "what is for / alone is not handed down"

    connection = {
        "proxmox_api_host": "127.0.0.1",
        "proxmox_api_port": lab.port,
        "proxmox_api_token_id": TOKEN,
        "proxmox_api_token_secret": secret,
        "proxmox_api_fingerprint": [lab.fingerprint],
    }
    hosts = inventory(tmp_path, connection)
    plays = Plays(lab, tmp_path)
    plays.run("made", ROOT / "playbooks/site.yml", "-i", str(hosts))
    again = plays.run("again", ROOT / "playbooks/site.yml", "-i", str(hosts))
    assert "changed=0 " in again
    plays.run("gone", ROOT / "playbooks/teardown.yml", "-i", str(hosts), teardown_confirm="pve1")
    assert (api.nodes(lab.node).qemu.get(), api.pools.get()) == ([], [])
    tasks = api.nodes(lab.node).tasks.get(source="all", limit=500)
    # The node begins with one of its own, which starts the guests that are to run.
    assert {task["user"] for task in tasks if task["type"] != "startall"} == {"ansible@pve"}
