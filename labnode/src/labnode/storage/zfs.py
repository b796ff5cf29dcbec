# SPDX-License-Identifier: GPL-3.0-or-later
"""ZFS volumes of a pool or dataset, through `zfs` and `zpool` with parsable output.

Facts from ZFSPoolPlugin of Proxmox VE 9: only the newest snapshot can be rolled back to; a base image has a snapshot
`__base__`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from labnode.errors import ApiError
from labnode.storage import names
from labnode.storage.backend import Backend, Log, Usage
from labnode.storage.definitions import truth
from labnode.storage.model import Volume, VolumeInfo
from labnode.storage.run import run, tool

PACKAGE = "zfsutils-linux"
BASE = "__base__"
IMPORT = "zpool import -d /dev/disk/by-id/ -o cachefile=none"
NOT_THERE = "No such file or directory at /usr/share/perl5/PVE/Tools.pm line 435.\n"


async def zfs(*args: str, error: str = "zfs error") -> str:
    """Run `zfs`."""
    return await run(["zfs", *args], error=error, package=PACKAGE, timeout=60)


class ZfsBackend(Backend):
    """zvols below a pool or dataset; thin when the definition says `sparse`."""

    features: ClassVar[dict[str, set[str]]] = {
        "snapshot": {"current"},
        "clone": {"base"},
        "template": {"current"},
        "copy": {"base", "current"},
        "sparseinit": {"base", "current"},
        "rename": {"current"},
    }

    @property
    def pool(self) -> str:
        """The pool or dataset the volumes are in."""
        return self.definition.options["pool"]

    def parse(self, name: str) -> Volume:
        return names.parse_block(self.storeid, name, "zfs")

    def dataset(self, name: str) -> str:
        """Full dataset name of a volume."""
        return f"{self.pool}/{name.rpartition('/')[2]}"

    def path(self, name: str, snap: str | None = None) -> Path:
        self.parse(name)
        return Path("/dev/zvol") / (self.dataset(name) + (f"@{snap}" if snap else ""))

    async def activate(self) -> None:
        top = self.pool.partition("/")[0]
        if tool("zpool") is None:
            # the text a node without the tools gives, word for word
            cause = f"open3: exec of {IMPORT} {top} failed: {NOT_THERE}"
            raise ApiError(f"could not activate storage '{self.storeid}', zfs error: {cause}")
        try:
            await zfs("list", "-H", "-o", "name", self.pool)
        except ApiError:
            await run(
                ["zpool", "import", "-d", "/dev/disk/by-id/", "-o", "cachefile=none", top],
                package=PACKAGE,
                timeout=60,
                error=f"could not activate storage '{self.storeid}', zfs error",
            )

    async def usage(self) -> Usage:
        if tool("zfs") is None:
            return Usage()
        try:
            avail, used = (
                int(v) for v in (await zfs("get", "-Hp", "-o", "value", "available,used", self.pool)).split()
            )
        except ApiError:
            return Usage()
        return Usage(True, avail + used, used, avail)

    async def images(self, vmid: int | None = None) -> list[dict[str, Any]]:
        if tool("zfs") is None:
            return []
        out = await zfs("list", "-Hp", "-d", "1", "-t", "volume", "-o", "name,volsize,used,origin,creation", self.pool)
        found = []
        for line in out.splitlines():
            dataset, size, used, origin, created = line.split("\t")
            name = dataset.rpartition("/")[2]
            match = names.BLOCK.fullmatch(name)
            if match is None or (vmid is not None and int(match[5]) != vmid):
                continue
            base = re.fullmatch(rf"{re.escape(self.pool)}/([^@]+)@{BASE}", origin)
            full = f"{base[1]}/{name}" if base else name
            found.append(
                {
                    "volid": f"{self.storeid}:{full}",
                    "content": "images",
                    "format": "raw",
                    "size": int(size),
                    "used": int(used),
                    "parent": f"{base[1]}@{BASE}" if base else None,
                    "vmid": int(match[5]),
                    "ctime": int(created),
                }
            )
        return found

    async def info(self, name: str) -> VolumeInfo | None:
        for entry in await self.images(self.parse(name).vmid):
            if entry["volid"].rpartition("/")[2].rpartition(":")[2] == name.rpartition("/")[2]:
                return VolumeInfo("raw", entry["size"], entry["used"], entry["parent"])
        return None

    async def snapshots(self, name: str) -> list[str]:
        out = await zfs("list", "-Hp", "-d", "1", "-t", "snapshot", "-s", "creation", "-o", "name", self.dataset(name))
        return [line.partition("@")[2] for line in out.splitlines() if not line.endswith(f"@{BASE}")]

    async def pick(self, vmid: int, name: str | None) -> str:
        """The name of a new volume."""
        if name is not None and not name.startswith(f"vm-{vmid}-"):
            raise ApiError(f"illegal name '{name}' - should be 'vm-{vmid}-*'")
        taken = [entry["volid"].rpartition("/")[2].rpartition(":")[2] for entry in await self.images(vmid)]
        if name in taken:
            raise ApiError(f"volume '{self.storeid}:{name}' already exists")
        return name or names.free_name(vmid, taken)

    async def alloc(self, vmid: int, fmt: str, size: int, name: str | None, log: Log) -> str:
        name = await self.pick(vmid, name)
        thin = ["-s"] if truth(self.definition.options.get("sparse", "0")) else []
        block = self.definition.options.get("blocksize")
        argv = [
            "create",
            *thin,
            *(["-b", block] if block else []),
            "-V",
            f"{(size + 1023) // 1024}k",
            self.dataset(name),
        ]
        await zfs(*argv, error=f"unable to create volume '{self.storeid}:{name}'")
        await self.activate_volume(name)
        return name

    async def activate_volume(self, name: str) -> None:
        # udev makes the device node some time after the volume
        await run(
            ["udevadm", "settle", "--timeout", "20", "--exit-if-exists", str(self.path(name))],
            error="no device node for zvol",
            timeout=30,
        )

    async def free(self, name: str) -> None:
        if await self.info(name) is not None:
            await zfs("destroy", "-r", self.dataset(name), error=f"unable to remove volume '{self.storeid}:{name}'")

    async def resize(self, name: str, size: int) -> str:
        return await zfs("set", f"volsize={(size + 1023) // 1024}k", self.dataset(name), error="resize failed")

    async def snapshot(self, name: str, snap: str) -> None:
        await zfs("snapshot", f"{self.dataset(name)}@{snap}", error="snapshot failed")

    async def snapshot_delete(self, name: str, snap: str) -> None:
        if snap in await self.snapshots(name):
            await zfs("destroy", f"{self.dataset(name)}@{snap}", error="removing the snapshot failed")

    async def rollback_blocker(self, name: str, snap: str) -> str | None:
        have = await self.snapshots(name)
        volid = f"{self.storeid}:{name}"
        if snap not in have:
            return f"can't rollback, snapshot '{snap}' does not exist on '{volid}'"
        return None if have[-1] == snap else f"can't rollback, '{snap}' is not most recent snapshot on '{volid}'"

    async def snapshot_rollback(self, name: str, snap: str) -> None:
        if blocker := await self.rollback_blocker(name, snap):
            raise ApiError(blocker)
        await zfs("rollback", f"{self.dataset(name)}@{snap}", error="rollback failed")

    async def clone_linked(self, name: str, vmid: int, snap: str | None, log: Log) -> str:
        if not self.parse(name).is_base:
            raise ApiError("clone_image only works on base images")
        target = await self.pick(vmid, None)
        await zfs("clone", f"{self.dataset(name)}@{snap or BASE}", self.dataset(target), error="clone failed")
        await self.activate_volume(target)
        return f"{name.rpartition('/')[2]}/{target}"

    async def make_base(self, name: str) -> str:
        if self.parse(name).is_base:
            raise ApiError("create_base not possible with base image")
        parent, _, own = name.rpartition("/")
        target = "base-" + own.removeprefix("vm-")
        await zfs("rename", self.dataset(name), f"{self.pool}/{target}", error="rename failed")
        await zfs("snapshot", f"{self.pool}/{target}@{BASE}", error="snapshot failed")
        return f"{parent}/{target}" if parent else target

    async def rename(self, name: str, vmid: int, new: str | None) -> str:
        target = await self.pick(vmid, new)
        await zfs("rename", self.dataset(name), self.dataset(target), error="rename failed")
        parent = name.rpartition("/")[0]
        return f"{parent}/{target}" if parent else target
