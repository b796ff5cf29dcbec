# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms of a guest's configuration: what is written can be read back, and normalising twice is normalising once."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import guest_codec as codec
from ansible_collections.pvelab.proxmox.plugins.module_utils.core import guest_want
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.guest_edit import edit
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.guest_fields import Field, Group
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.guest_table import (
    DRIVE,
    EFIDISK,
    GROUPS,
    SLOTTED,
    TPM,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.propstring import parse_size
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import plan
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure

WORD = st.text(string.ascii_letters + string.digits + "._-/+", min_size=1, max_size=8)
VALUES = {
    "str": WORD,
    "text": st.text(min_size=1, max_size=20).filter(lambda t: t.strip("\n\r") != ""),
    "int": st.integers(0, 10**6),
    "float": st.floats(0, 1000, allow_nan=False).map(lambda f: round(f, 3)),
    "bool": st.booleans(),
    "size": st.integers(1, 2**45).map(str),
    "mac": st.from_regex(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", fullmatch=True),
    "words": st.lists(WORD, min_size=1, max_size=3),
    "set": st.lists(WORD, min_size=1, max_size=3),
    "boot": st.lists(st.sampled_from(["scsi0", "net0", "ide2"]), min_size=1, max_size=3),
    "hotplug": st.sampled_from([["none"], ["disk"], ["network", "disk"], ["usb", "cpu", "memory", "cloudinit"]]),
    "ssh": st.lists(st.text(string.ascii_letters + string.digits + "+/=@ ", min_size=1).filter(str.strip), min_size=1),
}
FIELDS = [*(f for g in (*GROUPS, *SLOTTED, DRIVE) for f in g.fields), *codec.SCALARS]


def values_of(field: Field) -> st.SearchStrategy[Any]:
    return st.sampled_from(field.choices) if field.choices else VALUES[field.kind]


def usable(field: Field, value: Any) -> Any:
    """The canonical form, or None for a value that comes to nothing (a text of line breaks)."""
    return field.canonical(value) or None if field.kind in ("text", "ssh") else field.canonical(value)


@given(st.sampled_from(FIELDS).flatmap(lambda f: st.tuples(st.just(f), values_of(f))))
def test_a_value_survives_being_stored(pair: tuple[Field, Any]) -> None:
    field, value = pair
    once = field.canonical(value)
    assert field.canonical(once) == once
    if usable(field, value) is not None:
        assert field.canonical(field.encode(once)) == once


def group_states(group: Group) -> st.SearchStrategy[dict[str, Any]]:
    fields = {f.name: values_of(f).map(f.canonical) for f in group.fields}
    lead = {group.lead} if group.lead else {group.fields[0].name}
    return st.fixed_dictionaries(
        {k: v for k, v in fields.items() if k in lead}, optional={k: v for k, v in fields.items() if k not in lead}
    )


@given(
    st.sampled_from([*GROUPS, *SLOTTED]).flatmap(lambda g: st.tuples(st.just(g), group_states(g))),
)
def test_a_structured_option_survives_being_stored(pair: tuple[Group, dict[str, Any]]) -> None:
    group, values = pair
    text = codec.render_group(group, values)
    assert codec.parse_group(group, text) == values
    assert codec.render_group(group, codec.parse_group(group, text)) == text


OPTIONS_OF = {
    "scsi0": DRIVE,
    "efidisk0": EFIDISK,
    "tpmstate0": TPM,
}


@given(st.sampled_from(sorted(OPTIONS_OF)).flatmap(lambda s: st.tuples(st.just(s), group_states(OPTIONS_OF[s]))))
def test_a_drive_survives_being_stored(pair: tuple[str, dict[str, Any]]) -> None:
    slot, drawn = pair
    values = {k: v for k, v in drawn.items() if k not in codec.PLACES and (k, v) != ("media", "cdrom")}
    values["volume"] = "local:100/vm-100-disk-0.qcow2"
    state = codec.parse_drive(slot, codec.render_drive(slot, values))
    place = {"efidisk0": "efidisk", "tpmstate0": "tpm"}.get(slot, slot)
    expected = {**values, "storage": "local", "format": "qcow2"}
    assert state == {f"{place}.{k}": v for k, v in expected.items()}


@given(st.sampled_from(SLOTTED).flatmap(lambda g: st.tuples(st.just(g), group_states(g), group_states(g))))
def test_an_edit_carried_out_leaves_nothing_to_edit(drawn: tuple[Group, dict[str, Any], dict[str, Any]]) -> None:
    group, before, after = drawn
    slot = f"{group.key}0"
    have = codec.parse_config({slot: codec.render_group(group, before)})
    want = {f"{slot}.{k}": v for k, v in after.items()}
    made = edit(plan(want, have).changes, want, have)
    done = codec.parse_config(made.set) if made.set else have
    assert plan(want, guest_want.as_seen(want, done)).empty
    kept = {k: v for k, v in have.items() if k not in want}
    assert {k: v for k, v in done.items() if k in kept} == kept


@given(st.integers(1, 2**44).map(lambda k: k * 1024))
def test_the_size_of_a_new_volume_is_exact(size: int) -> None:
    assert round(float(codec.gib(str(size))) * 1024**3) == size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("virtio=bc:24:11:00:00:01,bridge=vmbr0", {"model": "virtio", "mac": "BC:24:11:00:00:01", "bridge": "vmbr0"}),
        ("model=e1000,macaddr=BC:24:11:00:00:01", {"model": "e1000", "mac": "BC:24:11:00:00:01"}),
        ("rtl8139", {"model": "rtl8139"}),
    ],
)
def test_every_way_to_write_a_network_card_is_read(text: str, expected: dict[str, str]) -> None:
    assert codec.parse_group(SLOTTED[0], text) == expected


@pytest.mark.parametrize(
    ("config", "state"),
    [
        ({"hotplug": "1"}, {"hotplug": ["disk", "network", "usb"]}),
        ({"hotplug": "0"}, {"hotplug": ["none"]}),
        ({"boot": "cdn"}, {"boot": ["legacy=cdn"]}),
        ({"smbios1": "manufacturer=QWNtZQ==,base64=1"}, {"smbios.manufacturer": "Acme"}),
        ({"smbios1": "manufacturer=Acme"}, {"smbios.manufacturer": "Acme"}),
        ({"agent": "1,guest-fsfreeze=0"}, {"agent.enabled": True, "agent.freeze_fs": False}),
        ({"ide0": "/d.raw,iops_rd_length=5"}, {"ide0.volume": "/d.raw", "ide0.iops_rd_max_length": 5}),
        ({"ide0": "a:1/d.vmdk"}, {"ide0.volume": "a:1/d.vmdk", "ide0.storage": "a", "ide0.format": "vmdk"}),
        ({"scsi0": "/dev/sdb,size=1T"}, {"scsi0.volume": "/dev/sdb", "scsi0.size": "1T"}),
        ({"sata1": "lvm:vm-7-cloudinit"},
         {"cloud_init.slot": "sata1", "cloud_init.storage": "lvm", "cloud_init.volume": "lvm:vm-7-cloudinit"}),
        ({"net0": "virtio,,=,x"}, {"net0.value": "virtio,,=,x"}),
        ({"memory": "much", "shiny": 7}, {"memory": "much", "shiny": 7}),
        ({"unused3": "local:1/d.raw,size=1G"}, {"unused3": "local:1/d.raw"}),
    ],
)  # fmt: skip
def test_what_a_node_shows_is_read(config: dict[str, Any], state: dict[str, Any]) -> None:
    assert codec.parse_config(config) == state


def test_every_key_of_the_state_can_be_unset_by_its_name() -> None:
    for field in codec.SCALARS:
        assert list(guest_want.clearable(field.name)) == [field.name]
        assert list(guest_want.clearable(field.stored)) == [field.name]
    for group in (g for g in GROUPS if not g.prefix):
        for field in group.fields:
            assert list(guest_want.clearable(f"{group.name}.{field.name}")) == [f"{group.name}.{field.name}"]
    for group in SLOTTED:
        assert f"{group.key}0.{group.fields[0].name}" in guest_want.clearable(f"{group.key}0")


def test_a_disk_grows_and_never_shrinks() -> None:
    have = codec.parse_config({"scsi0": "local:100/vm-100-disk-0.raw,size=8G"})
    assert edit(["scsi0.size"], {"scsi0.size": "9G"}, have).resizes == [("scsi0", "9G")]
    with pytest.raises(Failure, match="scsi0 is 8G and cannot be shrunk to 7G"):
        edit(["scsi0.size"], {"scsi0.size": "7G"}, have)
    assert parse_size("9G") > parse_size("8G")
