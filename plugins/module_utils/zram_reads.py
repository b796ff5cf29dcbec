# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of swap space in compressed memory, through the seam that is handed in."""

from __future__ import annotations

import re
from typing import Any

from .core import zram
from .core.memory import meminfo
from .core.reconcile import Params
from .core.state import State
from .core.steps import Failure, Missing
from .core.swap import areas

GENERATORS = tuple(f"{root}/systemd/system-generators/zram-generator" for root in ("/usr/lib", "/lib", "/etc"))


def survey(host: Any, params: Params) -> dict[str, Any]:
    """What there is. Raises Failure, and Missing where the generator is not installed."""
    if not re.fullmatch(r"zram\d+", params["device"]):
        raise Failure(f"{params['device']} is no name of such a device. Give one such as zram0.")
    seen = look(host, params)
    zram.refuse(params, seen)
    if params["state"] == "present" and not any(host.link(path) for path in GENERATORS):
        raise Missing("there is no zram-generator. Its package is systemd-zram-generator.")
    if params["state"] == "present" and "UnitFileState=enabled" in host.query(
        ["systemctl", "show", "zramswap.service", "--property=UnitFileState"]
    ):
        raise Failure("zramswap.service of the package zram-tools makes such devices, too. Disable it first.")
    return {"_seen": seen}


def read(host: Any, params: Params) -> State | None:
    """The observed state."""
    return zram.observed(params["device"], look(host, params))


def look(host: Any, params: Params) -> zram.Sight:
    """All that matters about one device."""
    device = params["device"]
    names = host.names(zram.DIRECTORY)
    ours = zram.file_of(device)
    files = [*zram.MAIN_FILES, *(path for name in names if (path := f"{zram.DIRECTORY}/{name}") != ours)]
    section = re.compile(rf"^\s*\[{device}\]", re.MULTILINE)
    return zram.Sight(
        size_bytes=int(host.read(f"/sys/block/{device}/disksize") or 0),
        algorithms=host.read(f"/sys/block/{device}/comp_algorithm") or "",
        swaps=areas(host.read("/proc/swaps")),
        text=host.read(ours),
        others=[path for path in files if section.search(host.read(path) or "")],
        memory=meminfo(host.read("/proc/meminfo")),
        has_directory=host.link(zram.DIRECTORY) is not None,
    )
