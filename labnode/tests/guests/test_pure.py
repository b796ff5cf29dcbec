# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file, property strings and pending changes, as properties and as recorded facts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnode.errors import ApiError
from labnode.guests import configfile, drive, options, pending, snapshot, values
from labnode.guests.configfile import GuestConfig
from labnode.guests.create import CONTROL
from labnode.guests.propstring import PropertyError, format_size, parse_size
from labnode.schema.table import table

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).map(str.strip).filter(bool)
WORD = st.from_regex(r"[a-z0-9][a-z0-9._\-]{0,10}", fullmatch=True)
KEYS = st.sampled_from(["name", "memory", "ostype", "args", "net0", "net31", "machine", "cpu", "hookscript", "startup"])
SECTION = st.dictionaries(KEYS, TEXT, max_size=6)
DESCRIPTION = st.text(max_size=60).map(lambda s: "\n".join(s.splitlines()).strip()).filter(bool)
SNAP = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_\-]{1,8}", fullmatch=True).filter(
    lambda s: s.lower() not in ("pending", "current")
)


@given(SECTION, SECTION, st.dictionaries(SNAP, SECTION, max_size=3), st.none() | DESCRIPTION)
def test_a_configuration_survives_being_written_and_read(main, waiting, snaps, description):
    if description:
        main = {**main, "description": description}
    conf = GuestConfig(main, waiting, snaps)
    text = configfile.render(conf)
    again = configfile.parse(text)
    assert (again.main, again.pending, again.snapshots) == (main, waiting, snaps)
    assert configfile.render(again) == text


@given(st.integers(0, 1 << 50))
def test_sizes_survive(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(2684354560, "2560M"), (1 << 30, "1G"), (0, "0T"), (1 << 40, "1T"), (1000, "1000"), (540672, "528K")],
)
def test_sizes_take_the_largest_whole_unit(size, text):
    assert format_size(size) == text


@given(
    st.sampled_from(sorted(values.NIC_MODELS)),
    WORD,
    st.dictionaries(st.sampled_from(["tag", "rate", "mtu", "queues"]), st.integers(1, 99).map(str)),
    st.permutations(range(4)),
)
def test_a_nic_is_rewritten_to_the_same_text_whatever_its_order(model, bridge, more, order):
    parts = [f"{model}=BC:24:11:00:00:01", f"bridge={bridge}", *(f"{k}={v}" for k, v in more.items())]
    shuffled = [parts[i] for i in order if i < len(parts)] + parts[len(order) :]
    assert values.with_mac(",".join(shuffled)) == values.with_mac(",".join(parts))
    assert values.with_mac(",".join(parts)).startswith(f"{model}=BC:24:11:00:00:01,bridge={bridge}")


def test_a_nic_is_written_as_recorded():
    text = "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=20,firewall=1"
    assert values.with_mac(text) == "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1,tag=20"


def test_a_nic_without_a_mac_gets_another_every_time():
    found = {values.with_mac("virtio,bridge=vmbr0") for _ in range(20)}
    assert len(found) == 20
    assert all(re.fullmatch(r"virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=vmbr0", text) for text in found)
    assert values.random_mac("02:AA").startswith("02:AA:") and len(values.random_mac("02:AA")) == 17


@given(
    st.sampled_from(["scsi0", "virtio3", "sata1", "ide0"]),
    WORD,
    st.none() | st.integers(1, 1 << 44),
    st.dictionaries(
        st.sampled_from(["ssd", "iothread", "backup", "discard", "cache"]), st.sampled_from(["on", "yes", "1"])
    ),
)
def test_a_drive_survives_being_written_and_read(key, name, size, more):
    text = ",".join([f"local:100/{name}", *(f"{k}={v}" for k, v in more.items()), *([f"size={size}"] if size else [])])
    first = drive.parse_drive(key, text)
    assert first.size == size
    assert drive.parse_drive(key, str(first)) == first
    assert str(drive.parse_drive(key, str(first))) == str(first)


@pytest.mark.parametrize(
    "text",
    ["media=cdrom", "local:1,format=qcow2,media=cdrom", "local:x,mbps=1,mbps_rd=1", "local:x,iops_max_length=2", "a,a"],
)
def test_drives_that_make_no_sense_are_refused(text):
    with pytest.raises(PropertyError):
        drive.parse_drive("scsi0", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local:32", ("local", 32.0)),
        ("local:0.5", ("local", 0.5)),
        ("8", (None, 8.0)),
        ("local:100/x.raw", None),
        ("none", None),
    ],
)
def test_the_allocating_form(text, expected):
    assert drive.parse_drive("scsi0", text).new_disk == expected


def test_boot_order_default_takes_first_disk_disc_and_nic():
    conf = {
        "scsi1": "local:100/a.raw",
        "virtio0": "local:100/b.raw",
        "ide2": "none,media=cdrom",
        "net1": "virtio=x",
        "net2": "x",
    }
    assert drive.render_boot_order(drive.default_boot(conf)) == "order=scsi1;ide2;net1"
    assert drive.default_boot({}) == []


def test_tags_of_a_change():
    assert values.unique_tags("Web;prod,blue web") == "blue;prod;web"
    assert values.unique_tags("Web;prod", case_sensitive=True, keep_order=True) == "Web;prod"


@given(st.dictionaries(KEYS, TEXT, max_size=5), st.dictionaries(KEYS, TEXT, max_size=5), st.sets(KEYS, max_size=3))
def test_pending_changes_merge_and_clean_up(main, waiting, gone):
    conf = GuestConfig(dict(main), {k: v for k, v in waiting.items() if k not in gone})
    for key in gone:
        pending.add_delete(conf, key, force=key == "name")
    after = pending.merged(conf)
    assert not gone & set(after)
    pending.cleanup(conf)
    assert pending.merged(conf) == after
    assert all(conf.main.get(k) != v for k, v in conf.pending.items())
    assert not pending.cleanup(conf)
    assert pending.deletes(conf) == {k: k == "name" for k in gone if k in main}


def test_pending_listing():
    conf = GuestConfig({"cores": "2", "memory": "128", "net1": "x"}, {"memory": "192", "vcpus": "1"}, digest="d")
    pending.add_delete(conf, "net1", force=True)
    assert pending.listing(conf) == [
        {"key": "cores", "value": 2},
        {"key": "memory", "value": "128", "pending": "192"},
        {"key": "net1", "value": "x", "delete": 2},
        {"key": "digest", "value": "d"},
        {"key": "vcpus", "pending": 1},
    ]


def test_attached_volumes_are_not_unused():
    conf = GuestConfig({"scsi0": "local:100/a.raw,size=1G", "unused0": "local:100/a.raw", "unused1": "local:100/b.raw"})
    assert "unused0" not in configfile.render(conf)
    assert "unused1: local:100/b.raw" in configfile.render(conf)


def test_special_cloudinit_goes_with_the_drive():
    conf = GuestConfig({"ide2": "local:100/vm-100-cloudinit.qcow2,media=cdrom"}, special={"cloudinit": {"ciuser": "a"}})
    assert "[special:cloudinit]\nciuser: a" in configfile.render(conf)
    del conf.main["ide2"]
    assert "special" not in configfile.render(conf)


@pytest.mark.parametrize(
    ("key", "privilege"),
    [
        ("cores", "VM.Config.CPU"),
        ("numa0", "VM.Config.CPU"),
        ("net3", "VM.Config.Network"),
        ("args", options.ROOT),
        ("lock", options.ROOT),
        ("scsi0", None),
        ("tags", None),
        ("sshkeys", "VM.Config.Cloudinit"),
        ("name", "VM.Config.Options"),
        ("boot", "VM.Config.Disk"),
    ],
)
def test_privileges(key, privilege):
    assert options.exists(key)
    assert options.privilege(key) == privilege


def test_options_that_do_not_exist():
    assert not any(options.exists(key) for key in ("nosuchkey", "scsi31", "net32", "net01", "ide4", "unused256"))


@pytest.mark.parametrize(
    ("text", "expected"), [("2", (2, None, None)), ("order=2,up=10,down=20", (2, 10, 20)), ("down=5", (None, None, 5))]
)
def test_startup(text, expected):
    found = values.startup({"startup": text})
    assert (found.order, found.up, found.down) == expected


def test_agent_and_hotplug():
    assert values.agent({"agent": "1"}) == {"enabled": "1"}
    assert values.agent({"agent": "enabled=0,fstrim_cloned_disks=1"}) == {}
    assert values.hotplug_features({}) == {"network", "disk", "usb"}
    assert values.hotplug_features({"hotplug": "0"}) == frozenset()


def test_every_option_of_the_schema_is_known_with_its_type():
    facts = table().method("POST", "/nodes/{node}/qemu").params
    for name, fact in facts.items():
        if name in CONTROL:
            continue
        for key in [name.replace("[n]", "0")]:
            assert options.exists(key), key
            assert (fact.get("type") == "boolean") == (key in options.BOOLEANS), key
            assert (fact.get("type") == "integer") == (key in options.INTEGERS), key


@pytest.mark.parametrize("value", ["a\nargs: -S", "a\rargs: -S"])
def test_no_value_becomes_a_second_line(value):
    with pytest.raises(ApiError, match="unable to parse value of 'ciuser' - property contains a line feed"):
        configfile.render(GuestConfig({"ciuser": value}))


def test_lines_that_are_no_setting_are_dropped():
    conf = configfile.parse("cores: 2\nnosuch: 1\ndelete: x\n[PENDING]\ndelete: cores\n[snap]\nsnapstate: prepare\n")
    assert conf.main == {"cores": "2"}
    assert conf.pending == {"delete": "cores"}
    assert conf.snapshots == {"snap": {"snapstate": "prepare"}}


def test_snapshots_of_one_second_are_listed_by_their_chain():
    chain = {name: {"snaptime": "7", **({"parent": parent} if parent else {})}
             for name, parent in (("a", "c"), ("b", ""), ("c", "b"))}  # fmt: skip
    conf = GuestConfig({"parent": "a"}, snapshots={**chain, "old": {"snaptime": "6", "parent": "a"}})
    rows = snapshot.listing(conf, running=False)
    assert [row["name"] for row in rows] == ["a", "c", "b", "old", "current"]
