# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts behind the modules for storages, snapshots, images and nodes: what holds for every input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import images, nodes, storages
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.snapshots import (
    Listing,
    check_name,
    disks,
    newest_only,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Missing

WORD = st.from_regex(r"[a-z][a-z0-9./-]{0,8}", fullmatch=True)
COUNT = st.integers(0, 99)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "content": st.lists(st.sampled_from(storages.CONTENT)),
    "nodes": st.lists(WORD),
    "content-dirs": st.dictionaries(WORD, WORD),
    "prune-backups": st.fixed_dictionaries({}, optional={k.replace("-", "_"): COUNT for k in storages.PRUNE}),
    "bwlimit": st.fixed_dictionaries({}, optional={k: st.floats(0, 1e6) for k in storages.LIMITS}),
    "disable": st.booleans(),
    "mkdir": st.booleans(),
    "port": st.integers(1, 65535),
    "path": WORD,
    "fingerprint": st.from_regex(r"[0-9a-fA-F:]{4}", fullmatch=True),
}


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda key: st.tuples(st.just(key), VALUES[key])))
def test_what_is_sent_reads_back_as_what_was_wanted(pair: tuple[str, Any]) -> None:
    key, value = pair
    once = storages.canonical(key, value)
    assert storages.canonical(key, storages.rendered(key, once)) == once


@given(st.sampled_from(sorted(storages.TYPES)))
def test_a_definition_without_settings_has_the_defaults_of_its_type(kind: str) -> None:
    state = storages.observed({"storage": "x", "type": kind}, resend_secrets=True)
    flags = {k for k in storages.TYPES[kind].keys if storages.KINDS[k] in (storages.FALSE, storages.TRUE)}
    assert flags <= state.keys()
    assert all(state[k] is (k in ("mkdir", "create-base-path", "create-subdirs")) for k in flags)


def test_a_storage_of_another_type_can_still_be_read() -> None:
    state = storages.observed({"storage": "c", "type": "rbd", "pool": "p", "krbd": 1}, resend_secrets=False)
    assert state == {"type": "rbd", "pool": "p", "krbd": 1, "disable": False, "shared": False}


NAMES = st.lists(st.from_regex(r"[ab]-[0-9]{1,3}", fullmatch=True), unique=True, max_size=12)


@given(NAMES, st.integers(1, 5), st.one_of(st.none(), st.sampled_from(["a-new", "b-new", "other"])))
def test_retention_keeps_the_newest_of_its_series_and_all_of_the_others(
    names: list[str], keep: int, coming: str | None
) -> None:
    entries = [{"name": n, "snaptime": i // 2, "parent": names[i - 1] if i else ""} for i, n in enumerate(names)]
    listing = Listing.of([*reversed(entries), {"name": "current"}])
    assert listing.names == names, "the chain orders those of the same second"
    given_up = listing.surplus("a-*", keep, coming)
    series = [n for n in names if n.startswith("a-")] + ([coming] if coming == "a-new" else [])
    assert given_up == series[: max(0, len(series) - keep)]
    assert coming not in given_up
    assert listing.retained("a-*", keep, coming) == sorted(series[-keep:])


def test_a_chain_of_snapshots_that_bites_its_tail_is_still_listed() -> None:
    listing = Listing.of([{"name": "a1", "parent": "b1"}, {"name": "b1", "parent": "a1"}, {"name": "current"}])
    assert sorted(listing.names) == ["a1", "b1"]


@pytest.mark.parametrize("name", ["", "a", "1a", "a b", "current", "a" * 41, "ä1"])
def test_names_that_proxmox_refuses_are_refused(name: str) -> None:
    with pytest.raises(Failure, match="cannot name a snapshot"):
        check_name(name)


def test_disks_are_what_a_snapshot_holds() -> None:
    config = {
        "scsi0": "local:100/vm-100-disk-0.qcow2,size=8G",
        "efidisk0": "file=tank:vm-100-disk-1,size=4M",
        "ide2": "local:iso/d.iso,media=cdrom",
        "sata1": "none,media=cdrom",
        "scsihw": "virtio-scsi-single",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    }
    assert disks(config) == {"scsi0": "local:100/vm-100-disk-0.qcow2", "efidisk0": "tank:vm-100-disk-1"}
    kinds = [
        {"storage": "local", "type": "dir"},
        {"storage": "tank", "type": "zfspool"},
        {"storage": "z", "type": "zfs"},
    ]
    assert newest_only(disks(config).values(), kinds) == ["tank"]


@given(st.text(min_size=1, max_size=40))
def test_a_file_name_is_what_the_node_will_make_of_it(text: str) -> None:
    params = {"filename": f"{text}.iso", "src": None, "url": None}
    name = images.file_name(params)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert images.file_name({**params, "filename": name}) == name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("debian.iso", "iso"), ("disk.IMG", "iso"), ("cloud.qcow2", "import"), ("appliance.ova", "import"),
        ("debian-12.tar.zst", "vztmpl"), ("debian-12.tar", "vztmpl"),
    ],
)  # fmt: skip
def test_the_ending_tells_the_content(name: str, content: str) -> None:
    assert images.content_of(name, None) == images.content_of(name, content) == content


def test_a_storage_that_is_not_mounted_takes_nothing() -> None:
    with pytest.raises(Missing, match="not active"):
        images.check_storage("nas", "iso", {"content": "iso", "enabled": 1, "active": 0, "avail": 1}, None)


@given(st.integers(0, 2**60))
def test_sizes_are_short(size: int) -> None:
    text = images.human(size)
    assert text.endswith("B") and len(text) <= 12


def test_a_task_that_runs_has_no_end() -> None:
    running = nodes.task({"upid": "UPID:x", "status": "running", "starttime": 1})
    assert (running["running"], running["ok"], running["exitstatus"], running["end_epoch_s"]) == (True, False, "", None)
    failed = nodes.task({"upid": "UPID:x", "status": "stopped", "exitstatus": "disk full", "starttime": 1})
    assert (failed["running"], failed["ok"]) == (False, False)
