# SPDX-License-Identifier: GPL-3.0-or-later
"""The network links of the host as the kernel tells of them (rtnetlink): which there are, whether each has a carrier,
of which bridge it is a port, and with which VLANs; what `bridge -j link` and `bridge -j vlan` show.

The kernel tells of a change by itself, at the moment at which it makes it, so nobody has to look again and again.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

# linux/rtnetlink.h, if_link.h, if_bridge.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST_DUMP = 0x301
RTMGRP_LINK = 1
IFLA_IFNAME, IFLA_MASTER, IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_CARRIER = 3, 10, 26, 29, 33
BRIDGE_VLAN_INFO = 2
VLANS_IN_RANGES = 4
PVID, RANGE_BEGIN, RANGE_END = 2, 8, 16
HEAD, LINK, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=HH")
# As Proxmox VE names what belongs to a guest: its tap, or the pair of its firewall's bridge.
OF_GUEST = re.compile(r"(?:tap|veth|fwpr|fwln|fwbr)(\d+)[ip]\d+")
ALL, BRIDGED = 0, 7


@dataclass(frozen=True)
class Link:
    """One link. ``master`` is the number of its bridge, 0 where it has none; ``vlans`` are as in "1-20, 30 pvid"."""

    name: str
    carrier: bool | None = None
    master: int = 0
    vlans: str = ""


class Links:
    """What is known of the links. ``told`` takes what a netlink socket has received, and says what has changed."""

    def __init__(self) -> None:
        self.known: dict[int, Link] = {}

    def told(self, data: bytes) -> Iterator[tuple[str, str]]:
        """For each change, the link's name and a sentence."""
        for kind, number, family, found in _messages(data):
            if kind == RTM_DELLINK:
                yield from self._less(number, family)
                continue
            before = self.known.get(number)
            after = self._merged(number, before or Link(found.name), family, found)
            self.known[number] = after
            if before != after:
                yield from self._differences(before, after)

    def _merged(self, number: int, before: Link, family: int, found: Link) -> Link:
        """A bridge tells of a port's VLANs, and of itself as if it were its own port; the rest a link tells itself."""
        if family == BRIDGED:
            return replace(before, master=0 if found.master == number else found.master, vlans=found.vlans)
        left = before.master and not found.master
        return replace(found, vlans="" if left else before.vlans)

    def _less(self, number: int, family: int) -> Iterator[tuple[str, str]]:
        before = self.known.get(number)
        if before is None:
            return
        if family == BRIDGED:
            # It is no port any more; the link itself may well be there.
            self.known[number] = after = replace(before, master=0, vlans="")
            yield from self._differences(before, after)
        else:
            del self.known[number]
            yield before.name, f"{before.name} is gone"

    def _differences(self, before: Link | None, after: Link) -> Iterator[tuple[str, str]]:
        if before is None:
            yield after.name, f"{after.name} is there{self._port_of(after)}"
            return
        if before.name != after.name:
            yield after.name, f"{before.name} is called {after.name}"
        if before.carrier != after.carrier and after.carrier is not None:
            yield after.name, f"{after.name} has {'a' if after.carrier else 'no'} carrier"
        if before.master != after.master:
            was = f"is no port of {self._called(before.master)} any more" if before.master else ""
            yield after.name, f"{after.name} {' and '.join(filter(None, [was, self._port_of(after)[2:]]))}"
        elif before.vlans != after.vlans:
            yield after.name, f"{after.name} has VLAN {after.vlans or 'none'}, and had {before.vlans or 'none'}"

    def _port_of(self, link: Link) -> str:
        return f", is a port of {self._called(link.master)}" if link.master else ""

    def _called(self, number: int) -> str:
        return self.known[number].name if number in self.known else f"link {number}"


def guest(name: str) -> int | None:
    """Whose link it is."""
    found = OF_GUEST.fullmatch(name)
    return int(found[1]) if found else None


def follow(note: Callable[[str, str], None], ends: threading.Event) -> None:
    """Note each change until it is told to end: the link's name and a sentence, without a name where what has changed
    cannot be known."""
    try:
        line, known = _told_of(), there()
    except OSError as why:
        note("", f"the host's network links cannot be watched: {why.strerror}")
        return
    with line:
        while not ends.is_set():
            if not select.select([line], [], [], 0.5)[0]:
                continue
            try:
                data = line.recv(1 << 18)
            except OSError as why:  # more has happened than the socket holds
                note("", f"changes of the host's network links were missed: {why.strerror}")
                continue
            for name, text in known.told(data):
                note(name, text)


def _told_of() -> socket.socket:
    """A socket on which the kernel tells of every change. Raises OSError."""
    line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    line.bind((0, RTMGRP_LINK))
    return line


def there() -> Links:
    """All links as they are now. Raises OSError."""
    made = Links()
    for family in (ALL, BRIDGED):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as line:
            line.settimeout(5.0)
            line.send(_ask(family))
            while not _ended(data := line.recv(1 << 18)):
                for _change in made.told(data):
                    pass
    return made


def _ask(family: int) -> bytes:
    mask = ATTRIBUTE.pack(8, IFLA_EXT_MASK) + struct.pack("=I", VLANS_IN_RANGES)
    body = LINK.pack(family, 0, 0, 0, 0) + mask
    return HEAD.pack(HEAD.size + len(body), RTM_GETLINK, REQUEST_DUMP, 1, 0) + body


def _ended(data: bytes) -> bool:
    return HEAD.unpack_from(data)[1] in (NLMSG_DONE, NLMSG_ERROR)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, Link]]:
    """Kind, number of the link, family, and what is said of it."""
    at = 0
    while at + HEAD.size <= len(data):
        length, kind, _flags, _seq, _port = HEAD.unpack_from(data, at)
        if not HEAD.size + LINK.size <= length <= len(data) - at:
            return
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            body = data[at + HEAD.size : at + length]
            family, _type, number, _flags, _change = LINK.unpack_from(body)
            yield kind, number, family, _link(dict(_attributes(body[LINK.size :])))
        at += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            return
        # The highest two bits say how it is packed, not what it is.
        yield kind & 0x3FFF, data[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _link(said: dict[int, bytes]) -> Link:
    master = said.get(IFLA_MASTER)
    carrier = said.get(IFLA_CARRIER)
    return Link(
        os.fsdecode(said.get(IFLA_IFNAME, b"").rstrip(b"\0")),
        None if carrier is None else bool(carrier[0]),
        0 if master is None else int(struct.unpack("=I", master)[0]),
        _vlans(said.get(IFLA_AF_SPEC, b"")),
    )


def _vlans(data: bytes) -> str:
    found, begun = [], 0
    for kind, value in _attributes(data):
        if kind != BRIDGE_VLAN_INFO or len(value) != 4:
            continue
        flags, vlan = struct.unpack("=HH", value)
        if flags & RANGE_BEGIN:
            begun = vlan
            continue
        text = f"{begun}-{vlan}" if flags & RANGE_END else str(vlan)
        found.append(f"{text} pvid" if flags & PVID else text)
    return ", ".join(found)
