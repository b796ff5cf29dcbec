# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may read a volume of a storage (facts from ``check_volume_access`` of pve-storage, Storage.pm)."""

from __future__ import annotations

from labnode.errors import ApiError
from labnode.guests.out import Who
from labnode.storage.model import Volume


def check_volume(who: Who, volume: Volume, vmid: int | None = None) -> None:
    """Raises Forbidden or ApiError unless one may read it; ``vmid`` is the guest for which it is asked."""
    storage = f"/storage/{volume.storeid}"
    if who.may(storage, ["Datastore.Allocate"]):
        return
    if volume.kind in ("iso", "vztmpl", "import"):
        who.check(storage, ["Datastore.AllocateSpace", "Datastore.Audit"], any_of=True)
    elif volume.vmid is None or volume.kind not in ("images", "rootdir", "backup"):
        raise ApiError(f"missing privileges to access {volume.volid}")
    elif volume.vmid != vmid:
        backup = volume.kind == "backup"
        who.check(storage, ["Datastore.AllocateSpace" if backup else "Datastore.Audit"])
        who.check(f"/vms/{volume.vmid}", ["VM.Backup" if backup else "VM.Config.Disk"])


def may_see(who: Who, volume: Volume) -> bool:
    """Whether a list of volumes shows it."""
    try:
        check_volume(who, volume)
    except ApiError:
        return False
    return True


def check_removal(who: Who, volume: Volume) -> None:
    """Raises Forbidden unless one may remove it (pve-storage, API2/Storage/Content.pm)."""
    storage = f"/storage/{volume.storeid}"
    if volume.kind == "backup" and volume.vmid is not None:
        who.check(storage, ["Datastore.AllocateSpace"])
        who.check(f"/vms/{volume.vmid}", ["VM.Backup"])
    else:
        who.check(storage, ["Datastore.Allocate"])
