# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about block devices, LVM and ZFS that several modules ask of a host."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .core import zpools
from .core.disks import COLUMNS, UNREADABLE, Device, Disks
from .core.steps import Failure, Missing

_BY_ID = "/dev/disk/by-id"
_PACKAGES = {"lvm": "lvm2", "zpool": "zfsutils-linux", "zfs": "zfsutils-linux", "mkfs.xfs": "xfsprogs"}


def survey(host: Any, called: Iterable[str] = ()) -> Disks:
    """All block devices and what uses them. ``called``: the names by which the task calls devices. Raises Failure."""
    tree = json.loads(host.query(("lsblk", "-J", "-b", "-o", COLUMNS)))
    devices = [Device.of(entry) for entry in tree.get("blockdevices") or ()]
    mapped = _mapped(host, devices)
    real = {name: host.link(name) or name for name in called}
    aliases = {name: mapped.get(path, path) for name, path in real.items()}
    signatures = _signatures(host, _unknown(devices, set(aliases.values())))
    links = {name: host.link(f"{_BY_ID}/{name}") for name in host.names(_BY_ID)}
    groups, volumes = _lvm(host)
    used = {device: name for name, pool in pools(host).items() for device in pool.paths.values()}
    return Disks(
        devices=tuple(device.signed(signatures) for device in devices),
        links={name: mapped.get(path, path) for name, path in links.items() if path},
        groups=groups,
        volumes=volumes,
        pools={mapped.get(path, path): name for path, name in used.items()},
        aliases=aliases,
        mapped=mapped,
    )


def _mapped(host: Any, devices: Iterable[Device]) -> dict[str, str]:
    """The kernel's paths of volumes → those that lsblk has."""
    paths = [part.path for top in devices for part in top.tree() if part.path.startswith("/dev/mapper/")]
    return {host.link(path) or path: path for path in paths}


def _unknown(devices: Iterable[Device], named: set[str]) -> list[str]:
    """Devices of which lsblk tells nothing: it asks udev's database, which may be behind or not there.

    What guests have inside of volumes is their own affair, unless the task names the volume.
    """
    every = (part for top in devices for part in top.tree() if part.silent)
    return [d.path for d in every if d.path in named or not (d.unreal or d.kind in ("lvm", "crypt"))]


def _signatures(host: Any, paths: list[str]) -> dict[str, list[dict[str, Any]]]:
    """What wipefs reads from the devices themselves: path → rows."""
    if not paths:
        return {}
    try:
        answer = json.loads(host.query(("wipefs", "--json", "--no-act", *paths)) or "{}")
    except Failure:
        # One device that cannot be read must not hide what is on the others.
        each = [_signatures(host, [path]) for path in paths] if len(paths) > 1 else [{paths[0]: [UNREADABLE]}]
        return {path: rows for found in each for path, rows in found.items()}
    rows = answer.get("signatures") or []
    return {path: [row for row in rows if row["device"] == path.rpartition("/")[2]] for path in paths}


def _lvm(host: Any) -> tuple[dict[str, str], dict[str, list[str]]]:
    if host.which("lvm") is None:
        return {}, {}
    groups = {pv["pv_name"]: pv["vg_name"] for pv in report(host, "pvs", "pv_name,vg_name")}
    volumes: dict[str, list[str]] = {}
    for lv in report(host, "lvs", "vg_name,lv_name"):
        volumes.setdefault(lv["vg_name"], []).append(lv["lv_name"])
    return groups, volumes


def report(host: Any, command: str, columns: str) -> list[dict[str, str]]:
    """The rows of ``pvs``, ``vgs`` or ``lvs``; sizes are in bytes, and every value is a text. Raises Failure."""
    argv = (command, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns)
    (answer,) = json.loads(host.query(argv))["report"]
    rows: list[dict[str, str]] = answer[command[:-1]]
    return rows


def pools(host: Any) -> dict[str, zpools.Pool]:
    """The imported zpools by name. Without the kernel's module there is none, and asking would only fail."""
    if host.which("zpool") is None or not host.names("/sys/module/zfs"):
        return {}
    # Releases before 2.3 know no JSON, and say so with 2.
    said = host.query(("zpool", "status", "-jP"), ok_rcs=(0, 2))
    found = zpools.from_json(json.loads(said)) if said else zpools.from_text(host.query(("zpool", "status", "-P")))
    for pool in found.values():
        pool.paths = {d: host.link(d) or d for vdev in pool.vdevs for d in vdev.devices}
    return found


def need(host: Any, program: str) -> None:
    """Raises Missing when the host lacks a program, with the package that has it."""
    if host.which(program) is None:
        package = _PACKAGES.get(program, program)
        raise Missing(f"the host has no {program}. Install the package {package}.")


def smart(host: Any, path: str) -> dict[str, Any] | None:
    """Health of a disk by smartctl, without waking it: ``passed``, ``temperature_c``, ``power_on_hours``; or None."""
    if host.which("smartctl") is None:
        return None
    # Every bit of smartctl's exit status is a finding, and the answer is printed all the same.
    said = host.query(("smartctl", "--json", "--nocheck=standby", "-H", "-A", path), ok_rcs=tuple(range(256)))
    answer: Mapping[str, Any] = json.loads(said or "{}")
    if "smart_status" not in answer:
        return None
    return {
        "passed": answer["smart_status"].get("passed"),
        "temperature_c": answer.get("temperature", {}).get("current"),
        "power_on_hours": answer.get("power_on_time", {}).get("hours"),
    }
