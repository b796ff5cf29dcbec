# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives: block nodes (`-blockdev`) and the devices in front of them.

Node `drive-scsi0` is the image (raw, qcow2, vmdk), `file-scsi0` the file or device below it; the device's id is
`scsi0`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from labnode.errors import ApiError
from labnode.guests.drive import Drive
from labnode.machine.pci import place

Log = Callable[[str], None]
# cache mode: (cache.direct, cache.no-flush, write cache of the device)
CACHE = {
    "none": (True, False, True),
    "directsync": (True, False, False),
    "writeback": (False, False, True),
    "writethrough": (False, False, False),
    "unsafe": (False, True, True),
}
MIB = 1 << 20
THROTTLES = {
    "bps": ("mbps", MIB),
    "bps_rd": ("mbps_rd", MIB),
    "bps_wr": ("mbps_wr", MIB),
    "iops": ("iops", 1),
    "iops_rd": ("iops_rd", 1),
    "iops_wr": ("iops_wr", 1),
    "bps_max": ("mbps_max", MIB),
    "bps_rd_max": ("mbps_rd_max", MIB),
    "bps_wr_max": ("mbps_wr_max", MIB),
    "iops_max": ("iops_max", 1),
    "iops_rd_max": ("iops_rd_max", 1),
    "iops_wr_max": ("iops_wr_max", 1),
    "bps_max_length": ("bps_max_length", 1),
    "bps_rd_max_length": ("bps_rd_max_length", 1),
    "bps_wr_max_length": ("bps_wr_max_length", 1),
    "iops_max_length": ("iops_max_length", 1),
    "iops_rd_max_length": ("iops_rd_max_length", 1),
    "iops_wr_max_length": ("iops_wr_max_length", 1),
}
BASE_THROTTLES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")


@dataclass(frozen=True)
class Medium:
    """The file behind a drive: where it is, its format, whether it may be written."""

    path: Path
    fmt: str
    read_only: bool = False


def node_name(key: str) -> str:
    """Name of a drive's top block node."""
    return f"drive-{key}"


def block_node(key: str, medium: Medium, options: Mapping[str, str], *, cdrom: bool = False) -> dict[str, Any]:
    """The `-blockdev` description of a drive (one nested node tree)."""
    direct, no_flush, _write = CACHE.get(options.get("cache", "writeback" if cdrom else "none"), CACHE["none"])
    direct = direct and takes_direct(medium.path)
    read_only = medium.read_only or cdrom or options.get("ro") == "1"
    aio = options.get("aio", "threads")
    if aio == "native" and not direct:
        aio = "threads"
    cache = {"direct": direct, "no-flush": no_flush}
    discard = "unmap" if options.get("discard") == "on" and not cdrom else "ignore"
    zeroes = "off" if cdrom or options.get("detect_zeroes") == "0" else "unmap" if discard == "unmap" else "on"
    device = medium.path.is_block_device()
    file: dict[str, Any] = {
        "driver": "host_device" if device else "file",
        "node-name": f"file-{key}",
        "filename": str(medium.path),
        "aio": aio,
        "cache": cache,
        "discard": discard,
        "read-only": read_only,
    }
    return {
        "driver": medium.fmt,
        "node-name": node_name(key),
        "file": file,
        "cache": cache,
        "discard": discard,
        "detect-zeroes": zeroes,
        "read-only": read_only,
    }


def takes_direct(path: Path) -> bool:
    """Whether the file can be opened past the page cache (O_DIRECT); some file systems cannot."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return False
    os.close(fd)
    return True


def controller(config: Mapping[str, str], key: str) -> tuple[str, str] | None:
    """(id, kind) of the controller a drive hangs on: `scsihw0`, `virtioscsi3`, `ahci0`; None for ide and virtio."""
    match = re.fullmatch(r"([a-z]+)(\d+)", key)
    assert match
    kind, number = match[1], int(match[2])
    if kind == "sata":
        return "ahci0", "ahci"
    if kind != "scsi":
        return None
    hardware = config.get("scsihw", "lsi")
    if hardware == "virtio-scsi-single":
        return f"virtioscsi{number}", "virtio-scsi-pci"
    per = 7 if hardware.startswith("lsi") else 256
    return f"scsihw{number // per}", {"lsi": "lsi53c895a", "lsi53c810": "lsi53c810"}.get(hardware, hardware)


def controller_device(config: Mapping[str, str], key: str, drive: Drive) -> tuple[str, str] | None:
    """(id, `-device` value) of the drive's controller."""
    found = controller(config, key)
    if found is None:
        return None
    ident, kind = found
    thread = f",iothread=iothread-{key}" if ident.startswith("virtioscsi") and uses_thread(config, key, drive) else ""
    return ident, f"{kind},id={ident},{place(ident)}{thread}"


def uses_thread(config: Mapping[str, str], key: str, drive: Drive) -> bool:
    """Whether the drive gets an I/O thread of its own: virtio, and scsi with one controller a disk."""
    single = key.startswith("scsi") and config.get("scsihw") == "virtio-scsi-single"
    return drive.options.get("iothread") == "1" and (single or key.startswith("virtio"))


def device(
    config: Mapping[str, str], key: str, drive: Drive, *, q35: bool, bootindex: int | None, empty: bool
) -> dict[str, Any]:
    """The device of a drive as QMP's device_add and `-device` (as JSON) take it."""
    match = re.fullmatch(r"([a-z]+)(\d+)", key)
    assert match
    kind, number = match[1], int(match[2])
    cd = drive.is_cdrom
    found: dict[str, Any] = {"id": key}
    if kind == "virtio":
        found.update(driver="virtio-blk-pci", **_pci(key))
        if uses_thread(config, key, drive):
            found["iothread"] = f"iothread-{key}"
    elif kind == "scsi":
        found.update(_scsi(config, key, number), driver="scsi-cd" if cd else "scsi-hd")
    elif kind == "sata":
        found.update(driver="ide-cd" if cd else "ide-hd", bus=f"ahci0.{number}")
    else:
        bus, unit = (number // 2, number % 2) if not q35 else (number // 2 + 2 * (number % 2), 0)
        found.update(driver="ide-cd" if cd else "ide-hd", bus=f"ide.{bus}", unit=unit)
    if not empty:
        found["drive"] = node_name(key)
    if bootindex is not None:
        found["bootindex"] = bootindex
    found.update(_identity(kind, drive))
    if not cd:
        found["write-cache"] = "on" if CACHE.get(drive.options.get("cache", "none"), CACHE["none"])[2] else "off"
    for name in ("rerror", "werror"):
        if value := drive.options.get(name):
            found[name] = value
    return found


def _pci(key: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in place(key).split(","))


def _scsi(config: Mapping[str, str], key: str, number: int) -> dict[str, Any]:
    found = controller(config, key)
    assert found
    hardware = config.get("scsihw", "lsi")
    if hardware.startswith("lsi") or hardware == "pvscsi":
        return {"bus": f"{found[0]}.0", "scsi-id": number % (7 if hardware.startswith("lsi") else 256)}
    if hardware == "megasas":
        return {"bus": f"{found[0]}.0", "scsi-id": number}
    return {"bus": f"{found[0]}.0", "channel": 0, "scsi-id": 0, "lun": number}


def _identity(kind: str, drive: Drive) -> dict[str, Any]:
    options, found = drive.options, dict[str, Any]()
    if options.get("serial"):
        found["serial"] = unquote(options["serial"])
    if kind != "virtio" and options.get("wwn"):
        found["wwn"] = int(options["wwn"], 16)
    if kind == "scsi":
        found.update({name: options[name] for name in ("vendor", "product") if options.get(name)})
    if kind in ("ide", "sata") and options.get("model") and not drive.is_cdrom:
        found["model"] = unquote(options["model"])
    if kind != "virtio" and options.get("ssd") == "1" and not drive.is_cdrom:
        found["rotation_rate"] = 1
    if kind == "virtio" and options.get("queues"):
        found["num-queues"] = int(options["queues"])
    return found


def throttle(drive: Drive) -> dict[str, int]:
    """Arguments of block_set_io_throttle; the limits that are not set are zero, which means none."""
    found = dict.fromkeys(BASE_THROTTLES, 0)
    for name, (option, unit) in THROTTLES.items():
        if value := drive.options.get(option):
            found[name] = int(float(value) * unit)
    return found


def arguments(nodes: list[dict[str, Any]], devices: list[dict[str, Any]]) -> list[str]:
    """-blockdev and -device arguments in JSON, which needs no quoting of commas."""
    args = []
    for node in nodes:
        args += ["-blockdev", json.dumps(node)]
    for item in devices:
        args += ["-device", json.dumps(item)]
    return args


def boot_order(config: Mapping[str, str], keys: list[str], cdroms: set[str]) -> dict[str, int]:
    """bootindex by device. `order=` lists devices; the old letters (c disk, d CD, n net; bootdisk) still count."""
    text = config.get("boot", "")
    if "order=" in text:
        listed = [item for item in re.split(r"[;,\s]+", text.partition("order=")[2]) if item]
        return {item: 100 + index for index, item in enumerate(listed)}
    letters = text.removeprefix("legacy=") or "cdn"
    order: list[str] = []
    disks = [key for key in keys if key not in cdroms and not key.startswith("net")]
    first = [config["bootdisk"]] if config.get("bootdisk") in disks else []
    for letter in letters:
        order += {
            "c": first or disks[:1],
            "d": [k for k in keys if k in cdroms],
            "n": [k for k in keys if k.startswith("net")],
        }.get(letter, [])
    return {key: 100 + index for index, key in enumerate(order)}


def need_file(key: str, path: Path, what: str) -> None:
    """ApiError when a drive's file is not there."""
    if not path.exists():
        raise ApiError(f"{key}: {what} does not exist")
