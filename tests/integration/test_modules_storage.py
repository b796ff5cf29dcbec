# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules storage, image, pool, node_info and task_info against a node: real directories, files and tasks."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.module_parts import done, passed, refused, same
from ansible_collections.pvelab.proxmox.tests.lab import Lab, until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", made / "disk.qcow2", "16M"], check=True)
    (made / "tiny.iso").write_bytes(bytes(range(256)) * 256)
    return made


@pytest.fixture(scope="module")
def store(lab: Lab, folder: Path) -> str:
    """A storage of the tests' own, for images."""
    params = {"storage": "depot", "type": "dir", "path": str(folder / "depot"), "content": ["iso", "import", "images"]}
    passed(lab.module("storage", params))
    return "depot"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a web server that serves the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join(10)


def test_a_storage_comes_changes_and_goes(lab: Lab, api: Any, folder: Path) -> None:
    def look() -> Any:
        return sorted(({k: v for k, v in s.items() if k != "digest"} for s in api.storage.get()), key=str)

    base = {"storage": "pool1", "type": "dir", "path": str(folder / "pool1")}
    made = done(lab, "storage", {**base, "content": ["images", "iso"], "prune_backups": {"keep_last": 3}}, look)
    assert (made["object"]["content"], made["object"]["prune-backups"]) == (["images", "iso"], {"keep-last": 3})
    same(lab, "storage", {"storage": "pool1", "content": ["iso", "images"], "disable": False, "shared": False})
    changed = done(lab, "storage", {"storage": "pool1", "content": ["snippets"], "bwlimit": {"clone": 1000}}, look)
    assert changed["diff"]["after"] == {"content": ["snippets"], "bwlimit": {"clone": 1000}}
    done(lab, "storage", {"storage": "pool1", "bwlimit": {}, "prune_backups": {}}, look)
    assert "prune-backups" not in api.storage("pool1").get()
    done(lab, "storage", {"storage": "pool1", "disable": True}, look)
    assert "cannot be changed" in refused(lab, "storage", {**base, "path": "/srv/else"}, look)
    assert "has no thinpool" in refused(lab, "storage", {**base, "thinpool": "data"}, look, check=True)
    done(lab, "storage", {"storage": "pool1", "state": "absent"}, look)
    assert (folder / "pool1").is_dir(), "only the definition goes"


def test_a_storage_that_the_node_refuses(lab: Lab, api: Any) -> None:
    said = refused(lab, "storage", {"storage": "9bad", "type": "dir", "path": "/srv/x"}, api.storage.get)
    assert said.startswith("Unable to create storage 9bad: storage: ")
    assert "illegal characters" in said


def test_an_image_is_uploaded_replaced_and_removed(lab: Lab, api: Any, folder: Path, store: str) -> None:
    def look() -> Any:
        listed = api.nodes(lab.node).storage(store).content.get()
        return sorted((v["volid"], v["size"]) for v in listed)

    disk = folder / "disk.qcow2"
    digest = hashlib.sha512(disk.read_bytes()).hexdigest()
    task = {"storage": store, "src": str(disk), "filename": "guest-1.qcow2"}
    wrong = {**task, "checksum": digest[::-1], "checksum_algorithm": "sha512"}
    assert f"has the checksum {digest}" in refused(lab, "image", wrong, look)
    made = done(lab, "image", {**task, "checksum": digest, "checksum_algorithm": "sha512"}, look)
    assert made["object"] == {"volid": f"{store}:import/guest-1.qcow2", "size": disk.stat().st_size, "format": "qcow2"}
    stored = next((folder / "depot").rglob("guest-1.qcow2"))
    assert stored.read_bytes() == disk.read_bytes()

    other = folder / "other.qcow2"
    other.write_bytes(disk.read_bytes() + b"\0" * 512)
    said = refused(lab, "image", {**task, "src": str(other)}, look)
    assert "Set force: true to replace it" in said
    assert passed(lab.module("image", {**task, "src": str(other), "force": True}))["changed"]
    assert stored.read_bytes() == other.read_bytes()

    gone = {"storage": store, "filename": "guest-1.qcow2", "state": "absent"}
    assert "this would destroy depot:import/guest-1.qcow2" in refused(lab, "image", gone, look)
    done(lab, "image", {**gone, "allow_data_loss": True}, look)
    assert not stored.exists()


def test_a_large_upload_is_streamed(lab: Lab, folder: Path, store: str) -> None:
    large = folder / "large.iso"
    with large.open("wb") as file:
        file.write(b"\1" * 4096)
        file.truncate(256 << 20)
    assert passed(lab.module("image", {"storage": store, "src": str(large)}))["changed"]
    same(lab, "image", {"storage": store, "src": str(large)})
    assert next((folder / "depot").rglob("large.iso")).stat().st_size == 256 << 20


def test_an_upload_that_is_cut_off_leaves_nothing_and_is_made_up_for(lab: Lab, folder: Path, store: str) -> None:
    huge = folder / "huge.iso"
    with huge.open("wb") as file:
        file.write(b"\2" * 4096)
        file.truncate(1 << 30)
    task = {"storage": store, "src": str(huge)}
    arriving = lab.state / "tmp"
    sending = lab.begin_module("image", task)
    until(lambda: any(f.stat().st_size for f in arriving.glob("upload-*")), "the upload has begun")
    os.killpg(sending.pid, signal.SIGKILL)
    sending.communicate(timeout=60)
    until(lambda: not list(arriving.glob("upload-*")), "the node has cleared away what had come")
    assert not list((folder / "depot").rglob("huge.iso"))
    huge.write_bytes(b"\3" * 8192)
    assert passed(lab.module("image", task))["object"]["size"] == 8192


def test_an_image_is_downloaded_by_the_node(lab: Lab, api: Any, folder: Path, store: str, server: str) -> None:
    def look() -> Any:
        return sorted(v["volid"] for v in api.nodes(lab.node).storage(store).content.get())

    digest = hashlib.sha256((folder / "tiny.iso").read_bytes()).hexdigest()
    task = {"storage": store, "url": f"{server}/tiny.iso"}
    said = refused(lab, "image", {**task, "checksum": "00" * 32}, look)
    assert said.startswith("Unable to create image tiny.iso on storage depot: ")
    assert "checksum" in said
    made = done(lab, "image", {**task, "checksum": digest}, look)
    assert made["object"]["size"] == 65536
    same(lab, "image", {**task, "compare": "size"})
    replaced = passed(lab.module("image", {**task, "force": True}))
    assert [s["request"].split(" ")[0] for s in replaced["steps"]] == ["DELETE", "POST"]
    missing = refused(lab, "image", {**task, "url": f"{server}/nosuch.iso"}, look)
    assert missing.startswith("Unable to create image nosuch.iso on storage depot: ")


def test_an_image_for_a_storage_that_is_still_to_come(lab: Lab, folder: Path) -> None:
    params = {"storage": "later", "src": str(folder / "tiny.iso")}
    foreseen = passed(lab.module("image", params, check=True))
    assert foreseen["changed"]
    assert "there is no storage 'later'" in str(foreseen["warnings"])
    assert "Define it with pvelab.proxmox.storage" in lab.module("image", params)["msg"]


def test_a_pool_comes_changes_and_goes(lab: Lab, api: Any, store: str) -> None:
    def look() -> Any:
        named = [p["poolid"] for p in api.pools.get()]
        return {n: sorted(str(m["id"]) for p in api.pools.get(poolid=n) for m in p["members"]) for n in named}, [
            p.get("comment") for p in api.pools.get()
        ]

    for vmid, name in ((401, "member1"), (402, "member2")):
        api.nodes(lab.node).qemu.post(vmid=vmid, name=name, memory=16)
    done(lab, "pool", {"poolid": "drills", "comment": "first"}, look)
    done(lab, "pool", {"poolid": "drills", "vms": ["member1"], "storage": [store]}, look)
    grown = done(lab, "pool", {"poolid": "drills", "vms": ["402"], "append": True}, look)
    assert grown["object"] == {"comment": "first", "vms": [401, 402], "storage": [store]}
    done(lab, "pool", {"poolid": "drills", "vms": ["member2"], "comment": "second"}, look)
    done(lab, "pool", {"poolid": "drills/inner"}, look)
    said = refused(lab, "pool", {"poolid": "other", "vms": ["member2"]}, look)
    assert "guest 402 is in pool 'drills'" in said
    done(lab, "pool", {"poolid": "other", "vms": ["member2"], "allow_move": True}, look)
    assert "holds the pool drills/inner" in refused(lab, "pool", {"poolid": "drills", "state": "absent"}, look)
    done(lab, "pool", {"poolid": "drills/inner", "state": "absent"}, look)
    said = refused(lab, "pool", {"poolid": "drills", "state": "absent"}, look)
    assert f"it has members: storage {store}" in said
    done(lab, "pool", {"poolid": "drills", "state": "absent", "remove_members": True}, look)
    foreseen = passed(lab.module("pool", {"poolid": "new", "vms": ["nobody"]}, check=True))
    assert foreseen["changed"]
    assert "there is no guest called 'nobody'" in str(foreseen["warnings"])


def test_nodes_and_tasks_are_seen(lab: Lab, api: Any, store: str) -> None:
    node = passed(lab.module("node_info", {}))["nodes"][0]
    assert (node["node"], node["online"], node["version"]) == (lab.node, True, api.version.get()["version"])
    assert node["memory"]["total_bytes"] > 0
    assert store in [s["storage"] for s in node["storage"]]
    assert "vmbr0" in [i["iface"] for i in node["networks"]]
    assert passed(lab.module("node_info", {"gather": []}))["nodes"] == [{"node": lab.node, "online": True}]
    upid = api.nodes(lab.node).qemu.post(vmid=410, name="watched", memory=16)
    one = passed(lab.module("task_info", {"upid": upid}))["tasks"]
    assert (one[0]["upid"], one[0]["type"], one[0]["log"][-1]) == (upid, "qmcreate", "TASK OK")
    found = passed(lab.module("task_info", {"vmid": 410, "type": "qmcreate", "log_lines": 1}))["tasks"]
    assert [(t["upid"], t["ok"], t["log"]) for t in found] == [(upid, True, ["TASK OK"])]
    assert passed(lab.module("task_info", {"vmid": 410, "errors": True}))["tasks"] == []
    assert "there is no node 'pve9'" in lab.module("node_info", {"node": "pve9"})["msg"]
