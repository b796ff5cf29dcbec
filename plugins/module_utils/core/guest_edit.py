# SPDX-License-Identifier: GPL-3.0-or-later
"""From what differs to what has to be sent: the parameters of one change of a guest's configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .guest_codec import PLACES, SCALARS, drive_group, render_drive, render_group, render_new_drive
from .guest_fields import Field
from .guest_table import DRIVE, EFIDISK, TPM
from .guest_want import group_at
from .propstring import parse_size
from .state import State, is_cleared
from .steps import Failure

UNKNOWN = "(made by the node)"
"""What a new guest will have and nobody knows before it is there: the volumes of a clone, the UUID of the machine."""

CLOUD_INIT_SLOT = "ide2"
_SCALARS = {f.name: f for f in (*SCALARS, Field("name"))}
_FIXED = {
    "efidisk.efitype": "it is a property of the variables in the volume",
    "efidisk.pre_enrolled_keys": "it is a property of the variables in the volume",
    "tpm.version": "Proxmox VE refuses it for a TPM that has state",
}


@dataclass
class Edit:
    """What to send. ``set`` and ``delete`` go into one request; then the moves, then the resizes.

    ``frees`` are volumes that Proxmox VE deletes ({"unused0": volume}). ``allocates``: new volumes are made, which
    may take long. ``later``: something can be said only when these are done, so another round is needed.
    """

    set: dict[str, Any] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    moves: list[dict[str, Any]] = field(default_factory=list)
    resizes: list[tuple[str, str]] = field(default_factory=list)
    frees: dict[str, str] = field(default_factory=dict)
    allocates: bool = False
    later: bool = False


def edit(changed: Iterable[str], want: Mapping[str, Any], have: Mapping[str, Any]) -> Edit:
    """The edit that brings ``have`` to ``want`` in the ``changed`` keys. Raises Failure for what cannot be done."""
    made = Edit()
    after = {**have, **{k: v for k, v in want.items() if v is not None}}
    places: set[str] = set()
    for key in sorted(changed):
        group = group_at(key)
        if key in _SCALARS:
            _edit_scalar(made, _SCALARS[key], after[key])
        elif key.startswith("unused"):
            made.frees[key] = str(have[key])
        elif key in ("cloud_init.storage", "cloud_init.slot", "cloud_init.volume"):
            places.add("cloud_init")
        elif group is not None:
            places.add(key.rpartition(".")[0])
    for place in sorted(places):
        _edit_place(made, place, after, have)
    return made


def _edit_scalar(made: Edit, field_: Field, value: Any) -> None:
    if is_cleared(value):
        made.delete.append(field_.stored)
    else:
        made.set[field_.stored] = field_.encode(value)


def _edit_place(made: Edit, place: str, after: State, have: Mapping[str, Any]) -> None:
    if place == "cloud_init":
        _edit_cloud_drive(made, after, have)
        return
    group = group_at(f"{place}.")
    if group is None:
        raise Failure(f"{place} is no place of a guest's configuration, which is a bug.")
    values = under(place, after)
    if group in (DRIVE, EFIDISK, TPM):
        _edit_drive(made, place, values, under(place, have))
        return
    key = place if group.slots else group.key
    if UNKNOWN in values.values():
        made.later = True
        return
    if not any(group.field(name) for name in values):
        made.delete.append(key)
        return
    made.set[key] = _stored(key, render_group, group, values)


def under(place: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The fields at one place of a state, without those that are cleared."""
    start = f"{place}."
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start) and not is_cleared(v)}


def _stored(key: str, render: Any, what: Any, values: Mapping[str, Any]) -> str:
    try:
        return str(render(what, values))
    except ValueError as error:
        raise Failure(f"{key}: {error}.") from None


def _edit_drive(made: Edit, place: str, then: dict[str, Any], now: Mapping[str, Any]) -> None:
    slot = _slot_of(place)
    if not now.get("volume"):
        _add_drive(made, slot, then)
    elif is_cleared(then.get("volume")):
        made.delete.append(slot)
    elif then["volume"] != now["volume"]:
        made.set[slot] = _stored(slot, render_drive, slot, then)
    else:
        _change_drive(made, place, then, now)


def _slot_of(place: str) -> str:
    return {EFIDISK.name: EFIDISK.key, TPM.name: TPM.key}.get(place, place)


def _add_drive(made: Edit, slot: str, then: dict[str, Any]) -> None:
    if then.get("volume"):
        made.set[slot] = _stored(slot, render_drive, slot, then)
        return
    needed = "size" if drive_group(slot) is DRIVE else "storage"
    if not then.get("storage") or not (then.get(needed) or then.get("import_from")):
        raise Failure(
            f"there is nothing in {slot} yet, and the task does not say what to put there. "
            "Give storage and size for a new disk, storage and import_from for one made of an image, "
            "or volume for one that exists."
        )
    made.set[slot] = _stored(slot, render_new_drive, slot, then)
    made.allocates = True
    if then.get("import_from") and then.get("size"):
        made.resizes.append((slot, str(then["size"])))


def _change_drive(made: Edit, place: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    slot = _slot_of(place)
    differs = {k for k in {*then, *now} if then.get(k) != now.get(k)}
    for key in differs & {k.partition(".")[2] for k in _FIXED if k.startswith(f"{place}.")}:
        _refuse_fixed(f"{place}.{key}", now.get(key), then.get(key))
    if differs & {"storage", "format"}:
        form = then.get("format") if "format" in differs else None
        made.moves.append({"disk": slot, "storage": then["storage"], "format": form, "delete": 1})
    if "size" in differs:
        made.resizes.append((slot, _grown(slot, str(now.get("size", "0")), str(then["size"]))))
    if differs - set(PLACES):
        if (made.moves and made.moves[-1]["disk"] == slot) or now["volume"] == UNKNOWN:
            made.later = True
        else:
            made.set[slot] = _stored(slot, render_drive, slot, then)


def _refuse_fixed(key: str, now: Any, then: Any) -> None:
    if not is_cleared(now):
        raise Failure(
            f"{key} is {now} and cannot become {then}: {_FIXED[key]}. "
            f"Remove the device with unset: [{key.partition('.')[0]}] and add it again."
        )


def _grown(slot: str, now: str, then: str) -> str:
    if parse_size(then) < parse_size(now):
        raise Failure(
            f"{slot} is {now} and cannot be shrunk to {then}: Proxmox VE only grows disks, since shrinking loses data. "
            f"Ask for {now} or more, or add a smaller disk and copy inside the guest."
        )
    return then


def _edit_cloud_drive(made: Edit, after: Mapping[str, Any], have: Mapping[str, Any]) -> None:
    now = have.get("cloud_init.slot")
    storage = after.get("cloud_init.storage")
    slot = str(after.get("cloud_init.slot") or CLOUD_INIT_SLOT)
    if is_cleared(storage):
        if now is None:
            raise Failure("cloud_init.slot says where the drive of cloud-init goes; say cloud_init.storage, too.")
        made.delete.append(str(now))
        return
    if now is not None and now != slot:
        made.delete.append(str(now))
        made.later = True
        return
    if have.get(f"{slot}.volume"):
        raise Failure(
            f"{slot} holds {have[f'{slot}.volume']}, so the drive of cloud-init cannot go there. "
            "Name a free slot with cloud_init.slot, or unset that one first."
        )
    made.set[slot] = f"{storage}:cloudinit"
    made.allocates = True


def is_cloud_init(keys: Iterable[str]) -> bool:
    """True when one of the keys ends up on the drive of cloud-init."""
    return any(k.startswith(("cloud_init.", "ipconfig")) for k in keys)
