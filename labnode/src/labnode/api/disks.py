# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/disks: block devices, volume groups, thin pools and ZFS pools of the machine, as its own tools tell."""

from __future__ import annotations

import json
from typing import Any

from labnode.errors import ApiError
from labnode.route import Ctx, route
from labnode.storage.run import run, tool

_COLUMNS = "NAME,PATH,TYPE,SIZE,MODEL,SERIAL,VENDOR,WWN,ROTA,PTTYPE,FSTYPE,MOUNTPOINTS,PARTTYPENAME,PKNAME"
_USED = {"LVM2_member": "LVM", "zfs_member": "ZFS", "linux_raid_member": "mdraid", "ceph_bluestore": "Ceph"}


@route("GET", "/nodes/{node}/disks")
async def index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": n} for n in ("directory", "list", "lvm", "lvmthin", "zfs")]


@route("GET", "/nodes/{node}/disks/list")
async def disks(ctx: Ctx) -> list[dict[str, Any]]:
    """Whole disks (and their partitions if asked): size in bytes, model, and what they are used for."""
    found = json.loads(await run(["lsblk", "--json", "--bytes", "--output", _COLUMNS], package="util-linux"))
    rows = []
    for device in found["blockdevices"]:
        if device["type"] != "disk" or not device["size"]:
            continue
        row = _disk(device)
        if ctx.params.get("type") == "unused" and "used" in row:
            continue
        rows.append(row)
        if ctx.params.get("include-partitions"):
            rows += [_partition(p, device) for p in device.get("children", []) if p["type"] == "part"]
    return rows


def _disk(device: dict[str, Any]) -> dict[str, Any]:
    rotating = device.get("rota")
    row: dict[str, Any] = {
        "devpath": device["path"],
        "size": int(device["size"]),
        "gpt": int(device.get("pttype") == "gpt"),
        "model": (device.get("model") or "unknown").strip(),
        "serial": device.get("serial") or "unknown",
        "vendor": (device.get("vendor") or "unknown").strip(),
        "wwn": device.get("wwn") or "unknown",
        "type": _kind(device["name"], rotating),
        "rpm": -1 if rotating else 0,
        "health": "UNKNOWN",
        "wearout": "N/A",
        "osdid": -1,
        "osdid-list": None,
    }
    use = _use(device)
    return {**row, **({"used": use} if use else {}), **({"mounted": 1} if use == "mounted" else {})}


def _kind(name: str, rotating: Any) -> str:
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("vd") or rotating is None:
        return "unknown"
    return "hdd" if rotating else "ssd"


def _use(device: dict[str, Any]) -> str | None:
    """What the device is used for: by itself, else because it has partitions."""
    if any(device.get("mountpoints") or []):
        return "mounted"
    if device.get("fstype"):
        return _USED.get(device["fstype"], str(device["fstype"]))
    return "partitions" if device.get("children") else None


def _partition(part: dict[str, Any], parent: dict[str, Any]) -> dict[str, Any]:
    row = {**_disk(part), "parent": parent["path"], "gpt": int(parent.get("pttype") == "gpt")}
    return {**row, "used": row.get("used") or part.get("parttypename") or "partition"}


@route("GET", "/nodes/{node}/disks/lvm")
async def volume_groups(ctx: Ctx) -> dict[str, Any]:
    """Volume groups with their physical volumes; sizes in bytes."""
    groups = await _report("vgs", "vg", "vg_name,vg_size,vg_free,lv_count")
    physical = await _report("pvs", "pv", "pv_name,vg_name,pv_size,pv_free")
    children = []
    for group in groups:
        own = [p for p in physical if p["vg_name"] == group["vg_name"]]
        leaves = [{"name": p["pv_name"], "size": int(p["pv_size"]), "free": int(p["pv_free"]), "leaf": 1} for p in own]
        sizes = {"size": int(group["vg_size"]), "free": int(group["vg_free"]), "lvcount": int(group["lv_count"])}
        children.append({"name": group["vg_name"], **sizes, "children": leaves, "leaf": 0})
    return {"leaf": 0, "children": children}


@route("GET", "/nodes/{node}/disks/lvmthin")
async def thin_pools(ctx: Ctx) -> list[dict[str, Any]]:
    """Thin pools with their fill levels; sizes and use in bytes."""
    columns = "vg_name,lv_name,lv_size,lv_attr,data_percent,metadata_percent,lv_metadata_size"
    return [_thin_pool(v) for v in await _report("lvs", "lv", columns) if v["lv_attr"].startswith("t")]


def _thin_pool(volume: dict[str, str]) -> dict[str, Any]:
    size, metadata = int(volume["lv_size"]), int(volume["lv_metadata_size"] or 0)
    return {
        "vg": volume["vg_name"],
        "lv": volume["lv_name"],
        "lv_size": size,
        "used": int(size * float(volume["data_percent"] or 0) / 100),
        "metadata_size": metadata,
        "metadata_used": int(metadata * float(volume["metadata_percent"] or 0) / 100),
    }


async def _report(program: str, kind: str, columns: str) -> list[dict[str, str]]:
    """Rows of an LVM report; none where LVM is not installed."""
    if tool(program) is None:
        return []
    argv = [program, "--reportformat", "json", "--units", "b", "--nosuffix", "--options", columns]
    rows: list[dict[str, str]] = json.loads(await run(argv, error=f"'{program}' failed"))["report"][0][kind]
    return rows


@route("GET", "/nodes/{node}/disks/zfs")
async def zpools(ctx: Ctx) -> list[dict[str, Any]]:
    """ZFS pools; sizes in bytes, `frag` in percent."""
    if tool("zpool") is None:
        raise ApiError("zfsutils-linux not installed")
    columns = ("name", "size", "alloc", "free", "frag", "dedup", "health")
    text = await run(["zpool", "list", "-Hp", "-o", ",".join(columns)], error="zpool list failed")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in text.splitlines()]
    return [
        {
            **{k: int(row[k]) for k in ("size", "alloc", "free")},
            "name": row["name"],
            "frag": int(row["frag"]) if row["frag"].isdigit() else 0,
            "dedup": float(row["dedup"].rstrip("x")),
            "health": row["health"],
        }
        for row in rows
    ]


@route("GET", "/nodes/{node}/disks/directory")
async def directories(ctx: Ctx) -> list[dict[str, Any]]:
    """Mounted file systems below /mnt/pve, where Proxmox VE mounts directories that it makes on disks."""
    found = json.loads(await run(["lsblk", "--json", "--list", "--output", "PATH,FSTYPE,UUID,MOUNTPOINTS"]))
    rows = []
    for device in found["blockdevices"]:
        for place in device.get("mountpoints") or []:
            if place and place.startswith("/mnt/pve/"):
                row = {"path": place, "device": device["path"], "type": device["fstype"], "options": "defaults"}
                rows.append({**row, "unitfile": f"/etc/systemd/system/{place[1:].replace('/', '-')}.mount"})
    return rows
