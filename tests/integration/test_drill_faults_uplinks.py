# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the host's own connection, and of where its node keeps its configuration, with stand-ins of programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, package, program, takes, wanted
from ansible_collections.pvelab.proxmox.tests.integration.drill_worlds_host import Bond, Management, ReadOnly


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(request: pytest.FixtureRequest, drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A world in which nobody lives: its files and programs are all that is wanted."""
    return request.param(drill, tmp_path, monkeypatch)


def fault(host: Any, **options: Any) -> Any:
    data = wanted(host.folder, **host.wanted())
    data["fault"]["options"] |= options
    made = host.drill.faults.prepare(host.drill.plan.from_json(data), host.node)
    for text in (made.inject, made.undo):
        takes(text)
    return made


def do(host: Any, text: str) -> None:
    assert host.drill.shell.run(["/bin/sh", "-ec", text], timeout_s=20) == ""


def looks(made: Any) -> list[str]:
    return [line for look in made.looks.values() for line in look()]


def trouble(host: Any, words: str) -> Any:
    return pytest.raises(host.drill.shell.Trouble, match=words)


def skip(host: Any, words: str) -> Any:
    return pytest.raises(host.drill.faults.fault.Skip, match=words)


# a bond -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [Bond], indirect=True)
def test_a_bond_that_loses_a_leg_and_gets_it_back(host: Any) -> None:
    made = fault(host)
    assert made.targets == ("eno2 of bond0, of which eno2, eno3 are up",)
    before = looks(made)
    assert before == ["eno2 up", "eno3 up", "active eno2"]
    do(host, made.undo)
    assert looks(made) == before and made.signs[0].test(None, 0.0) is None
    do(host, made.inject)
    assert looks(made) == ["eno2 down", "eno3 up", "active eno3"]
    assert made.signs[0].test(None, 0.0) == "eno2 is down, bond0 is up with eno3; 1 failure of the link"
    with trouble(host, "eno2 of bond0 is down"):
        made.whole()
    for _time in range(2):
        do(host, made.undo)
        assert looks(made) == before
    do(host, made.inject)
    host.put({"net/eno3/bonding_slave/mii_status": "down"})
    assert made.signs[0].test(None, 0.0) is None, "nothing carries it any more"
    (host.folder / "net/eno2").rename(host.folder / "gone")
    assert made.signs[0].test(None, 0.0) is None
    do(host, made.undo)


@pytest.mark.parametrize("host", [Bond], indirect=True)
def test_a_leg_that_does_not_come_up_again_is_told(host: Any) -> None:
    host.have("faults.uplinks.UP_TRIES", 2)
    made = fault(host)
    do(host, made.inject)
    program(host.systemd.programs / "ip", "#!/bin/sh\n")
    with trouble(host, "ended with 1"):
        do(host, made.undo)


@pytest.mark.parametrize("host", [Bond], indirect=True)
def test_a_bond_that_is_left_alone(host: Any) -> None:
    with trouble(host, "there is bond0 on this host; name one of them with the option bond"):
        fault(host, bond="bond7")
    with trouble(host, "eno9 is to go down, and of bond0 eno2, eno3 is up"):
        fault(host, member="eno9")
    assert fault(host, member="eno3").targets[0].startswith("eno3 of bond0")
    host.put({"net/bond0/bonding/miimon": 0})
    with trouble(host, r"bond0 does not watch its links .* give it bond-miimon 100"):
        fault(host)
    host.put({"net/eno3/bonding_slave/mii_status": "down"})
    with trouble(host, "eno2 is to go down, and of bond0 eno2 is up; have that leg and another one up first"):
        fault(host)
    (host.folder / "net/bond0").rename(host.folder / "gone")
    with skip(host, "there is no bond on this host"):
        fault(host)


# an address -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [Management], indirect=True)
def test_an_address_that_is_taken_away_and_given_back(host: Any) -> None:
    made = fault(host)
    assert made.targets == ("address 192.0.2.5/24 of vmbr0, and nothing in its place",)
    before = looks(made)
    assert before == [
        "192.0.2.5/24",
        "192.0.2.0/24 proto kernel scope link src 192.0.2.5 linkdown",
        "default via 192.0.2.1 proto kernel onlink",
    ]
    do(host, made.undo)
    assert looks(made) == before and made.signs[0].test(None, 0.0) is None
    do(host, made.inject)
    assert looks(made) == []
    assert made.signs[0].test(None, 0.0) == "vmbr0 has none"
    with trouble(host, r"vmbr0 does not have 192\.0\.2\.5 back"):
        made.whole()
    for _time in range(2):
        do(host, made.undo)
        assert looks(made) == before
        made.whole()
    assert made.signs[0].name == "192.0.2.5 is no address of this host any more"


@pytest.mark.parametrize("host", [Management], indirect=True)
def test_another_address_is_there_meanwhile_and_goes_again(host: Any) -> None:
    made = fault(host, instead="192.0.2.77/24")
    assert made.targets == ("address 192.0.2.5/24 of vmbr0, 192.0.2.77/24 in its place",)
    assert made.inject.splitlines() == ["ip addr del 192.0.2.5/24 dev vmbr0", "ip addr add 192.0.2.77/24 dev vmbr0"]
    assert "ip addr del 192.0.2.77/24 dev vmbr0" in made.undo
    do(host, made.undo)


@pytest.mark.parametrize("host", [Management], indirect=True)
def test_an_address_that_is_not_taken_away(host: Any) -> None:
    ip = (host.systemd.programs / "ip").read_text()
    with trouble(host, "vmbr0 has no 192.0.2.6; there is 192.0.2.5"):
        fault(host, address="192.0.2.6")
    for change, refused in (
        (('"scope": "global"}', '"scope": "global", "dynamic": true}'), skip(host, "is a lease, and whoever keeps it")),
        (('[{"dst": "default", "dev": "vmbr0"}]', "[]"), trouble(host, "this host has no default route")),
    ):
        program(host.systemd.programs / "ip", ip.replace(*change))
        with refused:
            fault(host)
    program(host.systemd.programs / "ip", ip)
    host.put({"units/corosync": "ActiveState=active"})
    with skip(host, r"one of a cluster \(corosync runs\)"):
        fault(host)


@pytest.mark.parametrize("host", [Management], indirect=True)
def test_a_second_address_of_the_same_network_would_go_along(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"family": "inet", "local": "192.0.2.5", "prefixlen": 24, "scope": "global"}
    rows = [row, {**row, "local": "192.0.2.6"}]
    monkeypatch.setattr(host.drill.faults.uplinks, "_rows", lambda _device: rows)
    with skip(host, r"vmbr0 has 192\.0\.2\.6 in 192\.0\.2\.0/24, too"):
        fault(host)
    rows[1] = {**row, "local": "198.51.100.6"}
    assert fault(host).targets


# the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [ReadOnly], indirect=True)
def test_a_configuration_that_cannot_be_written_and_can_again(host: Any) -> None:
    made = fault(host)
    path = host.folder / "etc-of-a-node"
    assert looks(made) == [f"{path} is no mount"]
    do(host, made.undo)
    assert looks(made) == [f"{path} is no mount"] and made.signs[0].test(None, 0.0) is None
    made.whole()
    do(host, made.inject)
    assert looks(made) == [f"{path} ro relatime"]
    assert made.signs[0].test(None, 0.0) == "answers 500 unable to write '103.conf' - Read-only file system"
    with trouble(host, "the node does not write the configuration of guest 101 yet: .* Read-only file system"):
        made.whole()
    for _time in range(2):
        do(host, made.undo)
        assert looks(made) == [f"{path} is no mount"]
    made.whole()


@pytest.mark.parametrize("host", [ReadOnly], indirect=True)
def test_a_file_system_of_its_own_is_only_made_read_only_for_a_while(host: Any) -> None:
    path = host.folder / "etc-of-a-node"
    row = f"50 20 0:44 / {path} rw,relatime - fuse /dev/fuse rw"
    host.put({"mounts": f"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n{row}\n60 20 0:9 {path} /elsewhere ro - ext4 x ro"})
    program(host.systemd.programs / "mount", MOUNT)
    made = fault(host)
    assert "--bind" not in made.inject and "umount" not in made.undo
    for text, options in ((made.undo, "rw"), (made.inject, "ro"), (made.undo, "rw"), (made.undo, "rw")):
        do(host, text)
        assert looks(made) == [f"{path} {options} relatime"]
    sign = made.signs[0]
    do(host, made.inject)
    assert re.search("Read-only file system", sign.test(None, 0.0))
    with trouble(host, "is read-only already; have it writable first"):
        fault(host)


MOUNT = """#!/bin/sh
[ "${2%,*}" = remount,bind ] || exit 64
sed -i "s| $3 r[ow],| $3 ${2##*,},|" "$W/mounts"
"""


@pytest.mark.parametrize("host", [ReadOnly], indirect=True)
def test_a_configuration_that_is_left_alone(host: Any) -> None:
    with skip(host, "there is no /none/such on this host; name where the node keeps its"):
        fault(host, path="/none/such")
    with trouble(host, "/ is the host's root file system"):
        fault(host, path="/")
    program(host.systemd.programs / "mount", "#!/bin/sh\nexit 32\n")
    host.have("faults.config.TRIES", 2)
    made = fault(host)
    with trouble(host, "ended with"):
        do(host, made.inject)
    do(host, made.undo)
