# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's failure drills: which there are, the leave to run them, what came of one, and how to end what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from demo_node import Node
from demo_summary import client
from proxmoxer import ResourceException

NAMES = ("guest_hang", "guest_crash")
# The group of the host that the demo may break: it never touches another one, whatever the inventory says.
GROUP = "embedded"
TOKEN = "drill"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ABORT_S = 150.0


def wanted(inventory: Mapping[str, Any]) -> list[str]:
    """Those of NAMES that an inventory (`ansible-inventory --list`) has targets for."""
    hosts = inventory.get(GROUP, {}).get("hosts", [])
    known = inventory.get("_meta", {}).get("hostvars", {})
    targets = [known.get(host, {}).get("drill_targets") or {} for host in hosts]
    return [name for name in NAMES if any(name in found for found in targets)]


def allow(node: Node) -> None:
    """Let the node's guests be broken: a file that says so, until the next boot, and a token for the node's API."""
    marker = node.drills / "etc/pvelab/drill-host"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_bytes(BOOT_ID.read_bytes())
    token = node.own / "drill-token"
    if token.exists():
        return
    tokens = client(node).access.users("root@pam").token
    with suppress(ResourceException):  # of an earlier demo that was interrupted before it had written it down
        tokens(TOKEN).delete()
    token.touch(mode=0o600)
    token.write_text(tokens(TOKEN).post(privsep=0)["value"] + "\n", encoding="utf-8")


def report_of(name: str, reports: Path, before: set[Path]) -> Path | None:
    """The directory that a run of a drill has left in `reports`; None where it has left no journal."""
    found = [path.parent for path in reports.glob(f"*-{name}-*/journal.json") if path.parent not in before]
    return max(found, default=None)


def told(journal: Mapping[str, Any]) -> str:
    """One line: the verdict, for how long who was out, when it was noticed, and what is lost; or why it is no pass."""
    if journal["verdict"] != "passed":
        return f"{journal['verdict']}: {journal['because']}"
    names = ", ".join(row["name"] for row in journal["guests"] if row["role"] == "victim")
    metrics, rows = journal["metrics"], [row["canary"] for row in journal["guests"]]
    lost = sum(len(row["lost"]) for row in rows)
    acked = sum(row["acked"] for row in rows)
    return (
        f"passed: {names} was out for {metrics['outage_s']:.1f} s, detected after {metrics['time_to_detect_s']:.1f} s;"
        f" {acked} writes acknowledged, {lost} lost"
    )


def abort(node: Node) -> None:
    """Have a drill that runs put back what it has broken, and wait for it."""
    program = node.drills / "usr/local/lib/pvelab/drill.pyz"
    if node.drills_running() and program.exists():
        command = [sys.executable, str(program), "abort", str(node.drills / "var/lib/pvelab/drills")]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=ABORT_S)


def journal(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "journal.json").read_text(encoding="utf-8"))
    return found


def shown(path: Path, root: Path) -> str:
    """A path as short as it can be for who is in `root`."""
    short = os.path.relpath(path, root)
    return str(path) if short.startswith("..") else short


if __name__ == "__main__":
    sys.exit("this is a part of tools/demo.py")
