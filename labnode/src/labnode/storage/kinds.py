# SPDX-License-Identifier: GPL-3.0-or-later
"""What each type of storage may hold and which keys its definition has.

Facts from the storage plugins of Proxmox VE 9 (plugindata and options of each).
"""

from __future__ import annotations

from dataclasses import dataclass

FILES = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import")
PRUNE = ("prune-backups", "max-protected-backups")
MAKE = ("mkdir", "create-base-path", "create-subdirs")


@dataclass(frozen=True)
class Kind:
    """A storage type: content it may carry, its default content, formats of disk images (default first), keys.

    `fixed` keys are given once and never changed; all of them are required unless also in `optional`.
    `secret` keys are kept in a file of their own and never shown. `mount` is set for network file systems, which live
    under /mnt/pve.
    """

    content: tuple[str, ...]
    default: tuple[str, ...]
    fixed: tuple[str, ...]
    optional: tuple[str, ...]
    formats: tuple[str, ...] = ("raw",)
    secret: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    shared: bool = False
    mount: bool = False

    @property
    def keys(self) -> set[str]:
        """Every key a definition of this type may have."""
        return {*self.fixed, *self.optional, *self.required, "nodes", "disable", "content"}


_NET = (*PRUNE, "format", "content-dirs", *MAKE, "bwlimit", "preallocation", "options", "snapshot-as-volume-chain")
_DISKS = ("images", "rootdir")
_IMAGE_FORMATS = ("raw", "qcow2", "vmdk")

KINDS: dict[str, Kind] = {
    "dir": Kind(
        (*FILES, "none"),
        _DISKS,
        ("path", "snapshot-as-volume-chain"),
        (
            "content-dirs",
            "shared",
            *PRUNE,
            "format",
            *MAKE,
            "is_mountpoint",
            "bwlimit",
            "preallocation",
            "snapshot-as-volume-chain",
        ),
        (*_IMAGE_FORMATS, "subvol"),
    ),
    "btrfs": Kind(
        (*FILES, "none"),
        _DISKS,
        ("path",),
        ("shared", *PRUNE, "format", "is_mountpoint", "nocow", *MAKE, "preallocation"),
        ("raw", "subvol"),
    ),
    "nfs": Kind(
        FILES,
        ("images",),
        ("path", "server", "export", "snapshot-as-volume-chain"),
        _NET,
        _IMAGE_FORMATS,
        shared=True,
        mount=True,
    ),
    "cifs": Kind(
        FILES,
        ("images",),
        ("path", "server", "share", "snapshot-as-volume-chain"),
        (*_NET, "subdir", "username", "password", "domain", "smbversion"),
        _IMAGE_FORMATS,
        ("password",),
        shared=True,
        mount=True,
    ),
    "cephfs": Kind(
        ("vztmpl", "iso", "backup", "snippets", "import"),
        ("backup",),
        ("path",),
        (
            "content-dirs",
            "monhost",
            "subdir",
            "options",
            "username",
            "format",
            *MAKE,
            "fuse",
            "bwlimit",
            "keyring",
            *PRUNE,
            "fs-name",
        ),
        secret=("keyring",),
        shared=True,
        mount=True,
    ),
    "lvm": Kind(
        _DISKS,
        ("images",),
        ("vgname", "base"),
        (
            "shared",
            "saferemove",
            "saferemove-stepsize",
            "saferemove_throughput",
            "base",
            "tagged_only",
            "bwlimit",
            "snapshot-as-volume-chain",
        ),
        ("raw", "qcow2"),
    ),
    "lvmthin": Kind(_DISKS, _DISKS, ("thinpool", "vgname"), ("bwlimit",)),
    "zfspool": Kind(_DISKS, _DISKS, ("pool",), ("blocksize", "sparse", "bwlimit", "mountpoint"), ("raw", "subvol")),
    "zfs": Kind(
        ("images",),
        ("images",),
        ("portal", "target", "pool", "blocksize", "iscsiprovider"),
        ("nowritecache", "sparse", "comstar_hg", "comstar_tg", "lio_tpg", "bwlimit", "zfs-base-path"),
        shared=True,
    ),
    "iscsi": Kind(("images", "none"), ("images",), ("portal", "target"), ("bwlimit",), shared=True),
    "iscsidirect": Kind(("images", "none"), ("images",), ("portal", "target"), ("bwlimit",), shared=True),
    "rbd": Kind(
        _DISKS,
        ("images",),
        (),
        ("monhost", "pool", "data-pool", "namespace", "username", "krbd", "keyring", "bwlimit"),
        secret=("keyring",),
        shared=True,
    ),
    "pbs": Kind(
        ("backup", "none"),
        ("backup",),
        ("server", "datastore"),
        ("namespace", "port", "username", "password", "encryption-key", "master-pubkey", *PRUNE, "fingerprint"),
        secret=("password", "encryption-key", "master-pubkey"),
        shared=True,
    ),
    "esxi": Kind(
        ("import",),
        ("import",),
        (),
        ("shared", "password", "skip-cert-verification", "port"),
        _IMAGE_FORMATS,
        ("password",),
        ("server", "username"),
        shared=True,
    ),
}
BOOLEAN = {
    "disable",
    "shared",
    "mkdir",
    "create-base-path",
    "create-subdirs",
    "nocow",
    "saferemove",
    "tagged_only",
    "sparse",
    "snapshot-as-volume-chain",
    "nowritecache",
    "krbd",
    "fuse",
    "skip-cert-verification",
}
INTEGER = {"port", "max-protected-backups", "priority"}
DIRECTORY_TYPES = ("dir", "btrfs", "nfs", "cifs", "cephfs")
