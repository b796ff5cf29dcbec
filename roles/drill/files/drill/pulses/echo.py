# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of which nothing is known but an address: whether it answers, by ICMP or by TCP. Nothing of its data."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable

from .. import clock
from ..canary import Ack, Heard
from ..plan import Pulse

# Nobody waits longer for one answer; the next question is another try.
WAIT_S = 1.0
# Of ICMP and of ICMPv6: a question, and what answers it.
_KINDS = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, socket.IPPROTO_ICMPV6)}
_HEAD = struct.Struct("!BBHHH")


class Echo:
    """The pulse of one guest, seen from its host."""

    def __init__(self, pulse: Pulse, heard: Heard, ends: threading.Event, note: Callable[[Ack], None]) -> None:
        self.pulse, self.heard, self._ends, self._note = pulse, heard, ends, note

    def live(self) -> None:
        """One question after the other, each ``every_s`` after the one before."""
        number = self.heard.acks[-1].seq if self.heard.acks else 0
        while not self._ends.is_set():
            began = clock.now()
            number += 1
            try:
                took = ask(self.pulse.address, self.pulse.port, number)
            except OSError as why:
                self.heard.trouble = f"{self.pulse.address}: {why.strerror or why}"
            else:
                self._note(Ack(clock.now(), number, "", round(took * 1000, 1), 0, 0))
            self._ends.wait(max(0.0, self.pulse.every_s - (clock.now() - began)))


def ask(address: str, port: int | None, number: int) -> float:
    """How long an answer took, in seconds. With a port a connection is opened and closed, else an echo is asked for.
    Raises OSError where none comes."""
    began = time.monotonic()
    if port is None:
        _echo(address, number & 0xFFFF)
    else:
        socket.create_connection((address, port), WAIT_S).close()
    return time.monotonic() - began


def _echo(address: str, number: int) -> None:
    family, _kind, _proto, _name, place = socket.getaddrinfo(address, None)[0]
    question, answer, protocol = _KINDS[socket.AddressFamily(family)]
    mark = os.urandom(16)
    with _door(socket.AddressFamily(family), protocol) as door:
        door.settimeout(WAIT_S)
        door.connect(place)
        door.send(_packet(question, number, mark))
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            data = door.recv(2048)
            # A raw socket has the header of IPv4 in front.
            if mark in data and data[-len(mark) - _HEAD.size] == answer:
                return
    raise TimeoutError("no answer")


def _door(family: socket.AddressFamily, protocol: int) -> socket.socket:
    """A socket for echoes: the kernel may let every user have one, or root alone."""
    try:
        return socket.socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        return socket.socket(family, socket.SOCK_RAW, protocol)


def _packet(kind: int, number: int, mark: bytes) -> bytes:
    head = _HEAD.pack(kind, 0, 0, os.getpid() & 0xFFFF, number)
    return _HEAD.pack(kind, 0, _checksum(head + mark), os.getpid() & 0xFFFF, number) + mark


def _checksum(data: bytes) -> int:
    """RFC 1071. The kernel puts another one in its place for ICMPv6, and on its own sockets."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
