# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The storages of Proxmox VE on a host's pools, out of what is said of the pools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

LOCATIONS = {
    "lvm": {"vgname": "name"},
    "lvmthin": {"vgname": "vg", "thinpool": "name"},
    "zfspool": {"pool": "name"},
    "dir": {"path": "path"},
}
"""Type of storage → its options that say where it is → the keys of the pool that know."""


def pool_storages(pools: Iterable[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Options of the module storage for each pool that has a key ``storage``; gone with a pool that is to be gone.

    ``kind`` is the type of storage that such a pool becomes. Raises AnsibleFilterError.
    """
    if kind not in LOCATIONS:
        raise AnsibleFilterError(f"there is no type of storage '{kind}' on a pool; there are: {', '.join(LOCATIONS)}")
    return [_storage(pool, kind) for pool in pools if pool.get("storage") is not None]


def _storage(pool: Mapping[str, Any], kind: str) -> dict[str, Any]:
    own = pool["storage"]
    called = pool.get("name") or pool.get("path")
    if not isinstance(own, Mapping) or not own.get("storage"):
        raise AnsibleFilterError(f"pool {called}: 'storage' has to be a mapping with at least a name, 'storage'")
    if pool.get("state", "present") == "absent":
        return {"storage": own["storage"], "state": "absent"}
    where = {option: pool[key] for option, key in LOCATIONS[kind].items()}
    # Without the mount, images would fill the disk of the system.
    mounted = {"is_mountpoint": "yes"} if kind == "dir" else {}
    return {"type": kind, **where, **mounted, **own}


class FilterModule:
    """The filter, under its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pool_storages": pool_storages}
