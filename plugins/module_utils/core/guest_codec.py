# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's configuration, as the API shows it, to the flat state that the engine compares, and back. Pure.

``parse_config`` and the ``render_*`` functions are inverse to each other for everything that the tables know, and what
the tables do not know (a key of a newer Proxmox VE) is carried through as text, so that no change drops it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

from . import propstring
from .guest_fields import Field, Group, slots_of
from .guest_table import BUSES, CLOUD_INIT, DRIVE, EFIDISK, GROUPS, PLAIN, SLOTTED, TPM
from .state import State, is_cleared

SCALARS: tuple[Field, ...] = (*PLAIN, *CLOUD_INIT)
SCALAR_BY_NAME = {f.name: f for f in SCALARS}
SINGLE_DRIVES = (EFIDISK, TPM)

_SCALAR_BY_KEY = {f.stored: f for f in SCALARS}
_GROUP_BY_KEY = {g.key: g for g in (*GROUPS, *SINGLE_DRIVES)}
_CLOUD_INIT_VOLUME = re.compile(r"(?:.*[:/])?vm-\d+-cloudinit(?:\.\w+)?$")
_SUFFIX = re.compile(r"\.(raw|qcow2|qcow|qed|vmdk|cloop)$")
_CARD = re.compile(r"^[A-Za-z0-9_-]+$")
# Where it is and how big it is belong to a volume and are never sent for one that is there (a size is ignored, a
# storage would allocate another volume).
PLACES = ("storage", "volume", "size", "format", "import_from")


def parse_config(config: Mapping[str, Any]) -> State:
    """The answer of GET …/config → flat state. What is not set is not there; unknown keys keep their own name."""
    state: State = {}
    for key, raw in config.items():
        state.update(_parsed(str(key), raw))
    return {k: v for k, v in state.items() if not is_cleared(v)}


def _parsed(key: str, raw: Any) -> State:
    if key in _SCALAR_BY_KEY:
        field = _SCALAR_BY_KEY[key]
        return {field.name: field.observed(raw)}
    if bus_of(key) or key in (EFIDISK.key, TPM.key):
        return parse_drive(key, str(raw))
    if key.startswith("unused") and key[6:].isdecimal():
        return {key: str(raw).split(",", maxsplit=1)[0]}
    group = _group_at(key)
    if group is None:
        return {key: raw}
    return {f"{_place(group, key)}.{k}": v for k, v in parse_group(group, str(raw)).items()}


@lru_cache(maxsize=1024)
def _group_at(key: str) -> Group | None:
    return _GROUP_BY_KEY.get(key) or slots_of(SLOTTED, key)


def _place(group: Group, key: str) -> str:
    return key if group.slots else group.place


@lru_cache(maxsize=1024)
def bus_of(slot: str) -> str | None:
    """ "scsi3" → "scsi"; None for what is no slot for a disk."""
    found = re.fullmatch(r"(scsi|virtio|sata|ide)(\d+)", slot)
    return found[1] if found and int(found[2]) < BUSES[found[1]] and slot == f"{found[1]}{int(found[2])}" else None


def parse_group(group: Group, text: str) -> dict[str, Any]:
    """A property string → its fields in canonical form, by name."""
    lead = group.field(group.lead)
    try:
        parts = propstring.parse(text, lead.stored if lead else None)
    except ValueError:
        return {"value": text}
    if group.key == "net":
        parts = _card_first(parts)
    if group.key == "smbios1":
        parts = _from_base64(parts)
    return dict(_fields(group, parts))


def _fields(group: Group, parts: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for key, value in parts.items():
        field = group.by_key(key)
        yield (field.name, field.observed(value)) if field else (key, value)


def render_group(group: Group, values: Mapping[str, Any]) -> str:
    """The inverse of ``parse_group``; cleared fields are left out. Raises ValueError for what cannot be stored."""
    present = {k: v for k, v in values.items() if not is_cleared(v)}
    lead = group.field(group.lead)
    if lead and group.filled and lead.name not in present:
        present[lead.name] = lead.default
    parts = {_key(group, k): _encoded(group, k, v) for k, v in present.items()}
    if group.key == "smbios1":
        parts = _to_base64(parts)
    if group.key == "net":
        return _render_net(parts)
    return propstring.render(parts, lead.stored if lead else None, [f.stored for f in group.fields])


def _key(group: Group, name: str) -> str:
    field = group.field(name)
    return field.stored if field else name


def _encoded(group: Group, name: str, value: Any) -> Any:
    field = group.field(name)
    return field.encode(value) if field else value


def _card_first(parts: Mapping[str, str]) -> dict[str, str]:
    """ "virtio=BC:24:…" is a model with its address: {"model": "virtio", "macaddr": "BC:24:…"}."""
    cards = (SLOTTED[0].field("model") or Field("model")).choices
    card = next((k for k in parts if k in cards), None)
    if card is None:
        return dict(parts)
    return {"model": card, "macaddr": parts[card], **{k: v for k, v in parts.items() if k != card}}


def _render_net(parts: Mapping[str, Any]) -> str:
    model, mac = str(parts["model"]), parts.get("macaddr")
    rest = {k: v for k, v in parts.items() if k not in ("model", "macaddr")}
    head = f"{model}={mac}" if mac else model
    return ",".join(filter(None, (head, propstring.render(rest, None, [f.stored for f in SLOTTED[0].fields]))))


def _from_base64(parts: Mapping[str, str]) -> dict[str, str]:
    if parts.get("base64") != "1":
        return dict(parts)
    try:
        decoded = {k: base64.b64decode(v, validate=True).decode() for k, v in parts.items() if k not in _PLAIN_SMBIOS}
    except (binascii.Error, UnicodeDecodeError):
        return dict(parts)
    return {**({"uuid": parts["uuid"]} if "uuid" in parts else {}), **decoded}


def _to_base64(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Texts may hold commas, so they always go as base64; the identifier never does (QemuServer.pm smbios1_fmt)."""
    encoded = {k: base64.b64encode(str(v).encode()).decode() for k, v in parts.items() if k not in _PLAIN_SMBIOS}
    plain = {"uuid": parts["uuid"]} if "uuid" in parts else {}
    return {**plain, **encoded, **({"base64": 1} if encoded else {})}


_PLAIN_SMBIOS = ("uuid", "base64")


def drive_group(slot: str) -> Group:
    """The fields of a slot: those of a disk, of the EFI variables or of the TPM."""
    return {EFIDISK.key: EFIDISK, TPM.key: TPM}.get(slot, DRIVE)


def parse_drive(slot: str, text: str) -> State:
    """The drive in a slot → state: "scsi0.volume", "scsi0.size", …; the drive of cloud-init has keys of its own."""
    group = drive_group(slot)
    try:
        parts = propstring.parse(text, "file")
    except ValueError:
        return {f"{slot}.value": text}
    parts["volume"] = parts.pop("file", parts.get("volume", ""))
    volume = parts["volume"]
    if _CLOUD_INIT_VOLUME.match(volume):
        return {"cloud_init.slot": slot, "cloud_init.storage": storage_of(volume), "cloud_init.volume": volume}
    values = dict(_fields(group, parts))
    values["storage"] = storage_of(volume)
    if storage_of(volume) and values.get("media") != "cdrom":
        suffix = _SUFFIX.search(volume)
        values.setdefault("format", suffix[1] if suffix else "raw")
    place = group.name if group is not DRIVE else slot
    return {f"{place}.{k}": v for k, v in values.items()}


def storage_of(volume: str) -> str:
    """ "local:100/vm-100-disk-0.qcow2" → "local"; "" for "none", "cdrom" and paths."""
    storage, colon, _name = volume.partition(":")
    return storage if colon and not volume.startswith("/") else ""


def render_drive(slot: str, values: Mapping[str, Any]) -> str:
    """A drive whose volume exists: the volume and its options, without size or storage. Raises ValueError."""
    group = drive_group(slot)
    kept = {k: v for k, v in values.items() if k not in PLACES and not is_cleared(v)}
    return _drive(group, str(values["volume"]), kept)


def render_new_drive(slot: str, values: Mapping[str, Any]) -> str:
    """A drive to be made on ``storage``: of ``size``, or out of ``import_from``, or of its own size (EFI, TPM)."""
    group = drive_group(slot)
    kept = {k: v for k, v in values.items() if k not in PLACES and not is_cleared(v)}
    if values.get("format") and group is not TPM:
        kept["format"] = values["format"]
    source = values.get("import_from")
    amount = "0" if source else gib(values["size"]) if "size" in values else "1"
    extra = {"import-from": source} if source else {}
    return _drive(group, f"{values['storage']}:{amount}", {**kept, **extra})


def _drive(group: Group, head: str, values: Mapping[str, Any]) -> str:
    parts = {_key(group, k): _encoded(group, k, v) for k, v in values.items()}
    order = dict.fromkeys(["import-from", *(f.stored for f in group.fields)])
    return ",".join(filter(None, (head, propstring.render(parts, None, order))))


def gib(size: str) -> str:
    """ "8G" → "8", "512M" → "0.5": the unit in which Proxmox VE takes the size of a new volume (Drive.pm)."""
    with localcontext(prec=60):
        exact = Decimal(propstring.parse_size(size)) / 1024**3
    return f"{exact.normalize():f}"
