# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is cut or killed in the middle of its work: the next run converges, with no duplicate and no orphan.

The proxy cuts at each write in turn, because what is left behind differs from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import Lab, finished, orphans
from ansible_collections.pvelab.proxmox.tests.proxy import Nth, Proxy

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


@pytest.mark.parametrize("outage", [0, 4])
@pytest.mark.parametrize("n", [0, 1])
def test_connection_comes_back_during_the_run(lab: Lab, n: int, outage: int) -> None:
    """The answer gets lost, and so do some of the next requests: the run itself finds out what became of its write."""
    name = f"back-{n}-{outage}"
    params = {**GUEST, "name": name}
    nth = Nth(n, "after")
    with Proxy(lab, nth, outage=outage) as proxy:
        result = lab.module("vm", params, port=proxy.port)
    assert nth.happened.is_set()
    assert not result.get("failed"), result["msg"]
    assert lab.module("vm", params)["changed"] is False, "the run left nothing to do"
    whole(lab, name, params)


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
