# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the demo as a person does, in a lab of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "inventories" / "embedded"
IMAGE = ROOT / ".cache/image/canary.qcow2"
LIMIT_S = 400.0


def small_lab(folder: Path) -> Path:
    """An inventory with one of everything, whose guest boots nothing, so that a run is soon over."""
    inventory = folder / "inventory"
    variables = inventory / "group_vars" / "proxmox"
    variables.mkdir(parents=True)
    (inventory / "hosts.yml").symlink_to(EMBEDDED / "hosts.yml")
    (variables / "connection.yml").symlink_to(EMBEDDED / "group_vars/proxmox/connection.yml")
    store = {"storage": "lab", "type": "dir", "content": ["images", "import"]}
    disk = {"slot": "scsi0", "storage": "lab", "size": "16M", "format": "qcow2"}
    web1 = {"name": "web1", "vmid": 101, "clone": {"source": "canary"}, "pool": "lab", "status": "running"}
    lab = {
        "storage_list": [{**store, "path": "{{ lab_state | realpath }}/storage/lab"}],
        "images_list": [{"storage": "lab", "src": str(IMAGE), "filename": IMAGE.name}],
        "guests_pools": [{"poolid": "lab"}],
        "guests_templates": [{"name": "canary", "vmid": 9000, "memory": 32, "disks": [disk]}],
        "guests_list": [web1],
        "snapshots_list": [{"snapname": "clean", "guests": ["web1"]}],
    }
    (variables / "lab.yml").write_text(json.dumps(lab), encoding="utf-8")
    return inventory


def injected(journal: Path) -> bool:
    """Whether a run is behind its injection, and not over."""
    found = json.loads(journal.read_text(encoding="utf-8"))
    return found["marks"]["inject"] is not None and found["verdict"] is None


def living_lab(folder: Path) -> Path:
    """The same with a guest that lives, and that drills may break."""
    inventory = small_lab(folder)
    variables, drills = inventory / "group_vars/proxmox/lab.yml", inventory / "group_vars/embedded"
    lab = json.loads(variables.read_text(encoding="utf-8"))
    lab["guests_templates"][0].update(
        memory=96,
        serial=[{"slot": "serial0", "device": "socket"}],
        disks=[{"slot": "scsi0", "storage": "lab", "import_from": f"lab:import/{IMAGE.name}"}],
        boot=["scsi0"],
    )
    lab["guests_list"][0].update(tags=["drill-ok"], agent={"enabled": True}, scsihw="virtio-scsi-pci")
    variables.write_text(json.dumps({**lab, "guests_wait_for_agent_s": 120}), encoding="utf-8")
    drills.mkdir()
    (drills / "drills.yml").symlink_to(EMBEDDED / "group_vars/embedded/drills.yml")
    targets = {name: {"victims": [101]} for name in ("guest_hang", "guest_crash")}
    (drills / "targets.yml").write_text(json.dumps({"drill_targets": targets}), encoding="utf-8")
    return inventory


class Demo:
    """One lab directory; `start` runs tools/demo or tools/demo-down in a session of its own, as a terminal would."""

    def __init__(self, folder: Path) -> None:
        self.lab = folder / "lab"
        self.logs = folder / "logs"
        self.runs = self.lab / "drill/var/lib/pvelab/drills"
        self.out = folder / "out.txt"

    def start(self, program: str = "demo", **more: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "LAB_STATE": str(self.lab), "LAB_LOGS": str(self.logs), "KVM": "off", **more}
        with self.out.open("wb") as out:
            return subprocess.Popen(
                [ROOT / "tools" / program],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def run(self, program: str = "demo", **more: str) -> str:
        """To the end; what it said."""
        process = self.start(program, **more)
        assert process.wait(LIMIT_S) == 0, self.said()
        return self.said()

    def said(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, process: subprocess.Popen[bytes], text: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while text not in self.said():
            assert process.poll() is None, f"it ended before it said {text!r}:\n{self.said()}"
            assert time.monotonic() < deadline, f"it never said {text!r}:\n{self.said()}"
            time.sleep(0.05)

    def wait_for_a_fault(self, process: subprocess.Popen[Any], name: str) -> None:
        """Until the runner of a drill has begun to break something."""
        deadline = time.monotonic() + LIMIT_S
        while not [path for path in self.runs.glob(f"*-{name}-*/journal.json") if injected(path)]:
            assert process.poll() is None, f"it ended before {name} had begun:\n{self.said()}"
            assert time.monotonic() < deadline, f"{name} never began:\n{self.said()}"
            time.sleep(0.05)

    def interrupt(self, process: subprocess.Popen[bytes]) -> int:
        """Ctrl-C: to everything in the foreground."""
        os.killpg(process.pid, signal.SIGINT)
        return process.wait(LIMIT_S)

    def processes(self) -> list[str]:
        """Command lines of whatever still works for this lab."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            line = " ".join(process.info["cmdline"] or [])
            mine = str(self.lab) in line or (process.info["environ"] or {}).get("LAB_STATE") == str(self.lab)
            if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(line)
        return found

    def is_gone(self) -> None:
        """No process and no file is left. Ended processes may take a moment to be gone."""
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.processes() == []
        assert not self.lab.exists()

    def sweep(self) -> None:
        """After a test that failed half way."""
        for process in psutil.process_iter(["cmdline"]):
            if str(self.lab) in " ".join(process.info["cmdline"] or []):
                process.kill()
        shutil.rmtree(self.lab, ignore_errors=True)
