# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's control group is made with, and what --host-network changes. Real ones are met on the lab machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labnode.machine import scope
from labnode.network.config import NetworkConfig
from labnode.node import Node, Settings, shutdown
from labnode.store import Store


@pytest.mark.parametrize(
    ("config", "properties"),
    [
        ({}, ["CPUWeight=100", "CPUQuota="]),
        ({"cpuunits": "50", "cpulimit": "0.5"}, ["CPUWeight=50", "CPUQuota=50%"]),
        ({"cpuunits": "262144"}, ["CPUWeight=10000", "CPUQuota="]),
        ({"cpulimit": "1.25"}, ["CPUWeight=100", "CPUQuota=125%"]),
        ({"cpulimit": "0"}, ["CPUWeight=100", "CPUQuota="]),
    ],
    ids=["neither", "both", "more than there is", "more than a processor", "no limit"],
)
def test_properties(config: dict[str, str], properties: list[str]) -> None:
    assert scope.properties(config) == properties


def test_a_limit_that_is_gone_is_taken_back() -> None:
    assert scope.adjustment(104, {})[-2:] == ["CPUWeight=100", "CPUQuota="]
    assert scope.adjustment(104, {})[:4] == ["systemctl", "set-property", "--runtime", "104.scope"]


def test_the_guest_starts_within_its_scope(tmp_path: Path) -> None:
    """A stand-in for systemd-run tells what it was given, and runs what it is to run, as the real one does."""
    stand_in = tmp_path / "systemd-run"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nat = sys.argv.index('--')\n"
        f"open({str(tmp_path / 'given')!r}, 'w').write(json.dumps(sys.argv[1:at]))\n"
        "os.execvp(sys.argv[at + 1], sys.argv[at + 1:])\n"
    )
    stand_in.chmod(0o755)
    argv = scope.wrap(104, {"name": "web1", "cpuunits": "50"}, ["echo", "-daemonize", "--", "more"])
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    assert done.stdout == "-daemonize -- more\n"
    given = json.loads((tmp_path / "given").read_text())
    assert {"--scope", "--slice=qemu", "--unit=104", "--collect"} <= set(given)
    assert "--description=Proxmox VE VM 104 (web1)" in given
    # a quota of nothing is no property that a new scope takes
    assert [word for word in given if word.startswith("--property")] == ["--property=CPUWeight=50"]


@pytest.mark.parametrize(
    ("group", "property"),
    [
        ("0::/system.slice/labnode.service\n", ["--property=Before=labnode.service"]),
        ("0::/user.slice/user-0.slice/session-3.scope\n", []),
    ],
    ids=["a service", "started by hand"],
)
def test_it_ends_after_the_service_that_shuts_it_down(
    group: str, property: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text(group)
    monkeypatch.setattr(scope, "OWN_GROUP", tmp_path / "cgroup")
    given = scope.wrap(104, {}, ["true"])
    assert [word for word in given if "Before" in word] == property


@pytest.mark.parametrize(("says", "down"), [("stopping", True), ("running", False), ("degraded", False)])
async def test_what_systemd_says_of_the_host(
    says: str, down: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\n[ "$*" = is-system-running ] && echo {says}; exit 1\n')
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setattr(scope, "tool", lambda name: str(tmp_path / name))
    assert await scope.host_goes_down() is down


@pytest.mark.parametrize("goes_down", [True, False])
async def test_guests_of_a_host_end_with_the_host_and_not_with_the_service(
    goes_down: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(Settings(tmp_path, host_network=True))
    done: list[str] = []

    def part(name: str) -> Any:
        async def call(*_args: Any, **given: Any) -> None:
            done.append(f"{name} {given}" if given else name)

        return call

    async def answer() -> bool:
        return goes_down

    monkeypatch.setattr(scope, "host_goes_down", answer)
    node.guests = SimpleNamespace(stop=part("guests"))
    node.machines = SimpleNamespace(leave=part("leave"), stop_all=part("stop all"))
    node.qemu = SimpleNamespace(close=part("qemu"))
    await shutdown(node)
    wanted = f"guests {{'stop_guests': {goes_down}, 'timeout': 25.0}}"
    assert done == [wanted, "stop all" if goes_down else "leave", "qemu"]


def test_a_node_on_the_hosts_network_reads_the_hosts_file(tmp_path: Path) -> None:
    own = Node(Settings(tmp_path)).network
    assert own.live_path == tmp_path / "etc/network/interfaces" and not own.on_host
    hosts = Node(Settings(tmp_path, host_network=True)).network
    assert hosts.live_path == Path("/etc/network/interfaces") and hosts.on_host


def test_the_hosts_file_is_never_invented_and_the_kernel_tells_what_is_up(tmp_path: Path) -> None:
    network = NetworkConfig(Store(tmp_path), tmp_path / "network", on_host=True)
    network.load()
    assert not network.live_path.exists()
    assert not network.active("vmbr77", {"type": "bridge", "autostart": 1})
