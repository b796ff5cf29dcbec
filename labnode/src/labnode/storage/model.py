# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain data the storage layer hands out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Definition:
    """One section of storage.cfg: `type: id` and its keys, values as text in the file."""

    storeid: str
    type: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        """False when the definition says `disable`."""
        return self.options.get("disable", "0") in ("0", "")

    @property
    def shared(self) -> bool:
        """Whether all nodes see the same volumes."""
        return self.options.get("shared", "0") == "1"


@dataclass(frozen=True)
class StorageStatus:
    """What `GET /nodes/N/storage/S/status` tells; sizes in bytes."""

    storage: str
    type: str
    content: str
    enabled: bool
    active: bool
    shared: bool
    total: int = 0
    used: int = 0
    avail: int = 0


@dataclass(frozen=True)
class Volume:
    """A volume id taken apart.

    kind is a content type (images, rootdir, iso, vztmpl, backup, snippets, import); vmid is the owner or None;
    base is the name of the volume a linked clone stands on; is_base says this is itself a base image.
    """

    storeid: str
    name: str
    kind: str
    fmt: str
    vmid: int | None = None
    base: str | None = None
    base_vmid: int | None = None
    is_base: bool = False

    @property
    def volid(self) -> str:
        """The id without any base: `STORE:NAME`."""
        return f"{self.storeid}:{self.name}"


@dataclass(frozen=True)
class VolumeInfo:
    """A volume's format, virtual size and bytes used on the storage; parent is the volid or file it is backed by."""

    format: str
    size: int
    used: int
    parent: str | None = None
