# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of every module of the API are carried out as they stand, in a playbook, on a node of their own.

Those of all other modules work on hosts: test_host_examples.py carries them out. Takes about four minutes.
"""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ansible_collections.pvelab.proxmox.tests.lab import Lab
from ansible_collections.pvelab.proxmox.tests.stories.example_parts import GROUP, carry_out, filled, play, worlds

pytestmark = pytest.mark.release

WORLDS = worlds("example_worlds.yml")
HERE = {
    "hosts": "localhost",
    "connection": "local",
    "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_said: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """One for each module: the examples of all use the same names."""
    with Lab(tmp_path) as running:
        yield running


@pytest.fixture
def places(lab: Lab, tmp_path: Path) -> Iterator[dict[str, str]]:
    folder = tmp_path / "given"
    (folder / "build").mkdir(parents=True)
    disk = folder / "build/guest.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    (folder / "debian-13-generic-amd64.qcow2").write_bytes(disk.read_bytes())
    (folder / "appliance.iso.zst").write_bytes(zstandard.compress(b"not much of a disc" * 1000))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "folder": str(folder),
            "web": f"http://127.0.0.1:{server.server_port}",
            "sha512": hashlib.sha512(disk.read_bytes()).hexdigest(),
            "fingerprint": ":".join(["AB"] * 32),
            "upid": a_task(lab),
        }
        server.shutdown()


def a_task(lab: Lab) -> str:
    """One that there is to look at."""
    return str(lab.api().nodes(lab.node).tasks.get(source="all", limit=1)[0]["upid"])


def test_every_module_of_the_api_has_a_world() -> None:
    assert set(WORLDS) == set(GROUP)


@pytest.mark.parametrize("module", sorted(GROUP))
def test_the_examples_work(lab: Lab, places: dict[str, str], module: str) -> None:
    made = play(module, filled(WORLDS[module], places), HERE)
    carry_out(made, lab.folder, "localhost,", lab.environment())
