# SPDX-License-Identifier: GPL-3.0-or-later
"""Network links of a host: what the kernel tells of them, put into words."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import Package, package, soon


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(number: int, name: str, family: int = 0, kind: int = 16, **more: Any) -> bytes:
    """What the kernel says of a link; ``vlans`` are (flags, id)."""
    said = attribute(3, name.encode() + b"\0")
    if "carrier" in more:
        said += attribute(33, bytes([more["carrier"]]))
    if "master" in more:
        said += attribute(10, struct.pack("=I", more["master"]))
    if "vlans" in more:
        said += attribute(26 | 0x8000, b"".join(attribute(2, struct.pack("=HH", *row)) for row in more["vlans"]))
    body = struct.pack("=BxHiII", family, 1, number, 0, 0) + said
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


BRIDGE, NEW, GONE = 7, 16, 17
PORT = {"family": BRIDGE, "master": 4}


@pytest.fixture
def known(drill: Package) -> Any:
    made = drill.links.Links()
    first = message(4, "vmbr1", carrier=1) + message(9, "tap103i0", carrier=1, master=4)
    first += message(4, "vmbr1", family=BRIDGE, master=4, vlans=[(6, 1)])
    first += message(9, "tap103i0", **PORT, vlans=[(6, 10), (8, 20), (16, 29)])
    told = [text for _name, text in made.told(first)]
    assert told[:2] == ["vmbr1 is there", "tap103i0 is there, is a port of vmbr1"]
    assert made.known[9].vlans == "10 pvid, 20-29"
    return made


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (message(9, "tap103i0", carrier=1, master=4), []),
        (message(4, "vmbr1", family=BRIDGE, master=4, vlans=[(6, 1)]), []),
        (message(9, "tap103i0", carrier=0, master=4), ["tap103i0 has no carrier"]),
        (message(9, "tap103i0", **PORT, vlans=[(6, 20)]), ["tap103i0 has VLAN 20 pvid, and had 10 pvid, 20-29"]),
        (message(9, "tap103i0", **PORT), ["tap103i0 has VLAN none, and had 10 pvid, 20-29"]),
        (
            message(9, "tap103i0", **PORT, kind=GONE) + message(9, "tap103i0", carrier=1),
            ["tap103i0 is no port of vmbr1 any more"],
        ),
        (
            message(9, "tap103i0", carrier=1, master=7),
            ["tap103i0 is no port of vmbr1 any more and is a port of link 7"],
        ),
        (message(9, "tap103i0", carrier=1, master=4, kind=GONE), ["tap103i0 is gone"]),
        (message(12, "tap104i0", kind=GONE), []),
        (message(12, "eno3", carrier=1), ["eno3 is there"]),
        (message(9, "lan0", carrier=1, master=4), ["tap103i0 is called lan0"]),
        (message(9, "tap103i0", carrier=0, master=4)[:30], []),
        (b"", []),
    ],
)
def test_what_the_kernel_tells_of_links_is_put_into_words(known: Any, data: bytes, told: list[str]) -> None:
    assert [text for _name, text in known.told(data)] == told


@pytest.mark.parametrize(
    ("name", "vmid"),
    [("tap103i0", 103), ("fwpr101p1", 101), ("fwbr9000i0", 9000), ("veth200i0", 200), ("vmbr1", None), ("eno1", None)],
)
def test_whose_link_it_is(drill: Package, name: str, vmid: int | None) -> None:
    assert drill.links.guest(name) == vmid


def test_links_of_this_host_are_followed(drill: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real kernel says which links there are; what then changes is told by a stand-in."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    noted: list[tuple[str, str]] = []
    ends = threading.Event()
    monkeypatch.setattr(drill.links, "_told_of", lambda: here)
    thread = threading.Thread(target=drill.links.follow, args=(lambda *told: noted.append(told), ends))
    thread.start()
    there.send(message(99999, "tap103i0", carrier=1))
    there.send(message(1, "lo", carrier=0))
    soon(lambda: len(noted) > 1, "both are told")
    ends.set()
    thread.join(10)
    there.close()
    assert ("tap103i0", "tap103i0 is there") in noted
    assert ("lo", "lo has no carrier") in noted, "that lo is there was known"


def test_a_host_that_does_not_let_us_look_at_its_links(drill: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(drill.links, "_told_of", refused)
    noted: list[tuple[str, str]] = []
    drill.links.follow(lambda *told: noted.append(told), threading.Event())
    assert noted == [("", "the host's network links cannot be watched: Operation not permitted")]
