# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings of a guest out of defaults, profiles and what is said of the guest itself."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

_NAMES = (
    "acpi affinity agent allow_data_loss allow_ksm amd_sev apply_pending arch args audio autostart balloon bios",
    "boot bwlimit clone cloud_init cores cpu cpulimit cpuunits description destroy_unreferenced_disks disks",
    "efidisk force_stop freeze hookscript hostpci hotplug hugepages import_working_storage intel_tdx ivshmem",
    "keephugepages keyboard kvm localtime machine memory migrate_downtime migrate_speed name nics node numa",
    "numa_nodes onboot ostype parallel pool protection purge reboot rename rng scsihw serial shares",
    "shutdown_timeout_s smbios sockets spice_enhancements startdate startup state status tablet tags tdf tpm",
    "unset update_password usb vcpus vga virtiofs vmgenid vmid vmid_range vmstatestorage watchdog",
)
OPTIONS = frozenset(" ".join(_NAMES).split())
"""What the module vm takes, so that a slip of the pen is found before anything is done."""

JOINED = ("tags",)
"""Lists that add up; other lists replace each other, and lists of slots are merged slot by slot."""


def guest_settings(
    guest: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    profiles: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Options of the module vm for one guest: the guest over its profiles in order over the defaults.

    Raises AnsibleFilterError for an unknown profile and for something that is no mapping.
    """
    if not isinstance(guest, Mapping):
        raise AnsibleFilterError(f"a guest has to be a mapping with a name or a vmid, not {guest!r}")
    called = guest.get("name") or guest.get("vmid") or "without name"
    whole: dict[str, Any] = {}
    own = {key: value for key, value in guest.items() if key != "profile"}
    for layer in ({} if defaults is None else defaults, *_profiles(guest, profiles or {}, called), own):
        whole = _merge(whole, _expand(layer))
    unknown = sorted(set(whole) - OPTIONS)
    if unknown:
        near = difflib.get_close_matches(unknown[0], OPTIONS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise AnsibleFilterError(f"guest {called}: the module vm has no option '{unknown[0]}'{hint}")
    return _without_nulls(whole)


def _profiles(
    guest: Mapping[str, Any], profiles: Mapping[str, Mapping[str, Any]], called: object
) -> list[Mapping[str, Any]]:
    wanted = guest.get("profile") or []
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise AnsibleFilterError(f"guest {called}: there is no profile '{name}'; guests_profiles has: {known}")
    return [profiles[name] for name in names]


def _expand(layer: Mapping[str, Any]) -> dict[str, Any]:
    """``address`` and ``gateway`` say what the first network card gets, without the ceremony."""
    full = {key: value for key, value in layer.items() if key not in ("address", "gateway")}
    first = {short: layer[key] for key, short in (("address", "ip"), ("gateway", "gw")) if layer.get(key)}
    if first:
        entry = {"slot": "ipconfig0", **first}
        full["cloud_init"] = _merge({"ip_configs": [entry]}, full.get("cloud_init") or {})
    return full


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(before, value)
        elif _slots(before) and _slots(value):
            merged[key] = _merge_slots(before, value)
        elif key in JOINED and isinstance(before, list) and isinstance(value, list):
            merged[key] = [*before, *(item for item in value if item not in before)]
        else:
            merged[key] = value
    return merged


def _slots(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) and "slot" in item for item in value)


def _merge_slots(under: list[dict[str, Any]], over: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_slot = {item["slot"]: dict(item) for item in under}
    for item in over:
        by_slot[item["slot"]] = _merge(by_slot.get(item["slot"], {}), item)
    return list(by_slot.values())


def _without_nulls(value: Any) -> Any:
    """null takes away what a profile or the defaults say."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


class FilterModule:
    """The filter, under its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"guest_settings": guest_settings}
