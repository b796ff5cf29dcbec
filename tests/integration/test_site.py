# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml and teardown.yml with the example lab: foretold, made, unchanged by a second run, refused, removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, ROOT, Lab, failures, stats
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy

SITE, TEARDOWN = ROOT / "playbooks" / "site.yml", ROOT / "playbooks" / "teardown.yml"


def with_lab(lab: Lab, port: int) -> list[str]:
    """Arguments that point the embedded inventory at this test's node."""
    connection = {"proxmox_api_port": str(port), "proxmox_api_password": PASSWORD, "lab_state": str(lab.state)}
    return ["-e", json.dumps(connection)]


def changes(report: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What changed: task and item. For a loop, the task's own message says only that items did."""
    found = set()
    for play in report["plays"]:
        for task in play["tasks"]:
            for host in task["hosts"].values():
                for result in host.get("results", [host]):
                    if result.get("changed"):
                        item = result.get("guests_item") or result.get("storage_item") or result.get("images_item")
                        found.add((task["task"]["name"], str(item or result.get("snapshots_item"))))
    return found


def test_the_example_lab(lab: Lab, canary_image: Path) -> None:
    with Proxy(lab) as proxy:
        arguments = with_lab(lab, proxy.port)
        foretold = lab.playbook(SITE, "--check", "--diff", *arguments)
        assert foretold["rc"] == 0, failures(foretold)
        assert not proxy.written, "check mode sent a write"

        made = lab.playbook(SITE, "--diff", *arguments)
        assert made["rc"] == 0, failures(made)
        assert changes(made) == changes(foretold)
        assert proxy.written, "the proxy saw nothing: it proves nothing"

        again = lab.playbook(SITE, "--diff", *arguments)
        assert (again["rc"], stats(again)["changed"]) == (0, 0), changes(again)

        refused = lab.playbook(TEARDOWN, *arguments)
        assert refused["rc"] != 0
        (why,) = failures(refused)
        for name in ("web1", "web2", "db1", "canary", "canary.qcow2", "teardown_confirm=pve1"):
            assert name in why

        removed = lab.playbook(TEARDOWN, "-e", "teardown_confirm=pve1", *arguments)
        assert removed["rc"] == 0, failures(removed)
    api = lab.api()
    assert api.nodes("pve1").qemu.get() == []
    assert api.pools.get() == []
    assert [store["storage"] for store in api.storage.get()] == ["local"]
    left = [path for path in (lab.state / "storage" / "lab").rglob("*") if path.is_file()]
    assert left == []
