# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a guest's configuration: their argument specification, and the state that they ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from .guest_codec import SCALAR_BY_NAME, SCALARS, SINGLE_DRIVES, bus_of
from .guest_fields import Field, Group, slots_of
from .guest_table import BUSES, CLOUD_INIT, DRIVE, EFIDISK, GROUPS, PLAIN, SLOTTED, TPM
from .propstring import parse_size
from .state import State, is_cleared
from .steps import Failure

_STRUCTS = (*(g for g in GROUPS if not g.prefix), EFIDISK, TPM)
_LISTED = (DRIVE, *(g for g in SLOTTED if g.name != "ip_configs"))
_IP_CONFIGS = next(g for g in SLOTTED if g.name == "ip_configs")
_CUSTOM = next(g for g in GROUPS if g.name == "custom")
_CLOUD_DRIVE = ("storage", "slot")


def options() -> dict[str, Any]:
    """The argument specification of everything that is configuration."""
    plain = {f.name: f.spec() for f in PLAIN}
    structs = {g.name: {"type": "dict", "options": _sub(g)} for g in _STRUCTS}
    listed = {g.name: _list_spec(g) for g in _LISTED}
    return {**plain, **structs, **listed, "cloud_init": {"type": "dict", "options": _cloud_init_spec()}}


def _sub(group: Group) -> dict[str, Any]:
    return {f.name: {**f.spec(), **({"aliases": ["file"]} if f.name == "volume" else {})} for f in group.fields}


def _list_spec(group: Group) -> dict[str, Any]:
    slot = {"type": "str", "required": True}
    return {"type": "list", "elements": "dict", "options": {"slot": slot, **_sub(group)}}


def _cloud_init_spec() -> dict[str, Any]:
    fields = {f.name.removeprefix("cloud_init."): f.spec() for f in CLOUD_INIT}
    drive = {name: {"type": "str"} for name in _CLOUD_DRIVE}
    custom = {"type": "dict", "options": _sub(_CUSTOM)}
    return {**drive, **fields, "custom": custom, "ip_configs": _list_spec(_IP_CONFIGS)}


def wanted(params: Mapping[str, Any]) -> State:
    """The options → flat state: what is not given is not there; what ``unset`` names is cleared. Raises Failure."""
    state: State = {}
    for field in SCALARS:
        _put(state, field.name, field, _at(params, field.name))
    for group in _STRUCTS:
        _put_fields(state, group.place, group, params.get(group.name))
    cloud = params.get("cloud_init") or {}
    _put_fields(state, _CUSTOM.place, _CUSTOM, cloud.get("custom"))
    for name in _CLOUD_DRIVE:
        if cloud.get(name) is not None:
            state[f"cloud_init.{name}"] = cloud[name]
    for group in _LISTED:
        _put_slots(state, group, params.get(group.name))
    _put_slots(state, _IP_CONFIGS, cloud.get("ip_configs"))
    _in_megabytes(state)
    _unset(state, params.get("unset") or [])
    return state


def _at(params: Mapping[str, Any], name: str) -> Any:
    outer, _dot, inner = name.partition(".")
    value = params.get(outer)
    return value.get(inner) if inner and isinstance(value, Mapping) else None if inner else value


def _put(state: State, key: str, field: Field, value: Any) -> None:
    if value is None:
        return
    try:
        state[key] = field.canonical(value)
    except ValueError as error:
        raise Failure(f"{key}: {error}.") from None


def _put_fields(state: State, place: str, group: Group, values: Mapping[str, Any] | None) -> None:
    for field in group.fields if values else ():
        _put(state, f"{place}.{field.name}", field, (values or {}).get(field.name))


def _put_slots(state: State, group: Group, entries: Iterable[Mapping[str, Any]] | None) -> None:
    seen: set[str] = set()
    for entry in entries or ():
        slot = str(entry["slot"])
        if not _is_slot(group, slot):
            raise Failure(f"{group.name}: there is no slot '{slot}'. {_slots_there_are(group)}")
        if slot in seen:
            raise Failure(f"{group.name}: {slot} is given twice. Leave one of the two out.")
        seen.add(slot)
        _put_fields(state, slot, group, entry)


def _in_megabytes(state: State) -> None:
    """Proxmox VE keeps limits in bytes as megabytes with three decimals (qemu-server Drive.pm parse_drive)."""
    for key in [k for k in state if re.fullmatch(r"[a-z]+\d+\.bps(_rd|_wr)?", k)]:
        slot, _dot, name = key.partition(".")
        if not is_cleared(state.get(f"{slot}.m{name}")):
            raise Failure(f"{slot}: {name} and m{name} are the same limit in two units. Leave one of the two out.")
        state[f"{slot}.m{name}"] = round(state.pop(key) / 1024**2, 3)


def _is_slot(group: Group, slot: str) -> bool:
    return bus_of(slot) is not None if group is DRIVE else slots_of((group,), slot) is not None


def _slots_there_are(group: Group) -> str:
    kinds = BUSES if group is DRIVE else {group.key: group.slots}
    return f"There is {', '.join(f'{kind}0 to {kind}{count - 1}' for kind, count in kinds.items())}."


def _unset(state: State, names: Iterable[str]) -> None:
    """Clear what is named; Raises Failure for a name that means nothing or that the task also sets."""
    for name in names:
        keys = list(clearable(name))
        if not keys:
            raise Failure(
                f"unset: '{name}' is no option, slot or field of a guest. "
                "Examples: description, net1, scsi0.cache, cloud_init.user."
            )
        both = next((k for k in keys if not is_cleared(state.get(k))), None)
        if both:
            raise Failure(f"unset: {name} and a value for {both} contradict each other. Leave one of the two out.")
        state.update(dict.fromkeys(keys, ""))


def clearable(name: str) -> Iterator[str]:
    """The keys of the state that unsetting ``name`` clears; the names of Proxmox VE's own keys count as well."""
    outer, _dot, inner = name.partition(".")
    if name == "pool" or re.fullmatch(r"unused\d{1,3}", name):
        yield name
    for field in SCALARS:
        if name in (field.name, field.stored):
            yield field.name
    group = group_of(outer)
    if group:
        place = outer if group.slots or group is DRIVE else group.place
        names = [inner] if inner else [f.name for f in group.fields]
        yield from (f"{place}.{n}" for n in names if group.field(n))
    if outer == "cloud_init":
        yield from _cloud_init_keys(inner)


def _cloud_init_keys(inner: str) -> Iterator[str]:
    if inner in ("", "storage", "slot"):
        yield from ("cloud_init.storage", "cloud_init.slot", "cloud_init.volume")
    if inner == "":
        yield from (f.name for f in CLOUD_INIT)
    if inner in ("", "custom"):
        yield from (f"{_CUSTOM.place}.{f.name}" for f in _CUSTOM.fields)


@lru_cache(maxsize=1024)
def group_of(name: str) -> Group | None:
    """The group that an option, a Proxmox VE key or a slot is: "agent", "smbios1", "net0", "scsi3"."""
    if bus_of(name):
        return DRIVE
    single = (*GROUPS, *SINGLE_DRIVES)
    return next((g for g in single if name in (g.name, g.key)), None) or slots_of(SLOTTED, name)


def default_of(key: str) -> Any:
    """What the schema says applies where ``key`` of the state is not set; None where it does not say."""
    field = SCALAR_BY_NAME.get(key) or _field_at(key)
    return field.default if field else None


def since(key: str) -> str:
    """The version of Proxmox VE that first knew ``key`` of the state, or "" for all from 8.0 on."""
    group = group_at(key)
    field = SCALAR_BY_NAME.get(key) or _field_at(key)
    return (field.since if field else "") or (group.since if group else "")


def group_at(key: str) -> Group | None:
    """The group that a key of the state belongs to, or None for one that stands alone."""
    if key in SCALAR_BY_NAME:
        return None
    if key.startswith(f"{_CUSTOM.place}."):
        return _CUSTOM
    return group_of(key.partition(".")[0]) if "." in key else None


def _field_at(key: str) -> Field | None:
    group = group_at(key)
    return group.field(key.rpartition(".")[2]) if group else None


def as_seen(want: Mapping[str, Any], have: State) -> State:
    """What is there, as far as it is told apart from what is wanted: defaults that nothing is set against are shown.

    Devices have defaults only where there is a device. A machine type without a version, which Proxmox VE pins for
    Windows, counts as the pinned one; vmgenid "1" ("make one") as any. What a volume was made from is history.
    """
    seen = dict(have)
    for key, value in want.items():
        if is_cleared(value) or key in seen:
            continue
        group = group_at(key)
        place = key.rpartition(".")[0]
        there = any(k.startswith(f"{place}.") for k in have)
        default = default_of(key)
        if default is not None and (group is None or not group.device or there):
            seen[key] = default
        if key.endswith(".import_from") and f"{place}.volume" in have:
            seen[key] = value
    _round_sizes(want, seen)
    pinned = str(have.get("machine.type", ""))
    alias = {"q35": "pc-q35-", "pc": "pc-i440fx-", "virt": "virt-"}.get(str(want.get("machine.type")), "\n")
    if pinned.startswith(alias):
        seen["machine.type"] = want["machine.type"]
    if want.get("vmgenid") == "1" and have.get("vmgenid"):
        seen["vmgenid"] = "1"
    return seen


def _round_sizes(want: Mapping[str, Any], seen: State) -> None:
    """Storages round up to what they can allocate, LVM with its extents of 4 MiB the coarsest: that is no drift."""
    for key, size in want.items():
        if key.endswith(".size") and seen.get(key) and size:
            excess = parse_size(seen[key]) - parse_size(size)
            seen[key] = size if 0 < excess < 4 * 1024**2 else seen[key]
