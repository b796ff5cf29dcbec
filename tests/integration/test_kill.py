# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is cut or killed in the middle of its work: the next run converges, with no duplicate and no orphan.

The proxy cuts at each write in turn, because what is left behind differs from one to the next.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import Lab, failures, finished, orphans, stats, until
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy, Seen

DISKS = [{"slot": f"scsi{i}", "storage": "local", "size": "1G", "format": "qcow2"} for i in range(2)]
GUEST: dict[str, Any] = {"memory": 64, "tags": ["kept"], "disks": DISKS, "status": "running"}
WAYS: dict[str, dict[str, Any]] = {"scratch": {}, "clone": {"clone": {"source": "seed", "full": True}}}
# How it is made, whether the node hears of the last write, and which write that is.
CUTS = [
    *[("scratch", verdict, n) for verdict in ("before", "after") for n in (0, 1)],
    ("clone", "after", 0),
    ("clone", "before", 1),
    ("clone", "after", 1),
    ("clone", "after", 2),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as running:
        assert running.module("vm", {"name": "seed", "memory": 64, "disks": DISKS[:1]})["changed"]
        yield running


class Nth:
    """Says ``verdict`` at the write number ``n``, counted from 0; ``happened`` tells that it came to that."""

    def __init__(self, n: int, verdict: str) -> None:
        self.n = n
        self.verdict = verdict
        self.count = 0
        self.happened = threading.Event()

    def __call__(self, seen: Seen) -> str:
        if not seen.writes:
            return ""
        self.count += 1
        if self.count != self.n + 1:
            return ""
        self.happened.set()
        return self.verdict


def whole(lab: Lab, name: str, params: dict[str, Any]) -> None:
    """One more run finishes the guest; then there is one of that name, all of it, and nothing lies about."""
    after = lab.module("vm", params)
    assert not after.get("failed"), after["msg"]
    again = lab.module("vm", params)
    assert again["changed"] is False, again
    api = lab.api()
    (vmid,) = [g["vmid"] for g in api.nodes("pve1").qemu.get() if g["name"] == name]
    config = api.nodes("pve1").qemu(vmid).config.get()
    assert {"scsi0", "scsi1"} <= set(config) and config["tags"] == "kept" and "lock" not in config
    assert not [key for key in config if key.startswith("unused")]
    assert api.nodes("pve1").qemu(vmid).status.current.get()["status"] == "running"
    assert orphans(api) == set()
    gone = lab.module("vm", {"name": name, "state": "absent", "force_stop": True, "allow_data_loss": True})
    assert gone["changed"], gone
    assert orphans(api) == set()


def cut_short(result: Any) -> None:
    """The run that was cut says so in words."""
    if result.get("failed"):
        assert result["msg"].startswith("Unable to"), result["msg"]
        assert "Traceback" not in result["msg"] and "This is a bug" not in result["msg"], result["msg"]


def called(cut: tuple[str, str, int]) -> str:
    return "cut-" + "-".join(str(word) for word in cut)


@pytest.fixture(scope="module")
def cut_runs(lab: Lab) -> dict[str, Any]:
    """What the runs said whose line was cut. Each looks long for what became of its write, so all do it at once."""
    with ExitStack() as stack:
        begun = {}
        for cut in CUTS:
            way, verdict, n = cut
            nth = Nth(n, verdict)
            proxy = stack.enter_context(Proxy(lab, nth))
            params = {**GUEST, "name": called(cut), **WAYS[way], "api_timeout": 2, "api_retries": 1}
            begun[called(cut)] = lab.begin_module("vm", params, port=proxy.port), nth
        results = {name: finished(process) for name, (process, _nth) in begun.items()}
        assert {name for name, (_process, nth) in begun.items() if not nth.happened.is_set()} == set()
        return results


@pytest.mark.parametrize("cut", CUTS, ids=called)
def test_connection_is_cut_in_a_create(lab: Lab, cut_runs: dict[str, Any], cut: tuple[str, str, int]) -> None:
    name = called(cut)
    assert cut_runs[name]["failed"]
    cut_short(cut_runs[name])
    whole(lab, name, {**GUEST, "name": name, **WAYS[cut[0]]})


@pytest.mark.parametrize("n", [0, 1])
def test_connection_comes_back_during_the_run(lab: Lab, n: int) -> None:
    """An answer gets lost, but the next request passes: the run itself finds out what became of its write."""
    params = {**GUEST, "name": f"back-{n}"}

    class Blink(Nth):
        def __call__(self, seen: Seen) -> str:
            proxy.down = False
            return super().__call__(seen)

    with Proxy(lab) as proxy:
        proxy.cut = Blink(n, "after")
        cut_short(lab.module("vm", params, port=proxy.port))
    whole(lab, f"back-{n}", params)


@pytest.mark.parametrize("n", [0, 1])
def test_labnode_is_killed_in_the_middle_of_a_create(lab: Lab, n: int) -> None:
    name = f"killed-{n}"
    params = {**GUEST, "name": name}
    running = lab.module("vm", {"name": "seed", "status": "running"})
    assert not running.get("failed"), running
    vmid = running["object"]["vmid"]
    pid = lab.api().nodes("pve1").qemu(vmid).status.current.get()["pid"]
    nth = Nth(n, "after")
    with Proxy(lab, nth) as proxy:
        process = lab.begin_module("vm", {**params, "api_timeout": 2, "api_retries": 1}, port=proxy.port)
        assert nth.happened.wait(60)
        lab.kill()
        lab.start()
        proxy.mend()
        cut_short(finished(process))
    assert lab.api().nodes("pve1").qemu(vmid).status.current.get()["pid"] == pid, "running guests go on"
    whole(lab, name, params)


PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - pvelab.proxmox.pool: {poolid: crew, comment: Together}
    - pvelab.proxmox.vm:
        name: "crew{{ item }}"
        memory: 64
        tags: [kept]
        pool: crew
        status: running
        disks:
          - {slot: scsi0, storage: local, size: 1G, format: qcow2}
          - {slot: scsi1, storage: local, size: 1G, format: qcow2}
      loop: [1, 2]
    - pvelab.proxmox.snapshot: {name: crew1, snapname: fresh}
"""


def test_controller_is_killed_during_a_playbook(lab: Lab, tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAY, encoding="utf-8")
    # In the middle of the second guest: the first and the pool are done, the snapshot is not.
    nth = Nth(4, "after")
    with Proxy(lab, nth) as proxy:
        process = lab.begin_playbook(playbook, port=proxy.port)
        try:
            until(lambda: nth.happened.is_set() or process.poll() is not None, "the second guest is begun", 120)
        finally:
            kill_all(process)
    assert nth.happened.is_set()
    # Tasks that the node had begun go on; a careful person would look at them first, but need not.
    second = lab.playbook(playbook)
    assert second["rc"] == 0, failures(second)
    third = lab.playbook(playbook)
    assert stats(third)["changed"] == 0, third
    api = lab.api()
    names = [g["name"] for g in api.nodes("pve1").qemu.get()]
    assert names.count("crew1") == names.count("crew2") == 1
    assert orphans(api) == set()
    for name in ("crew1", "crew2"):
        params = {"name": name, "state": "absent", "force_stop": True, "allow_data_loss": True}
        assert lab.module("vm", params)["changed"]
    api.pools("crew").delete()


def kill_all(process: subprocess.Popen[str]) -> None:
    """kill -9 the controller with all its children, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
