# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of every module of the API are carried out as they stand, in a playbook, on a node of their own.

Those of all other modules work on hosts: tests/architecture/test_examples.py holds their options against the modules.
Takes about four minutes.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.test_complete import constant
from ansible_collections.pvelab.proxmox.tests.architecture.tree import MODULES
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab

pytestmark = pytest.mark.release

GROUP = yaml_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]["api"]
WORLDS = yaml_load(Path(__file__).with_name("example_worlds.yml").read_text(encoding="utf-8"))
EXAMPLES = {path.stem: constant(path, "EXAMPLES") for path in MODULES}


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


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """The value with its places; braces that are none of them stay."""
    text = json.dumps(value)
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", place)
    return json.loads(text)


def play(module: str, places: Mapping[str, str]) -> list[dict[str, Any]]:
    world = filled(WORLDS[module], places)
    text = EXAMPLES[module]
    for old, new in world.get("replace", {}).items():
        assert old in text, f"no example says {old}"
        text = text.replace(old, new)
    tasks = list(world.get("prepare", ()))
    for i, example in enumerate(yaml_load(text)):
        tasks += [*world.get("before", {}).get(str(i), ()), example]
    return [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}", **world.get("variables", {})},
            "tasks": tasks,
        }
    ]


def test_every_module_of_the_api_has_a_world() -> None:
    assert set(WORLDS) == set(GROUP)


@pytest.mark.parametrize("module", sorted(GROUP))
def test_the_examples_work(lab: Lab, places: dict[str, str], module: str) -> None:
    tasks = play(module, places)
    path = lab.folder / "play.yml"
    path.write_text(yaml.safe_dump(tasks, sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", "localhost,", path],
        cwd=lab.folder,
        env={**lab.environment(), "HOME": str(lab.folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"ok={len(tasks[0]['tasks'])} " in done.stdout, done.stdout
