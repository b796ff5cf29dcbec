# SPDX-License-Identifier: GPL-3.0-or-later
"""LVM and LVM-thin, through the lvm tools with JSON reports.

Facts from LVMPlugin and LvmThinPlugin of Proxmox VE 9: snapshots of thin volumes are `snap_VOLUME_NAME`; plain LVM
has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from labnode.errors import ApiError
from labnode.storage import names
from labnode.storage.backend import Backend, Log, Usage
from labnode.storage.model import Volume, VolumeInfo
from labnode.storage.run import run, tool

PACKAGE = "lvm2"
FIELDS = "vg_name,lv_name,lv_size,lv_attr,pool_lv,origin,data_percent,lv_time,tags"


async def report(command: str, options: str, key: str, *select: str) -> list[dict[str, str]]:
    """Rows of `vgs`, `lvs` or `pvs`; empty on a machine without LVM."""
    if tool(command) is None:
        return []
    argv = [command, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", options, *select]
    text = await run(argv, package=PACKAGE, timeout=30)
    rows: list[dict[str, str]] = json.loads(text)["report"][0][key]
    return rows


async def volume_groups() -> dict[str, tuple[int, int]]:
    """Volume groups: name to (size, free) in bytes."""
    rows = await report("vgs", "vg_name,vg_size,vg_free", "vg")
    return {row["vg_name"]: (int(row["vg_size"]), int(row["vg_free"])) for row in rows}


async def logical_volumes() -> dict[tuple[str, str], dict[str, str]]:
    """Logical volumes by (group, name)."""
    return {(row["vg_name"], row["lv_name"]): row for row in await report("lvs", FIELDS, "lv")}


class LvmBackend(Backend):
    """Thick volumes of a volume group."""

    features: ClassVar[dict[str, set[str]]] = {"copy": {"base", "current"}, "rename": {"current"}}

    @property
    def vg(self) -> str:
        """The volume group."""
        return self.definition.options["vgname"]

    def formats(self) -> list[str]:
        return ["raw"]

    def parse(self, name: str) -> Volume:
        return names.parse_block(self.storeid, name, "lvm")

    def path(self, name: str, snap: str | None = None) -> Path:
        self.parse(name)
        return Path("/dev") / self.vg / (f"snap_{name}_{snap}" if snap else name)

    async def activate(self) -> None:
        # as Proxmox VE: a missing group is no error here, the storage just shows as inactive
        return None

    async def usage(self) -> Usage:
        group = (await volume_groups()).get(self.vg)
        return Usage(True, group[0], group[0] - group[1], group[1]) if group else Usage()

    async def rows(self) -> dict[str, dict[str, str]]:
        """This storage's logical volumes by name."""
        return {name: row for (vg, name), row in (await logical_volumes()).items() if vg == self.vg and self.mine(row)}

    def mine(self, row: dict[str, str]) -> bool:
        """Whether a row of lvs can be a volume of this storage."""
        if self.definition.options.get("tagged_only") == "1":
            return any(tag.startswith("pve-vm-") for tag in row["tags"].split(","))
        return row["lv_attr"][0] not in "Vtsr"

    async def images(self, vmid: int | None = None) -> list[dict[str, Any]]:
        found = []
        for name, row in sorted((await self.rows()).items()):
            match = names.BLOCK.fullmatch(name)
            if match and (vmid is None or int(match[5]) == vmid):
                found.append(
                    {
                        "volid": f"{self.storeid}:{name}",
                        "content": "images",
                        "format": "raw",
                        "size": int(row["lv_size"]),
                        "vmid": int(match[5]),
                    }
                )
        return found

    async def info(self, name: str) -> VolumeInfo | None:
        row = (await self.rows()).get(name)
        if row is None:
            return None
        size = int(row["lv_size"])
        used = int(size * float(row["data_percent"] or 100) / 100)
        return VolumeInfo("raw", size, used, row["origin"] or None)

    async def activate_volume(self, name: str) -> None:
        await run(
            ["lvchange", "-ay", "-K", f"{self.vg}/{name}"],
            error=f"activating LV '{self.vg}/{name}' failed",
            package=PACKAGE,
        )

    async def pick(self, vmid: int, name: str | None) -> str:
        """The name of a new volume; ApiError when it is wrong or the group is missing."""
        if self.vg not in await volume_groups():
            raise ApiError(f"no such volume group '{self.vg}'")
        if name is not None and not name.startswith(f"vm-{vmid}-"):
            raise ApiError(f"illegal name '{name}' - should be 'vm-{vmid}-*'")
        return name or names.free_name(vmid, [lv for vg, lv in await logical_volumes() if vg == self.vg])

    async def alloc(self, vmid: int, fmt: str, size: int, name: str | None, log: Log) -> str:
        name = await self.pick(vmid, name)
        free = (await volume_groups())[self.vg][1]
        if free < size:
            raise ApiError(f"not enough free space in volume group '{self.vg}' ({free} < {size} bytes)")
        argv = [
            "lvcreate",
            "-aly",
            "-Wy",
            "--yes",
            "--size",
            f"{_kib(size)}k",
            "--name",
            name,
            "--addtag",
            f"pve-vm-{vmid}",
            self.vg,
        ]
        await run(argv, error=f"lvcreate '{self.vg}/{name}' error", package=PACKAGE)
        log(f'  Logical volume "{name}" created.')
        return name

    async def free(self, name: str) -> None:
        if name in await self.rows():
            await run(
                ["lvremove", "-f", f"{self.vg}/{name}"], error=f"lvremove '{self.vg}/{name}' error", package=PACKAGE
            )

    async def resize(self, name: str, size: int) -> str:
        return await run(
            ["lvextend", "-L", f"{_kib(size)}k", f"{self.vg}/{name}"],
            error=f"resize of '{self.vg}/{name}' failed",
            package=PACKAGE,
        )

    async def rename(self, name: str, vmid: int, new: str | None) -> str:
        target = await self.pick(vmid, new)
        await run(
            ["lvrename", self.vg, name, target],
            error=f"lvrename '{self.vg}/{name}' to '{target}' error",
            package=PACKAGE,
        )
        return target


class LvmThinBackend(LvmBackend):
    """Thin volumes of a thin pool, with snapshots and linked clones."""

    features: ClassVar[dict[str, set[str]]] = {
        "snapshot": {"current"},
        "clone": {"base", "snap"},
        "template": {"current"},
        "copy": {"base", "current", "snap"},
        "sparseinit": {"base", "current"},
        "rename": {"current"},
    }

    @property
    def pool(self) -> str:
        """The thin pool."""
        return self.definition.options["thinpool"]

    def mine(self, row: dict[str, str]) -> bool:
        return row["lv_attr"][0] == "V" and row["pool_lv"] == self.pool

    async def _pool(self) -> dict[str, str]:
        row = (await logical_volumes()).get((self.vg, self.pool))
        if row is None or row["lv_attr"][0] != "t":
            raise ApiError(f"no such logical volume {self.vg}/{self.pool}")
        return row

    async def activate(self) -> None:
        if (await self._pool())["lv_attr"][4] != "a":
            await run(
                ["lvchange", "-ay", "-K", f"{self.vg}/{self.pool}"],
                error=f"activating LV '{self.vg}/{self.pool}' failed",
                package=PACKAGE,
            )

    async def usage(self) -> Usage:
        try:
            row = await self._pool()
        except ApiError:
            return Usage()
        size = int(row["lv_size"])
        used = int(size * float(row["data_percent"] or 0) / 100)
        return Usage(row["lv_attr"][4] == "a", size, used, size - used)

    async def alloc(self, vmid: int, fmt: str, size: int, name: str | None, log: Log) -> str:
        name = await self.pick(vmid, name)
        await self.activate()
        argv = ["lvcreate", "-aly", "-V", f"{_kib(size)}k", "--name", name, "--thinpool", f"{self.vg}/{self.pool}"]
        await run(argv, error=f"lvcreate '{self.vg}/{name}' error", package=PACKAGE)
        log(f'  Logical volume "{name}" created.')
        return name

    async def free(self, name: str) -> None:
        for lv in await self.rows():
            if lv == name or lv.startswith(f"snap_{name}_"):
                await run(
                    ["lvremove", "-f", f"{self.vg}/{lv}"], error=f"lvremove '{self.vg}/{lv}' error", package=PACKAGE
                )

    async def snapshots(self, name: str) -> list[str]:
        prefix = f"snap_{name}_"
        rows = sorted((await self.rows()).items(), key=lambda item: item[1]["lv_time"])
        return [lv.removeprefix(prefix) for lv, _row in rows if lv.startswith(prefix)]

    async def snapshot(self, name: str, snap: str) -> None:
        volume = f"snap_{name}_{snap}"
        await run(
            ["lvcreate", "-n", volume, "-pr", "-s", f"{self.vg}/{name}"],
            error=f"lvcreate snapshot '{self.vg}/{volume}' error",
            package=PACKAGE,
        )

    async def snapshot_delete(self, name: str, snap: str) -> None:
        if snap in await self.snapshots(name):
            volume = f"snap_{name}_{snap}"
            await run(
                ["lvremove", "-f", f"{self.vg}/{volume}"],
                error=f"lvremove snapshot '{self.vg}/{volume}' error",
                package=PACKAGE,
            )

    async def snapshot_rollback(self, name: str, snap: str) -> None:
        if snap not in await self.snapshots(name):
            raise ApiError(f"snapshot '{snap}' of volume '{self.storeid}:{name}' does not exist")
        source = f"{self.vg}/snap_{name}_{snap}"
        # the copy is made first and then takes the name, so that a failure leaves the volume as it was
        await run(
            ["lvcreate", "-kn", "-n", f"{name}.back", "-s", source],
            error=f"lvm rollback '{source}' error",
            package=PACKAGE,
        )
        await run(["lvremove", "-f", f"{self.vg}/{name}"], error=f"lvremove '{self.vg}/{name}' error", package=PACKAGE)
        await run(
            ["lvrename", self.vg, f"{name}.back", name],
            error=f"lvrename '{self.vg}/{name}.back' error",
            package=PACKAGE,
        )

    async def clone_linked(self, name: str, vmid: int, snap: str | None, log: Log) -> str:
        if snap is None and not self.parse(name).is_base:
            raise ApiError("clone_image only works on base images")
        source = f"{self.vg}/snap_{name}_{snap}" if snap else f"{self.vg}/{name}"
        target = await self.pick(vmid, None)
        await run(
            ["lvcreate", "-n", target, "-prw", "-kn", "-s", source],
            error=f"clone image '{source}' error",
            package=PACKAGE,
        )
        return target

    async def make_base(self, name: str) -> str:
        if await self.snapshots(name):
            raise ApiError(f"unable to create base volume - found snapshots of '{name}'")
        target = "base-" + name.removeprefix("vm-")
        await run(
            ["lvrename", self.vg, name, target],
            error=f"lvrename '{self.vg}/{name}' to '{target}' error",
            package=PACKAGE,
        )
        await run(
            ["lvchange", "-pr", "-ky", f"{self.vg}/{target}"],
            error=f"write protecting '{self.vg}/{target}' failed",
            package=PACKAGE,
        )
        return target


def _kib(size: int) -> int:
    return (size + 1023) // 1024
