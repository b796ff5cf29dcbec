# SPDX-License-Identifier: GPL-3.0-or-later
"""storage.cfg: what a definition may say, and what becomes of storages that are not there."""

from __future__ import annotations

import pytest

from labnode.errors import ApiError, ParamError
from labnode.storage import StorageService
from labnode.storage.definitions import changed_definition, new_definition
from labnode.storage.kinds import KINDS
from labnode.storage.model import Definition
from labnode.store import Store


@pytest.fixture
def storage(tmp_path):
    return StorageService(Store(tmp_path), "pve1")


def put(storage, *definitions: Definition) -> None:
    storage.config.write({item.storeid: item for item in definitions})


def test_local_is_always_there(storage):
    assert list(storage.definitions()) == ["local"]
    assert storage.definition("local").options["path"].endswith("/storage/local")


def test_definitions_survive_writing_and_reading(storage):
    made = new_definition(
        "pool1", "dir", {"path": "/srv/pool1/", "content": "iso images", "disable": True, "shared": False}
    )
    put(storage, made)
    found = storage.definition("pool1")
    assert found.options == {"path": "/srv/pool1", "content": "images,iso", "disable": "1", "shared": "0"}
    assert not found.enabled
    shown = storage.config.shown(found)
    assert (shown["disable"], shown["shared"], shown["type"], len(shown["digest"])) == (1, 0, "dir", 40)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_has_its_required_keys(kind):
    required = [k for k in (*KINDS[kind].fixed, *KINDS[kind].required) if k not in KINDS[kind].optional]
    given = {key: "/x" for key in required}
    for missing in required:
        if missing == "path" and KINDS[kind].mount:
            continue
        with pytest.raises(ApiError, match=f"missing value for required option '{missing}'"):
            new_definition("s1", kind, {k: v for k, v in given.items() if k != missing})
    made = new_definition("s1", kind, given)
    for key in KINDS[kind].fixed:
        with pytest.raises(ApiError, match=f"can't change value of fixed parameter '{key}'"):
            changed_definition(made, {key: "/y"}, [])
    with pytest.raises(ParamError) as wrong:
        new_definition("s1", kind, {**given, "nosuch": "1"})
    assert wrong.value.errors == {"nosuch": "unexpected property 'nosuch'"}


@pytest.mark.parametrize(
    ("delete", "params", "text"),
    [
        (["nosuch"], {}, "no such option 'nosuch'"),
        (["path"], {}, "unable to delete required option 'path'"),
        (["snapshot-as-volume-chain"], {}, "unable to delete fixed option"),
        (["nodes"], {"nodes": "a"}, "cannot set and delete property 'nodes'"),
    ],
)
def test_deletions_that_are_refused(delete, params, text):
    made = new_definition("s1", "dir", {"path": "/x"})
    with pytest.raises(ApiError, match=text):
        changed_definition(made, params, delete)


def test_content_a_type_cannot_hold_is_left_out():
    assert (
        new_definition("s1", "lvmthin", {"vgname": "v", "thinpool": "t", "content": "iso,images"}).options["content"]
        == "images"
    )
    with pytest.raises(ApiError, match="does not support content type 'none'"):
        new_definition("s1", "lvmthin", {"vgname": "v", "thinpool": "t", "content": "iso"})
    with pytest.raises(ApiError, match="unable to combine 'none'"):
        new_definition("s1", "dir", {"path": "/x", "content": "none,iso"})


def test_network_file_systems_have_a_place():
    assert new_definition("share", "nfs", {"server": "192.0.2.1", "export": "/e"}).options["path"] == "/mnt/pve/share"


def test_secrets_are_not_shown(storage):
    made = new_definition("share", "cifs", {"server": "192.0.2.1", "share": "s", "password": "hush"})
    assert "password" not in storage.config.shown(made)


async def test_a_storage_that_cannot_be_used_says_why(storage, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    put(
        storage,
        Definition("off", "dir", {"path": "/x", "disable": "1"}),
        Definition("else", "dir", {"path": "/x", "nodes": "pve9"}),
        Definition("blocked", "dir", {"path": f"{file}/below"}),
        Definition("away", "dir", {"path": str(tmp_path / "away"), "create-base-path": "0"}),
        Definition("unmounted", "dir", {"path": str(tmp_path), "is_mountpoint": "yes"}),
        Definition("share", "nfs", {"path": "/mnt/pve/share", "server": "127.0.0.1", "port": "1", "export": "/e"}),
        Definition("thin", "lvmthin", {"vgname": "nosuchvg", "thinpool": "data"}),
        Definition("far", "rbd", {"pool": "rbd"}),
    )
    for name, text in {
        "off": "storage 'off' is disabled",
        "else": "storage 'else' is not available on node 'pve1'",
        "gone": "storage 'gone' does not exist",
        "blocked": "unable to create directory '.*/file/below' of storage 'blocked'",
        "away": "directory '.*/away' does not exist or is unreachable",
        "unmounted": "expected to be a mount point but is not mounted",
        "share": r"storage 'share' is not online - cannot connect to 127.0.0.1:1",
        "thin": "no such logical volume nosuchvg/data",
        "far": "kept as a definition only",
    }.items():
        with pytest.raises(ApiError, match=text):
            await storage.alloc(name, 100, "raw", 1 << 20)
        if name != "gone":
            assert not (await storage.status(name)).active


async def test_content_is_checked(storage):
    put(storage, Definition("isos", "dir", {"path": "/x", "content": "iso"}))
    with pytest.raises(ApiError, match="storage 'isos' does not support content-type 'images'"):
        storage.check("isos", "images")
