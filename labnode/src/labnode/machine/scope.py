# SPDX-License-Identifier: GPL-3.0-or-later
"""The control group of a guest: as on Proxmox VE, ``qemu.slice/VMID.scope`` holds its QEMU process, with the weight of
``cpuunits`` and the quota of ``cpulimit``. systemd makes it, so it is gone when the last process is."""

from __future__ import annotations

from collections.abc import Mapping

from labnode.guests.values import clamp_cpuunits

# PVE::CGroup: the weight of a guest that names none, on hosts with cgroup v2
DEFAULT_UNITS = "100"


def properties(config: Mapping[str, str]) -> list[str]:
    """Properties of the unit. No limit is said, too, because a running scope may have had one."""
    limit = float(config.get("cpulimit", "0"))
    quota = f"{limit * 100:.0f}%" if limit else ""
    return [f"CPUWeight={clamp_cpuunits(config.get('cpuunits', DEFAULT_UNITS))}", f"CPUQuota={quota}"]


def wrap(vmid: int, config: Mapping[str, str], argv: list[str]) -> list[str]:
    """The command line that starts `argv` inside the guest's scope."""
    options = [f"--property={text}" for text in properties(config) if not text.endswith("=")]
    name = config.get("name") or f"vm{vmid}"
    return [
        *("systemd-run", "--scope", "--quiet", "--collect", "--slice=qemu", f"--unit={vmid}"),
        *(f"--description=Proxmox VE VM {vmid} ({name})", *options, "--"),
        *argv,
    ]


def adjustment(vmid: int, config: Mapping[str, str]) -> list[str]:
    """The command line that gives a running guest another weight or quota."""
    return ["systemctl", "set-property", "--runtime", f"{vmid}.scope", *properties(config)]
