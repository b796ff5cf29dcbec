# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of same-page merging, through the seam that is handed in."""

from __future__ import annotations

from typing import Any

from .core.ksm import BOOT_FILE, KNOBS, SYSFS, TUNED_FILE, UNIT, observed, refuse
from .core.reconcile import Params
from .core.state import State
from .core.steps import Failure, Missing


def survey(host: Any, params: Params) -> dict[str, Any]:
    """The knobs that are there, both files, and what taking pages apart would need. Raises Failure."""
    names = host.names(SYSFS)
    if not names:
        raise Failure(f"this kernel has no same-page merging: there is no {SYSFS}.")
    if params["ksmtuned"] and unit(host).get("LoadState") == "not-found":
        raise Missing(
            "ksmtuned is not installed. Its package is ksm-control-daemon on Proxmox VE and ksmtuned on Debian."
        )
    return {
        "_knobs": names,
        "_texts": {path: host.read(path) for path in (BOOT_FILE, TUNED_FILE)},
        "_merged_bytes": int(host.read(f"{SYSFS}/pages_sharing")) * page_bytes(host),
        "_available_bytes": available_bytes(host),
    }


def look(host: Any, params: Params) -> State:
    """The observed state of same-page merging. Raises Failure for what the task asks and this host cannot do."""
    present = [n for n in (*KNOBS, "run", "pages_shared") if n in params["_knobs"]]
    texts = {name: host.read(f"{SYSFS}/{name}") for name in present}
    state = observed(texts, host.read(BOOT_FILE), host.read(TUNED_FILE), unit(host))
    refuse(params, state, present)
    return state


def unit(host: Any) -> dict[str, str]:
    """LoadState, ActiveState and UnitFileState of ksmtuned's service."""
    names = ("LoadState", "ActiveState", "UnitFileState")
    said = host.query(["systemctl", "show", UNIT, f"--property={','.join(names)}"])
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def page_bytes(host: Any) -> int:
    """The size of a page of memory."""
    return int(host.query(["getconf", "PAGESIZE"]))


def available_bytes(host: Any) -> int:
    """How much memory can be had without swapping, as the kernel estimates it."""
    lines = (host.read("/proc/meminfo") or "").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
