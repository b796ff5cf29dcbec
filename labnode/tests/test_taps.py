# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests stay on the kernel's bridges over a reload, in a network of their own (needs root)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
ENTER = ["unshare", "--net", "--mount"]
PREPARE = (
    "mount -t sysfs none /sys && ip link add vmbr0 type bridge vlan_filtering 1 && ip link set vmbr0 up"
    " && for tap in tap100i0 tap101i0 tap102i0; do ip tuntap add dev $tap mode tap; done"
    " && ip link set tap100i0 master vmbr0 up && ip link set tap101i0 master vmbr0 up"
    " && bridge vlan del dev tap100i0 vid 1 && bridge vlan add dev tap100i0 vid 7 pvid untagged"
    " && bridge vlan add dev tap100i0 vid 20-30"
)
# As the ifupdown2 of Debian does it with ports that the file does not name.
RELOAD = "#!/bin/sh\nip link set tap100i0 nomaster\nip link set tap100i0 down\nip link del tap101i0\nexit $RELOAD_RC\n"
SCRIPT = """
import asyncio, json, subprocess, sys
from pathlib import Path
from labnode.errors import ApiError
from labnode.network.config import NetworkConfig
from labnode.store import Store

def seen(command):
    return json.loads(subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout or "[]")

async def main():
    try:
        await NetworkConfig(Store(Path(sys.argv[1])), Path(sys.argv[1]), on_host=True).apply()
        said = ""
    except ApiError as error:
        said = error.message
    links = {x["ifname"]: x for x in seen("ip -j link show")}
    print(json.dumps([said, links, seen("bridge -j vlan show dev tap100i0")]))

asyncio.run(main())
"""


def able() -> bool:
    """Whether this user may make a network with a bridge of its own."""
    probe = [*ENTER, "sh", "-c", PREPARE]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not able(), reason="no right to make kernel bridges here")
@pytest.mark.parametrize("rc", [0, 1])
def test_guests_stay_on_their_bridges_with_their_vlans_whether_the_reload_succeeds_or_not(
    tmp_path: Path, rc: int
) -> None:
    (tmp_path / "ifreload").write_text(RELOAD)
    (tmp_path / "ifreload").chmod(0o755)
    argv = [*ENTER, "sh", "-c", f'{PREPARE} && exec "$0" -c "$1" "$2"', sys.executable, SCRIPT, str(tmp_path)]
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PATH": path, "RELOAD_RC": str(rc)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    said, links, vlans = json.loads(done.stdout)
    assert said == ("command 'ifreload -a' failed: exit code 1: " if rc else "")
    assert links["tap100i0"]["master"] == "vmbr0" and "UP" in links["tap100i0"]["flags"]
    assert vlans == [
        {
            "ifname": "tap100i0",
            "vlans": [{"vlan": 7, "flags": ["PVID", "Egress Untagged"]}, {"vlan": 20, "vlanEnd": 30}],
        }
    ]
    assert "tap101i0" not in links and "master" not in links["tap102i0"]
