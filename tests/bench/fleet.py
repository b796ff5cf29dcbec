# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests that are made, in the words of each client. They are never started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FIRST, NODE, STORAGE = 1000, "pve1", "local"
MEMORY, DRIFTED_MEMORY = 128, 256
SNAPSHOT = "before"
ACTIONS = ("create", "unchanged", "drift", "snapshot", "delete")


@dataclass(frozen=True)
class Fleet:
    """``count`` guests, each with one qcow2 disk of ``disk_gib`` GiB on a storage of files, with 0 with none."""

    count: int
    disk_gib: int = 1

    @property
    def vmids(self) -> list[int]:
        return list(range(FIRST, FIRST + self.count))

    @property
    def drifting(self) -> list[int]:
        """Every tenth, and at least one."""
        return self.vmids[::10]

    def ours(self, vmid: int) -> dict[str, Any]:
        """Options of pvelab.proxmox.vm, which are those of an entry of pvelab.proxmox.guests."""
        disks = [{"slot": "scsi0", "storage": STORAGE, "size": f"{self.disk_gib}G", "format": "qcow2"}]
        return {
            "vmid": vmid,
            "name": f"bench{vmid}",
            "node": NODE,
            "memory": MEMORY,
            "cores": 1,
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "tags": ["bench"],
            "nics": [{"slot": "net0", "model": "virtio", "bridge": "vmbr0"}],
            **({"disks": disks} if self.disk_gib else {}),
        }

    def theirs(self, vmid: int) -> dict[str, Any]:
        """Options of community.proxmox.proxmox_kvm."""
        return {
            "vmid": vmid,
            "name": f"bench{vmid}",
            "node": NODE,
            "memory": MEMORY,
            "cores": 1,
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "tags": ["bench"],
            "net": {"net0": "virtio,bridge=vmbr0"},
            **({"scsi": {"scsi0": self._new_disk()}} if self.disk_gib else {}),
        }

    def form(self, vmid: int) -> dict[str, Any]:
        """Parameters of POST /nodes/{node}/qemu without the id."""
        return {
            "name": f"bench{vmid}",
            "memory": MEMORY,
            "cores": 1,
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "tags": "bench",
            "net0": "virtio,bridge=vmbr0",
            **({"scsi0": self._new_disk()} if self.disk_gib else {}),
        }

    def repair(self) -> dict[str, Any]:
        """Parameters of PUT …/config that undo the drift."""
        return {"memory": MEMORY}

    def _new_disk(self) -> str:
        return f"{STORAGE}:{self.disk_gib},format=qcow2"
