# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's interfaces file: parsing, rendering, staging, applying."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnode.errors import ApiError
from labnode.network.config import SEED, NetworkConfig
from labnode.network.interfaces import HEADER, parse, render
from labnode.store import Store

FULL = (
    HEADER
    + """\
auto lo
iface lo inet loopback

auto eno1
iface eno1 inet manual

auto eno2
iface eno2 inet manual
\tpost-up ethtool -K eno2 tso off

auto bond0
iface bond0 inet manual
\tbond-slaves eno1 eno2
\tbond-miimon 100
\tbond-mode 802.3ad
\tbond-xmit-hash-policy layer2+3
#two cables

auto vmbr0
iface vmbr0 inet static
\taddress 192.0.2.10/24
\tgateway 192.0.2.1
\tbridge-ports bond0
\tbridge-stp off
\tbridge-fd 0
\tbridge-vlan-aware yes
\tbridge-vids 2-4094
\tmtu 9000

iface vmbr0 inet6 static
\taddress 2001:db8::10/64
\tgateway 2001:db8::1

auto vmbr0.20
iface vmbr0.20 inet manual

iface guests inet manual
\tvlan-raw-device vmbr0
\tvlan-id 30

source /etc/network/interfaces.d/*
"""
)


def test_what_is_rendered_parses_to_the_same_and_renders_to_the_same_bytes() -> None:
    content = parse(FULL)
    assert render(content) == FULL
    assert parse(render(content)) == content


def test_types_and_values_are_those_of_the_api() -> None:
    ifaces = parse(FULL).ifaces
    assert {n: i["type"] for n, i in ifaces.items()} == {
        "lo": "loopback",
        "eno1": "eth",
        "eno2": "eth",
        "bond0": "bond",
        "vmbr0": "bridge",
        "vmbr0.20": "vlan",
        "guests": "vlan",
    }
    bridge = ifaces["vmbr0"]
    assert (bridge["address"], bridge["netmask"], bridge["cidr6"]) == ("192.0.2.10", "24", "2001:db8::10/64")
    assert (bridge["bridge_vlan_aware"], bridge["bridge_vids"], bridge["mtu"]) == (1, "2-4094", "9000")
    assert ifaces["vmbr0.20"]["vlan-id"] == "20" and ifaces["vmbr0.20"]["vlan-raw-device"] == "vmbr0"
    assert ifaces["eno2"]["options"] == ["post-up ethtool -K eno2 tso off"]
    assert ifaces["bond0"]["comments"] == "two cables\n"


@pytest.mark.parametrize(
    ("text", "interface"),
    [
        ("iface eth0 inet static\n address 192.0.2.7\n netmask 255.255.255.0\n", {"cidr": "192.0.2.7/24"}),
        ("iface bond1 inet manual\n slaves eth0\n bond_mode 1\n", {"bond_mode": "active-backup", "slaves": "eth0"}),
        ("iface vmbr1 inet manual\n bridge_ports none\n", {"bridge_ports": "", "bridge_fd": "0"}),
        ("iface vmbr2 inet manual\n\tovs_type OVSBridge\n\tovs_ports tap0\n", {"type": "OVSBridge"}),
    ],
)
def test_other_spellings(text: str, interface: dict[str, str]) -> None:
    (iface,) = parse(text).ifaces.values()
    assert interface.items() <= iface.items()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("iface vmbr8 inet manual\n bridge-ports nosuch0\n", "bridge 'vmbr8' - unable to find bridge port 'nosuch0'"),
        ("iface bond0 inet manual\n bond-slaves eno9\n", "bond 'bond0' - unable to find slave 'eno9'"),
    ],
)
def test_parts_that_do_not_exist_are_named(text: str, complaint: str) -> None:
    with pytest.raises(ApiError, match=complaint):
        render(parse(text))


def config(tmp_path: Path) -> NetworkConfig:
    network = NetworkConfig(Store(tmp_path), tmp_path / "etc/network", on_host=False)
    network.load()
    return network


async def test_changes_wait_beside_the_live_file_until_they_are_applied(tmp_path: Path) -> None:
    network = config(tmp_path)
    assert network.changes() is None and set(network.bridges()) == {"vmbr0"}
    async with network.staging() as content:
        content.add("vmbr7", {"type": "bridge", "method": "manual", "families": ["inet"], "autostart": 1})
    assert network.live_path.read_text() == SEED
    assert set(network.bridges()) == {"vmbr0"} and "vmbr7" in network.shown().ifaces
    assert "+auto vmbr7\n+iface vmbr7 inet manual\n+\tbridge-ports none\n" in (network.changes() or "")
    await network.apply()
    assert network.changes() is None and set(network.bridges()) == {"vmbr0", "vmbr7"}


async def test_a_change_that_fails_or_is_reverted_leaves_nothing(tmp_path: Path) -> None:
    network = config(tmp_path)
    with pytest.raises(ApiError, match="unable to find bridge port"):
        async with network.staging() as content:
            content.add("vmbr8", {"type": "bridge", "bridge_ports": "nosuch0"})
    assert not network.staged_path.exists()
    async with network.staging() as content:
        del content.ifaces["eno2"]
    await network.revert()
    assert network.changes() is None and "eno2" in network.shown().ifaces
