# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input gets one clear sentence with object, cause and remedy, and nothing is half done without saying so."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.lab import Lab, finished, orphans

DISK = {"slot": "scsi0", "storage": "local", "size": "1G", "format": "qcow2"}
GUEST: dict[str, Any] = {"name": "victim", "memory": 64, "disks": [DISK]}
CASES = yaml_load(Path(__file__).with_name("bad_input.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def victim(lab: Lab) -> int:
    made = lab.module("vm", GUEST)
    assert made["changed"], made
    return int(made["object"]["vmid"])


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_one_clear_sentence_and_nothing_done(lab: Lab, api: Any, victim: int, case: dict[str, Any]) -> None:
    given = {k: victim if v == "VICTIM" else v for k, v in case["params"].items() if v is not None}
    password = {"PROXMOX_PASSWORD": None} if case["params"].get("api_password", "") is None else {}
    config = api.nodes("pve1").qemu(victim).config
    before = config.get()
    result = finished(lab.begin_module(case["module"], given, **password))
    assert_clear(result, case["says"])
    others = {g["vmid"] for g in api.nodes("pve1").qemu.get()} - {victim}
    assert bool(others) <= bool(result.get("done")), "what was done half way is told"
    for vmid in others:
        removed = lab.module("vm", {"vmid": vmid, "state": "absent", "allow_data_loss": True})
        assert removed["changed"], removed
    assert config.get() == before
    assert orphans(api) == set()


def assert_clear(result: Any, says: str) -> None:
    """It failed with a message for people: what matches ``says``, short, and no sign of a program gone wrong."""
    assert result.get("failed"), result
    message = result["msg"]
    assert re.search(says, message, re.DOTALL), message
    # The list of all options is Ansible's own.
    assert len(message.partition("Supported parameters")[0]) < 600, message
    assert not re.search(r"Traceback|This is a bug|object has no attribute|<class|None\b", message), message


def test_a_locked_guest_is_waited_for_and_named(lab: Lab, api: Any, victim: int) -> None:
    api.nodes("pve1").qemu(victim).config.put(lock="backup")
    result = lab.module("vm", {"name": "victim", "cores": 2, "api_lock_timeout": 1})
    assert_clear(result, r"victim.*lock.*backup")
    assert result["done"] == []
    api.nodes("pve1").qemu(victim).config.put(delete="lock", skiplock=1)
    assert lab.module("vm", {"name": "victim", "cores": 2})["changed"]


def test_a_protected_guest_is_not_removed(lab: Lab, api: Any, victim: int) -> None:
    assert lab.module("vm", {"name": "victim", "protection": True})["changed"]
    result = lab.module("vm", {"name": "victim", "state": "absent", "allow_data_loss": True})
    assert_clear(result, r"victim.*protect")
    assert api.nodes("pve1").qemu(victim).config.get()["protection"] == 1
    assert lab.module("vm", {"name": "victim", "protection": False})["changed"]


def test_two_runs_at_once_make_one_guest(lab: Lab, api: Any) -> None:
    wanted = {**GUEST, "name": "twin", "vmid": 900}
    results = [finished(p) for p in [lab.begin_module("vm", wanted) for _run in range(2)]]
    assert any(r["changed"] for r in results), results
    for failed in [r for r in results if r.get("failed")]:
        assert_clear(failed, r"twin|900")
    assert [g["vmid"] for g in api.nodes("pve1").qemu.get() if g["name"] == "twin"] == [900]
    assert not lab.module("vm", wanted)["changed"]
    assert orphans(api) == set()


def test_two_runs_for_one_id_do_not_touch_each_other(lab: Lab, api: Any) -> None:
    runs = [lab.begin_module("vm", {**GUEST, "name": name, "vmid": 901}) for name in ("first", "second")]
    results = [finished(p) for p in runs]
    won, lost = sorted(results, key=lambda r: bool(r.get("failed")))
    assert won["changed"], results
    assert_clear(lost, r"901")
    assert api.nodes("pve1").qemu(901).config.get()["name"] == won["object"]["name"]
    assert orphans(api) == set()


def test_two_runs_without_ids_get_two_guests(lab: Lab, api: Any) -> None:
    runs = [lab.begin_module("vm", {**GUEST, "name": name}) for name in ("left", "right")]
    results = [finished(p) for p in runs]
    assert all(r.get("changed") for r in results), results
    assert len({r["object"]["vmid"] for r in results}) == len(runs)
    assert orphans(api) == set()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Lab]:
    """A labnode in which the storage ``tiny`` has 8 MiB: a file system of its own, in a name space of its own."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    names = ["unshare", "--user", "--map-root-user", "--mount", "--keep-caps"]
    mount = f'mount -t tmpfs -o size=8m tmpfs "{tiny}" && exec "$@"'
    if subprocess.run([*names, "sh", "-c", mount, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no user name spaces")
    with Lab(tmp_path, wrapper=[*names, "sh", "-c", mount, "sh"]) as lab:
        definition = {"storage": "tiny", "type": "dir", "path": str(tiny), "content": ["images", "iso"]}
        made = lab.module("storage", definition)
        assert made["changed"], made
        yield lab


def test_a_full_storage_is_named(small: Lab, tmp_path: Path) -> None:
    big = {"slot": "scsi0", "storage": "tiny", "size": "64M", "format": "raw"}
    assert small.module("storage", {"storage": "tiny", "preallocation": "full"})["changed"]
    result = small.module("vm", {"name": "fat", "disks": [big]})
    assert_clear(result, r"fat.*tiny")
    assert re.search(r"space|full", result["msg"]), result["msg"]
    assert orphans(small.api()) == set()
    image = tmp_path / "big.iso"
    image.write_bytes(b"\0" * (16 << 20))
    result = small.module("image", {"storage": "tiny", "src": str(image)})
    assert_clear(result, r"tiny.*(space|full|left)")
    assert small.api().nodes("pve1").storage("tiny").content.get() == []
