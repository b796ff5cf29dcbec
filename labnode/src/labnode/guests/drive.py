# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive strings: ``local:100/vm-100-disk-0.qcow2,iothread=1,size=32G``.

Facts from PVE::QemuServer::Drive: the order of drives, the ``STORAGE:SIZE`` form that allocates,
what may not go together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labnode.guests import options
from labnode.guests.propstring import Format, PropertyError, format_size, parse, parse_size, render, words

FORMAT = Format(
    default_key="file",
    booleans=words("snapshot backup replicate detect_zeroes shared iothread ro scsiblock ssd pre-enrolled-keys"),
    aliases={
        "volume": "file",
        "bps_rd_length": "bps_rd_max_length",
        "bps_wr_length": "bps_wr_max_length",
        "iops_rd_length": "iops_rd_max_length",
        "iops_wr_length": "iops_wr_max_length",
    },
    dropped=frozenset({"cyls", "heads", "secs", "trans"}),
)
NEW_DISK_RE = re.compile(r"(?:([^/:\s]+):)?(\d+(?:\.\d+)?)")
_CLOUDINIT_RE = re.compile(r"[:/](?:vm-\d+-)?cloudinit(?:\.(?:raw|qcow2|qcow|qed|vmdk|cloop))?$")
_NEEDS = (
    ("mbps_max", "mbps"), ("mbps_rd_max", "mbps_rd"), ("mbps_wr_max", "mbps_wr"),
    ("bps_max_length", "mbps_max"), ("bps_rd_max_length", "mbps_rd_max"), ("bps_wr_max_length", "mbps_wr_max"),
    ("iops_max_length", "iops_max"), ("iops_rd_max_length", "iops_rd_max"), ("iops_wr_max_length", "iops_wr_max"),
)  # fmt: skip
_EXCLUDES = (("mbps_rd", "mbps"), ("mbps_wr", "mbps"), ("iops_rd", "iops"), ("iops_wr", "iops"))


@dataclass
class Drive:
    """One drive: ``key`` (scsi0), ``file`` (volume id, path, none, cdrom), its options as text, ``size`` in bytes."""

    key: str
    file: str
    options: dict[str, str] = field(default_factory=dict)
    size: int | None = None

    @property
    def is_cloudinit(self) -> bool:
        """Whether this is a drive with generated cloud-init data."""
        return bool(_CLOUDINIT_RE.search(self.file))

    @property
    def is_cdrom(self) -> bool:
        """media=cdrom, cloud-init drives included."""
        return self.options.get("media") == "cdrom"

    @property
    def is_disc(self) -> bool:
        """A CD drive that is no cloud-init drive: its medium belongs to no guest."""
        return self.is_cdrom and not self.is_cloudinit

    @property
    def new_disk(self) -> tuple[str | None, float] | None:
        """Storage (or None) and GiB of the form that allocates a volume, None for every other form."""
        match = NEW_DISK_RE.fullmatch(self.file)
        return (match[1], float(match[2])) if match else None

    @property
    def storeid(self) -> str | None:
        """The storage of a managed volume, None for none, cdrom and paths."""
        head, colon, _ = self.file.partition(":")
        return head if colon and not self.file.startswith("/") else None

    def __str__(self) -> str:
        values = {"file": self.file, **self.options}
        if self.size is not None:
            values["size"] = format_size(self.size)
        return render(values, FORMAT)


def parse_drive(key: str, text: str) -> Drive:
    """Take a drive string apart; raises PropertyError where Proxmox VE would not take it."""
    values = parse(text, FORMAT)
    if not values.get("file"):
        raise PropertyError("file: property is missing and it is not optional")
    for name in ("bps", "bps_rd", "bps_wr"):
        if (bps := values.pop(name, None)) is not None:
            if f"m{name}" in values:
                raise PropertyError(f"both {name} and m{name} specified")
            values[f"m{name}"] = f"{int(bps) / 1048576:.3f}"
    _check_pairs(key, values)
    size = None
    if (text_size := values.pop("size", None)) is not None and (size := parse_size(text_size)) is None:
        raise PropertyError(f"size: '{text_size}' is no size")
    return Drive(key, values.pop("file"), values, size)


def _check_pairs(key: str, values: Mapping[str, str]) -> None:
    for name, needs in _NEEDS:
        if values.get(name) and not values.get(needs):
            raise PropertyError(f"{name} requires {needs}")
    for name, other in _EXCLUDES:
        if values.get(name) and values.get(other):
            raise PropertyError(f"{name} and {other} exclude each other")
    if values.get("media") == "cdrom":
        if values.get("format") or values.get("snapshot", "0") != "0":
            raise PropertyError("a CD drive takes neither format nor snapshot")
        if key.startswith("virtio"):
            raise PropertyError("a CD drive cannot be on the virtio bus")


def drives(section: Mapping[str, str], *, unused: bool = False, vmstate: bool = False) -> Iterator[Drive]:
    """Every drive of a section in Proxmox VE's order (ide, scsi, virtio, sata, EFI, TPM), then if asked the saved
    state and the unused volumes. Drives that cannot be parsed are left out."""
    keys = [k for k in options.DRIVE_NAMES if k in section]
    if vmstate and "vmstate" in section:
        keys.append("vmstate")
    if unused:
        keys += sorted((k for k in section if options.is_unused(k)), key=lambda k: int(k[6:]))
    for key in keys:
        try:
            yield parse_drive(key, section[key])
        except PropertyError:
            continue


def boot_order(section: Mapping[str, str]) -> list[str]:
    """Devices of ``boot: order=...``; empty without it."""
    order = parse(section["boot"], Format("legacy")).get("order", "") if "boot" in section else ""
    return [dev for dev in order.split(";") if dev]


def render_boot_order(devices: list[str]) -> str:
    """The ``boot`` option of an order of devices; "" for none."""
    return "order=" + ";".join(devices) if devices else ""


def default_boot(section: Mapping[str, str]) -> list[str]:
    """The order a new guest gets: its first disk, its first CD drive, its first NIC."""
    found = [d for d in drives(section) if d.key not in ("efidisk0", "tpmstate0")]
    disk = next((d.key for d in found if not d.is_cdrom), None)
    disc = next((d.key for d in found if d.is_cdrom), None)
    nic = next((f"net{i}" for i in range(options.NUMBERED["net"]) if f"net{i}" in section), None)
    return [dev for dev in (disk, disc, nic) if dev]


def boot_disk(section: Mapping[str, str]) -> Drive | None:
    """The first disk of the boot order (it gives the guest's ``maxdisk``)."""
    order = boot_order(section) or [section.get("bootdisk", "")]
    by_key = {d.key: d for d in drives(section) if not d.is_cdrom}
    return next((by_key[dev] for dev in order if dev in by_key), None)
