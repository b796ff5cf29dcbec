# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads and downloads, over HTTPS and from a web server on loopback."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from served import Served

CONTENT = b"an image" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
STORAGE = "/nodes/pve1/storage/local"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("transfer")) as served:
        yield served


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "disk.iso").write_bytes(CONTENT)
    (folder / "disk.iso.gz").write_bytes(gzip.compress(CONTENT))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def nothing_unfinished(lab: Served) -> Iterator[None]:
    yield
    assert [p for p in (lab.state / "storage/local").rglob(".*")] == []
    assert list((lab.state / "tmp").glob("*")) == []


def upload(lab: Served, name: str, data: bytes, **fields: str) -> str:
    answer = lab.session.post(
        f"{lab.url}{STORAGE}/upload", data={"content": "iso", **fields}, files={"filename": (name, data)}, timeout=60
    )
    return lab.wait(answer.json()["data"]) if answer.status_code == 200 else answer.text


def stored(lab: Served, name: str) -> Path:
    return lab.state / "storage/local/template/iso" / name


def test_an_upload_is_stored_and_may_be_replaced(lab: Served) -> None:
    assert upload(lab, "a.iso", b"old") == "OK"
    assert upload(lab, "a.iso", CONTENT, checksum=SHA256, **{"checksum-algorithm": "sha256"}) == "OK"
    assert stored(lab, "a.iso").read_bytes() == CONTENT
    rows = lab.call("GET", f"{STORAGE}/content", content="iso")
    assert {r["volid"]: r["size"] for r in rows}["local:iso/a.iso"] == len(CONTENT)


def test_an_upload_with_a_wrong_checksum_leaves_the_old_file(lab: Served) -> None:
    assert upload(lab, "b.iso", b"old") == "OK"
    status = upload(lab, "b.iso", CONTENT, checksum="00" * 32, **{"checksum-algorithm": "sha256"})
    assert status == f"checksum mismatch: got '{SHA256}' != expect '{'00' * 32}'"
    assert stored(lab, "b.iso").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["evil.sh", "../../etc/x.txt", ".iso"])
def test_a_name_that_is_no_image_is_refused(lab: Served, name: str) -> None:
    assert "wrong file extension" in upload(lab, name, b"x")


def test_a_path_in_a_name_is_taken_off(lab: Served) -> None:
    assert upload(lab, "../../../../c d.iso", b"x") == "OK"
    assert stored(lab, "c_d.iso").read_bytes() == b"x"


def test_an_import_that_refers_to_a_file_of_the_node_is_refused(lab: Served, tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-u", "-b", "/etc/passwd", image, "1M"], check=True
    )
    assert "refers to another file ('/etc/passwd')" in upload(lab, "x.qcow2", image.read_bytes(), content="import")


def test_the_node_downloads_unpacks_and_verifies(lab: Served, web: str) -> None:
    wanted = {"content": "iso", "checksum": SHA256, "checksum-algorithm": "sha256"}
    assert lab.done("POST", f"{STORAGE}/download-url", url=f"{web}/disk.iso", filename="d.iso", **wanted) == "OK"
    again = lab.done("POST", f"{STORAGE}/download-url", url=f"{web}/disk.iso", filename="d.iso", **wanted)
    assert again.startswith("refusing to override existing file")
    packed = {"url": f"{web}/disk.iso.gz", "filename": "e.iso", "content": "iso", "compression": "gz"}
    assert lab.done("POST", f"{STORAGE}/download-url", **packed) == "OK"
    assert stored(lab, "d.iso").read_bytes() == stored(lab, "e.iso").read_bytes() == CONTENT


def test_a_download_that_fails_leaves_nothing(lab: Served, web: str) -> None:
    missing = lab.done("POST", f"{STORAGE}/download-url", url=f"{web}/none.iso", filename="f.iso", content="iso")
    assert missing == "download failed: 404 File not found"
    nobody = lab.done("POST", f"{STORAGE}/download-url", url="http://127.0.0.1:1/x", filename="f.iso", content="iso")
    assert nobody.startswith("download failed: Cannot connect")
    assert not stored(lab, "f.iso").exists()


def test_a_url_tells_size_and_name(lab: Served, web: str) -> None:
    found = lab.call("GET", "/nodes/pve1/query-url-metadata", url=f"{web}/disk.iso")
    assert (found["filename"], found["size"]) == ("disk.iso", len(CONTENT))
