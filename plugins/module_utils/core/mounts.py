# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems on devices of their own, mounted by systemd (systemd.mount(5), systemd.unit(5)). Pure."""

from __future__ import annotations

import hashlib

from .disks import SETTLE, Disks
from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step, Write


def unit_name(path: str) -> str:
    """The name that systemd asks of the unit of a mount point: /srv/my-vms → srv-my\\x2dvms.mount."""
    kept = []
    for index, char in enumerate(path.strip("/")):
        if char == "/":
            kept.append("-")
        elif (char.isalnum() and char.isascii()) or char in ":_" or (char == "." and index):
            kept.append(char)
        else:
            kept += [f"\\x{byte:02x}" for byte in char.encode()]
    return "".join(kept) + ".mount"


def unit_path(path: str) -> str:
    """Where that unit is kept."""
    return f"/etc/systemd/system/{unit_name(path)}"


def unit_text(path: str, identity: str, fstype: str, options: list[str]) -> str:
    """The unit. A device that is missing does not keep the host from booting, for systemd waits for it no longer."""
    what = path.replace("%", "%%")
    return (
        "# Managed by pvelab.proxmox.directory_storage\n"
        f"[Unit]\nDescription=Storage at {what}\n\n"
        f"[Mount]\nWhat=/dev/disk/by-uuid/{identity}\nWhere={what}\nType={fstype}\n"
        f"Options={','.join(['nofail', *options])}\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def fresh_uuid(machine: str, device: str, path: str, fstype: str) -> str:
    """The UUID of a file system that is to be made: known beforehand, so that check mode can show the whole unit."""
    digest = hashlib.sha256("\n".join((machine, device, path, fstype)).encode()).hexdigest()
    # Version 8 and variant 8 of RFC 9562: an identity of the application's own making.
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def directory_want(params: Params) -> State | None:
    """The wanted state: what is on the device, the unit as it is kept, whether it starts at boot and is mounted now."""
    if params["state"] == "absent":
        return None
    path, fstype = params["path"], params["fstype"]
    identity = params.get("_uuid")
    text = unit_text(path, identity, fstype, params["options"]) if identity else None
    device = params["_disks"].path(params["device"]) if "_disks" in params else None
    return {"fstype": fstype, "uuid": identity, "unit": text, "enabled": True, "mounted": device}


def directory_steps(plan: Plan, params: Params) -> list[Step]:
    """Steps for a directory with a file system of its own; ``_files``: what its directory holds. Raises Failure."""
    path, unit = params["path"], unit_name(params["path"])
    if plan.action == "delete":
        return [
            Run(("systemctl", "disable", "--now", unit), label=f"unmount {path}"),
            Write(unit_path(path), None, label=f"forget the mount of {path}"),
            Run(("systemctl", "daemon-reload"), label="let systemd know"),
        ]
    disks: Disks = params["_disks"]
    changes = plan.changes
    steps: list[Step] = []
    if {"fstype", "uuid"} & set(changes):
        steps += _formatted(params, disks)
    if "mounted" in changes:
        if changes["mounted"].before:
            raise Failure(f"{changes['mounted'].before} is mounted on {path} already. Unmount it first.")
        if params["_files"]:
            raise Failure(f"{path} holds files, and a mount would hide them. Move them away first.")
    if "unit" in changes:
        steps.append(Write(unit_path(path), changes["unit"].after, label=f"mount {path} at boot"))
        steps.append(Run(("systemctl", "daemon-reload"), label="let systemd know"))
    if {"enabled", "mounted"} & set(changes):
        steps.append(Run(("systemctl", "enable", "--now", unit), label=f"mount {path}"))
    elif "unit" in changes:
        steps.append(Run(("systemctl", "reload", unit), label=f"mount {path} with other options"))
    return steps


def _formatted(params: Params, disks: Disks) -> list[Step]:
    device, fstype, identity = disks.path(params["device"]), params["fstype"], params["_uuid"]
    argv = {
        "ext4": ("mkfs.ext4", "-q", "-F", "-U", identity, device),
        "xfs": ("mkfs.xfs", "-q", "-m", f"uuid={identity}", device),
    }[fstype]
    made = Run(argv, label=f"make a file system ({fstype}) on {device}", timeout_s=1800.0)
    # mkfs overwrites what udev has not told of; blkid looks for itself, and ends with 2 where there is nothing.
    empty = Run(("blkid", "-p", device), label=f"make sure that {device} is empty", ok_rcs=(2,))
    return [*disks.clearing(params["device"]), empty, made, SETTLE]
