# SPDX-License-Identifier: GPL-3.0-or-later
"""Every parameter with which Proxmox VE makes a guest is an option of the module vm, or left out for a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import guest_codec as codec
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.guest_fields import Field, Group
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.guest_table import BUSES, DRIVE, GROUPS, SLOTTED
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.guest_want import options
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_resource import OPTIONS
from ansible_collections.pvelab.proxmox.tests.contract.schema import parameters

# What is no property of a guest, and where it is to be had.
LEFT_OUT = {
    "archive": "restoring a backup is a verb; it makes a guest out of something else",
    "bootdisk": "the old way to say boot",
    "cdrom": "another name of ide2, which is a slot of disks",
    "force": "overwrites a guest by a backup",
    "ha-managed": "high availability is a resource of its own",
    "live-restore": "a way to restore a backup",
    "lock": "a lock belongs to the task that holds it",
    "smp": "the old way to say sockets",
    "start": "status: running says it, at any time",
    "storage": "each disk says its storage",
    "template": "pvelab.proxmox.template",
    "unique": "a way to restore a backup",
    "unused[n]": "written by the node; unset removes one",
}
OWN = {"vmid": "vmid", "name": "name", "node": "node", "pool": "pool", "bwlimit": "bwlimit",
       "import-working-storage": "import_working_storage"}  # fmt: skip
# Keys of a property string that are other names of one, or that only inform.
NOT_FIELDS = {"size", "keyAlias"}
# SMBIOS texts are always sent in base64; host-tunnel came after 9.1, and such keys are carried along unseen.
WITHOUT_FIELD = {"smbios1": {"base64"}, "net[n]": {"host-tunnel"}}


SCHEMA = parameters("POST", "/nodes/{node}/qemu")
SCALARS = {f.stored: f for f in codec.SCALARS}
SINGLE = {g.key: g for g in (*GROUPS, *codec.SINGLE_DRIVES)}
NUMBERED = {f"{g.key}[n]": g for g in SLOTTED} | {f"{bus}[n]": DRIVE for bus in BUSES}


@pytest.mark.parametrize("key", sorted(SCHEMA))
def test_each_parameter_is_an_option_or_left_out_for_a_reason(key: str) -> None:
    places = [key in LEFT_OUT, key in OWN, key in SCALARS, key in SINGLE, key in NUMBERED]
    assert places.count(True) == 1
    if key in OWN:
        assert OWN[key] in OPTIONS


def test_nothing_is_left_out_that_does_not_exist() -> None:
    assert {*LEFT_OUT, *OWN} <= set(SCHEMA)
    assert {*SCALARS, *SINGLE, *NUMBERED} <= set(SCHEMA)


def groups() -> list[tuple[str, Group]]:
    return sorted({**SINGLE, **NUMBERED}.items())


def keys_of(parameter: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of a property string: from its format, or from how the schema writes it out."""
    if isinstance(parameter.get("format"), dict):
        keys = {k: v for k, v in parameter["format"].items() if k not in NOT_FIELDS and not v.get("keyAlias")}
        return {k: v for k, v in keys.items() if "alias" not in v}
    return {k: {} for k in re.findall(r"([a-z][a-z0-9_-]*)=", parameter.get("typetext", ""))}


@pytest.mark.parametrize(("key", "group"), groups(), ids=[k for k, _g in groups()])
def test_each_key_of_a_property_string_is_a_field(key: str, group: Group) -> None:
    assert {k for k in keys_of(SCHEMA[key]) if group.by_key(k) is None} <= WITHOUT_FIELD.get(key, set())


def facts_of(field: Field, described: dict[str, Any]) -> dict[str, Any]:
    """What schema and table both say of a value, in the table's terms."""
    facts: dict[str, Any] = {}
    if "enum" in described:
        facts["choices"] = sorted(str(c) for c in described["enum"])
    if "default" in described and field.default is not None:
        facts["default"] = field.canonical(described["default"])
    return facts


def test_choices_and_defaults_are_those_of_the_schema() -> None:
    pairs = [(k, f, SCHEMA[k]) for k, f in SCALARS.items()]
    pairs += [(f"{k}.{n}", g.by_key(n), d) for k, g in groups() for n, d in keys_of(SCHEMA[k]).items() if g.by_key(n)]
    for where, field, described in pairs:
        assert field is not None
        ours = {"choices": sorted(field.choices), "default": field.default}
        assert {k: v for k, v in ours.items() if k in facts_of(field, described)} == facts_of(field, described), where


def test_the_argument_specification_has_all_of_it() -> None:
    assert set(options()) <= set(OPTIONS)
    for bus in BUSES:
        assert set(keys_of(SCHEMA[f"{bus}[n]"])) <= {f.stored for f in DRIVE.fields} | {"file"}
