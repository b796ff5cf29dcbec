# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of storage must be able to do."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from labnode.errors import ApiError
from labnode.storage.kinds import KINDS
from labnode.storage.model import Definition, Volume, VolumeInfo

Log = Callable[[str], None]


@dataclass(frozen=True)
class Usage:
    """Bytes of a storage, and whether it can be used now."""

    active: bool = False
    total: int = 0
    used: int = 0
    avail: int = 0


class Backend(abc.ABC):
    """The volumes of one storage. `name` is always the part of a volume id after the colon.

    What a kind of storage cannot do is refused by the methods here, with a sentence that says so.
    """

    features: ClassVar[dict[str, set[str]]] = {}

    def __init__(self, definition: Definition) -> None:
        self.definition = definition

    @property
    def storeid(self) -> str:
        """The storage's id."""
        return self.definition.storeid

    def no(self, what: str) -> ApiError:
        """The refusal of an operation."""
        return ApiError(f"storage '{self.storeid}' of type '{self.definition.type}' cannot {what}")

    def formats(self) -> list[str]:
        """Formats of disk images, default first."""
        return [fmt for fmt in KINDS[self.definition.type].formats if fmt != "subvol"]

    def default_format(self) -> str:
        """What a new disk gets unasked."""
        chosen = self.definition.options.get("format", "")
        return chosen if chosen in self.formats() else self.formats()[0]

    def has_feature(self, volume: Volume, feature: str, snap: str | None) -> bool:
        """Whether the feature exists for the volume now (current), for a base image (base), or for a snapshot
        (snap)."""
        state = "snap" if snap else "base" if volume.is_base else "current"
        return state in self.features.get(feature, set())

    @abc.abstractmethod
    def parse(self, name: str) -> Volume:
        """Take a volume name apart; ApiError when it cannot be one."""

    @abc.abstractmethod
    def path(self, name: str, snap: str | None = None) -> Path:
        """File or device of a volume or of its snapshot."""

    @abc.abstractmethod
    async def activate(self) -> None:
        """Make the storage ready; ApiError says what is missing."""

    @abc.abstractmethod
    async def usage(self) -> Usage:
        """Current use; ApiError when it cannot be told."""

    @abc.abstractmethod
    async def images(self, vmid: int | None = None) -> list[dict[str, Any]]:
        """Disk images: volid, format, size, vmid, and used, parent, ctime where known."""

    async def files(self, content: str) -> list[dict[str, Any]]:
        """Volumes of another kind of content (iso, backup, ...)."""
        return []

    @abc.abstractmethod
    async def info(self, name: str) -> VolumeInfo | None:
        """None when the volume is not there."""

    async def snapshots(self, name: str) -> list[str]:
        """Snapshots of the volume, oldest first."""
        return []

    async def activate_volume(self, name: str) -> None:
        """Make the volume's device appear."""
        return None

    async def alloc(self, vmid: int, fmt: str, size: int, name: str | None, log: Log) -> str:
        """New image; its name."""
        raise self.no("hold disk images")

    async def free(self, name: str) -> None:
        """Remove a volume."""
        raise self.no("remove volumes")

    async def resize(self, name: str, size: int) -> str:
        """Grow; what the tool said."""
        raise self.no("resize volumes")

    async def snapshot(self, name: str, snap: str) -> None:
        """Take a snapshot."""
        raise self.no("take snapshots")

    async def snapshot_delete(self, name: str, snap: str) -> None:
        """Remove a snapshot."""
        raise self.no("take snapshots")

    async def snapshot_rollback(self, name: str, snap: str) -> None:
        """Go back to a snapshot."""
        raise self.no("take snapshots")

    async def rollback_blocker(self, name: str, snap: str) -> str | None:
        """Why going back to this snapshot is impossible; None when it is possible."""
        return None

    async def clone_linked(self, name: str, vmid: int, snap: str | None, log: Log) -> str:
        """New image that stands on a base image or a snapshot; its name."""
        raise self.no("make linked clones")

    async def make_base(self, name: str) -> str:
        """Turn an image into a base image; its new name."""
        raise self.no("hold base images")

    async def rename(self, name: str, vmid: int, new: str | None) -> str:
        """Give the volume to another guest; its new name."""
        raise self.no("rename volumes")


class AbsentBackend(Backend):
    """A type of storage labnode keeps definitions of and has no volumes on (pbs, iscsi, rbd, esxi, zfs over iSCSI)."""

    def parse(self, name: str) -> Volume:
        return Volume(self.storeid, name, "images", "raw")

    def path(self, name: str, snap: str | None = None) -> Path:
        raise self.no("serve volumes on this node")

    async def activate(self) -> None:
        raise ApiError(
            f"storage '{self.storeid}' of type '{self.definition.type}' is kept as a definition only;"
            " this node cannot reach such storages - set 'disable' on it"
        )

    async def usage(self) -> Usage:
        return Usage()

    async def images(self, vmid: int | None = None) -> list[dict[str, Any]]:
        return []

    async def info(self, name: str) -> VolumeInfo | None:
        return None
