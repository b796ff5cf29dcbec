# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of its kernels and boot loaders, through the seam that is handed in."""

from __future__ import annotations

from typing import Any

from .core import kernels
from .core.reconcile import Params
from .core.state import State
from .core.steps import Failure

PATTERNS = ("linux-image-[0-9]*", "proxmox-kernel-[0-9]*", "pve-kernel-[0-9]*")


def survey(host: Any) -> dict[str, Any]:
    """The running kernel, the installed ones, the one that should boot next, and whether that takes a reboot."""
    running = (host.read("/proc/sys/kernel/osrelease") or "").strip()
    argv = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *PATTERNS]
    listed = host.query(argv, ok_rcs=(0, 1)) if host.which("dpkg-query") else ""
    packages = [line.split()[1] for line in listed.splitlines() if line.startswith("installed ")]
    found = kernels.installed(host.names("/boot"), packages)
    pins = [pin for path in kernels.PINS if (pin := (host.read(path) or "").strip())]
    wanted = kernels.next_boot(found, pins)
    return {
        "running": running,
        "installed": found,
        "next": wanted,
        "pinned": pins[0] if pins else "",
        "reboot_required": bool(wanted) and wanted != running,
        "boot_id": (host.read("/proc/sys/kernel/random/boot_id") or "").strip(),
    }


def loaders(host: Any, _params: Params) -> dict[str, Any]:
    """The boot loaders' files with arguments, and the commands that tell the loaders. Raises Failure for none."""
    found: dict[str, str | None] = {}
    updates: list[list[str]] = []
    tool = host.which("proxmox-boot-tool") and host.read("/etc/kernel/proxmox-boot-uuids")
    status = host.query(["proxmox-boot-tool", "status"], ok_rcs=(0, 1, 2)) if tool else ""
    if "with: uefi" in status:
        found["systemd-boot"] = host.read(kernels.CMDLINE_FILE)
    if tool:
        updates.append(["proxmox-boot-tool", "refresh"])
    if "with: grub" in status or (not found and host.which("update-grub")):
        found["grub"] = host.read(kernels.GRUB_FILE)
        updates += [] if tool else [["update-grub"]]
    if not found:
        raise Failure("this host boots neither with GRUB nor with proxmox-boot-tool. Set its arguments where it does.")
    return {"_loaders": found, "_updates": updates}


def look_arguments(host: Any, params: Params) -> State:
    """The observed arguments; the loaders' files are read again, as a run may just have written them."""
    now = {**params, **loaders(host, params)}
    pending = host.read(kernels.PENDING) is not None
    return kernels.arguments_observed(now, pending, host.read("/proc/cmdline") or "")
