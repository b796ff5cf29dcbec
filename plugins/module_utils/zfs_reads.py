# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about zpools and datasets, asked of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .core import zpools
from .core.disks import Disks
from .core.state import State
from .core.zpool_steps import SCRUBS, disk_of, groups, observed, timer, zpool_want
from .disk_reads import pools, survey


def zpool(host: Any, params: Mapping[str, Any]) -> State | None:
    """A pool as core/zpool_steps.py describes it; ``{imported: False}`` for one that is exported; None for none."""
    name = params["name"]
    if name not in host.query(("zpool", "list", "-H", "-o", "name")).split():
        # Without any pool to import, some releases end with 1.
        exported = zpools.importable(host.query(("zpool", "import"), ok_rcs=(0, 1)))
        return {"imported": False} if name in exported else None
    disks = survey(host, [d for _none, _none, devices in groups(params) for d in devices])
    pool = pools(host)[name]
    values = _properties(host.query(("zpool", "get", "-Hp", "-o", "property,value", "all", name)))
    enabled, active = _scrub(host, name)
    named = [k.partition(".")[2] for k in zpool_want({**params, "state": "present"}) or {} if "properties." in k]
    return {
        "imported": True,
        "layout": observed(pool, disks),
        "resilvering": pool.resilvering,
        "ashift": int(values.get("ashift", 0)),
        "health": values.get("health", ""),
        "size_bytes": int(values.get("size", 0)),
        "scrub": enabled,
        "scrub_active": active,
        **{f"properties.{key}": values.get(key, "") for key in named},
    }


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


def _scrub(host: Any, name: str) -> tuple[str, str]:
    """The schedule that is enabled, and the one whose timer runs."""
    found = {"UnitFileState": "never", "ActiveState": "never"}
    for schedule in SCRUBS:
        argv = ("systemctl", "show", "--property=UnitFileState,ActiveState", timer(name, schedule))
        told = dict(line.split("=", 1) for line in host.query(argv).splitlines() if "=" in line)
        for key, good in (("UnitFileState", "enabled"), ("ActiveState", "active")):
            if told.get(key) == good:
                found[key] = schedule if found[key] == "never" else "weekly and monthly"
    return found["UnitFileState"], found["ActiveState"]


def devices_of(host: Any, name: str, disks: Disks) -> dict[str, str]:
    """Disk → what zpool itself calls the device of a pool; nothing unless the pool is imported."""
    pool = pools(host).get(name) or zpools.Pool()
    return {disk_of(pool, d, disks): d for vdev in pool.vdevs for d in vdev.devices}


def datasets(host: Any, root: str) -> list[str]:
    """Names of a dataset and everything below it, its snapshots too; nothing if it is not there."""
    if not host.names("/sys/module/zfs"):
        return []
    argv = ("zfs", "list", "-H", "-r", "-t", "filesystem,volume,snapshot", "-o", "name", root)
    # 1 means that there is none of that name.
    return [line for line in host.query(argv, ok_rcs=(0, 1)).splitlines() if line]
