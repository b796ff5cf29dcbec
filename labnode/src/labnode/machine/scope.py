# SPDX-License-Identifier: GPL-3.0-or-later
"""The control group of a guest: as on Proxmox VE, ``qemu.slice/VMID.scope`` holds its QEMU process, with the weight of
``cpuunits`` and the quota of ``cpulimit``. systemd makes it, so it is gone when the last process is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from labnode.guests.values import clamp_cpuunits
from labnode.storage.run import tool

# PVE::CGroup: the weight of a guest that names none, on hosts with cgroup v2
DEFAULT_UNITS = "100"
OWN_GROUP = Path("/proc/self/cgroup")


def properties(config: Mapping[str, str]) -> list[str]:
    """Properties of the unit. No limit is said, too, because a running scope may have had one."""
    limit = float(config.get("cpulimit", "0"))
    quota = f"{limit * 100:.0f}%" if limit else ""
    return [f"CPUWeight={clamp_cpuunits(config.get('cpuunits', DEFAULT_UNITS))}", f"CPUQuota={quota}"]


def wrap(vmid: int, config: Mapping[str, str], argv: list[str]) -> list[str]:
    """The command line that starts `argv` inside the guest's scope."""
    options = [f"--property={text}" for text in (*properties(config), *_order()) if not text.endswith("=")]
    name = config.get("name") or f"vm{vmid}"
    return [
        *("systemd-run", "--scope", "--quiet", "--collect", "--slice=qemu", f"--unit={vmid}"),
        *(f"--description=Proxmox VE VM {vmid} ({name})", *options, "--"),
        *argv,
    ]


def adjustment(vmid: int, config: Mapping[str, str]) -> list[str]:
    """The command line that gives a running guest another weight or quota."""
    return ["systemctl", "set-property", "--runtime", f"{vmid}.scope", *properties(config)]


def _order() -> list[str]:
    """Where labnode is a service: when the host goes down, systemd ends a scope only after the service, which asks the
    guests to shut down."""
    service = re.search(r"/([^/]+\.service)$", OWN_GROUP.read_text(encoding="utf-8"), re.M)
    return [f"Before={service[1]}"] if service else []


async def host_goes_down() -> bool:
    """Whether systemd is about to stop everything; where there is no systemd, nothing is known of it."""
    path = tool("systemctl")
    if path is None:
        return False
    pipe = asyncio.subprocess.PIPE
    asked = await asyncio.create_subprocess_exec(path, "is-system-running", stdout=pipe)
    out, _none = await asked.communicate()
    return out.strip() == b"stopping"
