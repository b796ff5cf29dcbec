# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on bridges of the kernel, in a network of their own (needs root; the machine's own network is not touched)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
ENTER = ["unshare", "--net", "--mount"]
PREPARE = (
    "mount -t sysfs none /sys && ip link add vmbr0 type bridge && ip link add vmbr1 type bridge && ip link set vmbr0 up"
)
SCRIPT = """
import asyncio, json, subprocess, sys
from pathlib import Path
from labnode.errors import ApiError
from labnode.machine.accel import find_qemu
from labnode.machine.nics import parse_nic
from labnode.machine.service import MachineService
from labnode.machine.switch import Switch
from labnode.storage import StorageService
from labnode.store import Store

def on(bridge):
    argv = ["ip", "-j", "link", "show", "master", bridge]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return sorted(link["ifname"] for link in json.loads(text or "[]"))

async def main():
    state = Path(sys.argv[1])
    storage = StorageService(Store(state), "pve1")
    switch = Switch(state / "run", set)
    machines = MachineService(state / "run", "pve1", storage, switch, await find_qemu("off"))
    net = "virtio=BC:24:11:00:00:01,bridge=vmbr0"
    config = {"memory": "32", "kvm": "0", "net0": net}
    seen = {}
    try:
        await machines.start(100, config)
        seen["start"] = [on("vmbr0"), on("vmbr1")]
        await machines.plug(100, "net1", "e1000=BC:24:11:00:00:02,bridge=vmbr1", config)
        await machines.set_live(100, "net0", net.replace("vmbr0", "vmbr1"), net, config)
        seen["moved"] = [on("vmbr0"), on("vmbr1")]
        seen["nics"] = sorted((await machines.info(100, config)).nics)
        seen["cut off"] = machines.cut_off(100, config)
        try:
            await switch.plug(101, parse_nic("net0", net + ",tag=9"))
        except ApiError as err:
            seen["tag"] = err.message
        await switch.unplug(101)
        seen["switches"] = switch.running()
    finally:
        await machines.stop_all()
    seen["end"] = [on("vmbr0"), on("vmbr1")]
    print(json.dumps(seen))

asyncio.run(main())
"""


def able() -> bool:
    """Whether this user may make a network with a bridge of its own."""
    probe = [*ENTER, "sh", "-c", PREPARE]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not able(), reason="no right to make kernel bridges here")
def test_guests_plug_into_kernel_bridges(tmp_path):
    argv = [*ENTER, "sh", "-c", f'{PREPARE} && exec "$0" -c "$1" "$2"', sys.executable, SCRIPT, str(tmp_path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=90, check=False, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("tag") == "net0: tag 9 needs a VLAN-aware bridge, and 'vmbr0' is none - set its bridge_vlan_aware"
    assert seen == {
        "start": [["tap100i0"], []],
        "moved": [[], ["tap100i0", "tap100i1"]],
        "nics": ["tap100i0", "tap100i1"],
        "cut off": False,
        "switches": [],
        "end": [[], []],
    }
