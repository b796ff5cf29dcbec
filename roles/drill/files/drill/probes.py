# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers: connections that are opened, first words that are waited for, and pings, up to ten times a second.

A try does not wait for the one before, so that a line that is back is seen at once, and not when the kernel next
repeats what was lost.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import clock
from .shell import Trouble
from .silence import Try

KINDS = ("tcp", "banner", "ping", "https")
MOST_HZ = 10.0
PATIENCE_S = {"tcp": 1.0, "ping": 1.0, "banner": 5.0}
# ICMP and ICMPv6 echo: what is asked, and what is answered.
ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
SILENT, REFUSED, UNREACHABLE, BROKE_OFF = "silent", "refused", "unreachable", "broke off"
WHY = {
    errno.ECONNREFUSED: REFUSED,
    errno.ETIMEDOUT: SILENT,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: UNREACHABLE,
    errno.ECONNRESET: BROKE_OFF,
}
Note = Callable[[str, Try], None]


@dataclass(frozen=True)
class Probe:
    """One thing to ask. ``kind``: tcp (a connection is accepted), banner (and whoever accepts it says something first,
    as SSH does), ping, or https (a request is answered, whatever the answer is). ``host``: the drill's host itself is
    asked."""

    name: str
    to: str
    kind: str
    port: int
    every_s: float
    host: bool = False

    @property
    def address(self) -> str:
        """As people write it."""
        host = f"[{self.to}]" if ":" in self.to and self.kind != "ping" else self.to
        return host if self.kind == "ping" else f"{host}:{self.port}"

    def told(self) -> dict[str, Any]:
        """What a journal says of it."""
        return {name: getattr(self, name) for name in ("name", "kind", "address", "host", "every_s")}


def from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Probe, ...]:
    """Probes as a plan has them: ``{name, to, hz}``, and ``ping: true`` or one of tcp, banner and https with the port.
    Raises Trouble where one is none, or two have the same name."""
    made = tuple(map(_probe, rows))
    if len({probe.name for probe in made}) < len(made):
        raise Trouble(f"two probes have the same name: {', '.join(sorted(probe.name for probe in made))}")
    return made


def _probe(row: Mapping[str, Any]) -> Probe:
    kinds = [kind for kind in KINDS if row.get(kind)]
    if len(kinds) != 1 or not row.get("to"):
        raise Trouble(f"probe {row.get('name') or row} needs 'to', and one of tcp: PORT, banner: PORT, ping: true")
    (kind,) = kinds
    hz = float(row.get("hz") or MOST_HZ)
    if not 0 < hz <= MOST_HZ:
        raise Trouble(f"probe {row.get('name')}: hz is {hz:g}, and may be up to {MOST_HZ:g}")
    port = 0 if kind == "ping" else int(row[kind])
    name = str(row.get("name") or f"{row['to']} {kind}{f' {port}' if port else ''}")
    return Probe(name, str(row["to"]), kind, port, round(1 / hz, 4), bool(row.get("host")))


@dataclass
class _Open:
    """A try that is under way on a socket of its own."""

    probe: Probe
    line: socket.socket
    at: float


class Prober:
    """Asks all probes but those of https until it is told to end; ``note`` gets each try with its probe's name."""

    def __init__(self, probes: Iterable[Probe], note: Note) -> None:
        self.probes, self.note = tuple(probe for probe in probes if probe.kind != "https"), note
        self._due: dict[Probe, float] = {}
        self._open: list[_Open] = []
        self._pings: dict[Probe, _Ping] = {}
        self._known: dict[Probe, tuple[Any, ...]] = {}

    def run(self, ends: threading.Event) -> None:
        self._due = dict.fromkeys(self.probes, clock.now())
        with selectors.DefaultSelector() as selector:
            while self.probes and not ends.is_set():
                now = clock.now()
                for probe in [probe for probe, due in self._due.items() if due <= now]:
                    self._due[probe] = max(self._due[probe] + probe.every_s, now)
                    self._begin(probe, selector)
                for key, _mask in selector.select(max(0.0, min(self._due.values()) - clock.now())):
                    self._advance(key, selector)
                self._give_up(selector)
            for key in list(selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()

    def _begin(self, probe: Probe, selector: selectors.BaseSelector) -> None:
        at = clock.now()
        try:
            if probe.kind == "ping":
                self._pinger(probe, selector).send(at)
                return
            # A name is looked up once, or its server would be what is measured.
            if probe not in self._known:
                self._known[probe] = socket.getaddrinfo(probe.to, probe.port, type=socket.SOCK_STREAM)[0]
            family, kind, proto, _name, address = self._known[probe]
            line = socket.socket(family, kind, proto)
            line.setblocking(False)
            code = line.connect_ex(address)
        except OSError as error:
            self.note(probe.name, Try(at, None, why(error)))
            return
        if code not in (0, errno.EINPROGRESS):
            line.close()
            self.note(probe.name, Try(at, None, why(OSError(code, os.strerror(code)))))
            return
        one = _Open(probe, line, at)
        self._open.append(one)
        selector.register(line, selectors.EVENT_WRITE, one)

    def _pinger(self, probe: Probe, selector: selectors.BaseSelector) -> _Ping:
        found = self._pings.get(probe)
        if found is None:
            found = self._pings[probe] = _pinging(probe)
            selector.register(found.line, selectors.EVENT_READ, found)
        return found

    def _advance(self, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
        now = clock.now()
        if isinstance(key.data, _Ping):
            for answer in key.data.answers(now):
                self.note(key.data.probe.name, answer)
            return
        one: _Open = key.data
        code = one.line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._end(one, selector, Try(one.at, None, why(OSError(code, os.strerror(code)))))
        elif one.probe.kind == "banner" and key.events == selectors.EVENT_WRITE:
            selector.modify(one.line, selectors.EVENT_READ, one)
        elif one.probe.kind == "banner" and not _said(one.line):
            self._end(one, selector, Try(one.at, None, BROKE_OFF))
        else:
            self._end(one, selector, Try(one.at, (now - one.at) * 1000))

    def _give_up(self, selector: selectors.BaseSelector) -> None:
        now = clock.now()
        for one in [one for one in self._open if now - one.at > PATIENCE_S[one.probe.kind]]:
            self._end(one, selector, Try(one.at, None, SILENT))
        for probe, ping in self._pings.items():
            for at in ping.lost(now):
                self.note(probe.name, Try(at, None, SILENT))

    def _end(self, one: _Open, selector: selectors.BaseSelector, result: Try) -> None:
        selector.unregister(one.line)
        one.line.close()
        self._open.remove(one)
        self.note(one.probe.name, result)


@dataclass
class _Ping:
    """Echo requests to one address; each carries a number by which its answer is known. ``raw``: answers come with
    their IP header."""

    probe: Probe
    line: socket.socket
    family: socket.AddressFamily
    raw: bool
    token: bytes
    number: int = 0
    waiting: dict[int, float] = field(default_factory=dict)

    def send(self, at: float) -> None:
        self.number += 1
        body = self.token + struct.pack("!I", self.number)
        rest = struct.pack("!HH", os.getpid() & 0xFFFF, self.number & 0xFFFF) + body
        head = bytes((ECHO[self.family][0], 0))
        self.waiting[self.number] = at
        self.line.send(head + struct.pack("!H", _sum(head + rest)) + rest)

    def answers(self, now: float) -> Iterable[Try]:
        while True:
            try:
                data = self.line.recv(2048)
            except BlockingIOError:
                return
            except OSError as error:  # a router says that nobody is there; all that wait are meant
                yield from [Try(at, None, why(error)) for at in self._forget(lambda _at: True)]
                return
            head = (data[0] & 15) * 4 if self.raw and self.family == socket.AF_INET else 0
            if data[head] == ECHO[self.family][1] and data[-8:-4] == self.token:
                began = self.waiting.pop(struct.unpack("!I", data[-4:])[0], None)
                if began is not None:
                    yield Try(began, (now - began) * 1000)

    def lost(self, now: float) -> list[float]:
        """When those were sent that are not waited for any more."""
        return self._forget(lambda at: now - at > PATIENCE_S["ping"])

    def _forget(self, which: Callable[[float], bool]) -> list[float]:
        found = {number: at for number, at in self.waiting.items() if which(at)}
        for number in found:
            del self.waiting[number]
        return list(found.values())


def _pinging(probe: Probe) -> _Ping:
    """Raises OSError where this user may send none (net.ipv4.ping_group_range), or the name is not known."""
    family, _kind, _proto, _name, address = socket.getaddrinfo(probe.to, None, type=socket.SOCK_DGRAM)[0]
    proto = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    raw = False
    try:
        line = socket.socket(family, socket.SOCK_DGRAM, proto)
    except PermissionError:
        line, raw = socket.socket(family, socket.SOCK_RAW, proto), True
    line.setblocking(False)
    try:
        line.connect(address)
    except OSError:
        line.close()
        raise
    return _Ping(probe, line, family, raw, os.urandom(4))


def why(error: OSError) -> str:
    """Why there was no answer, in a word or few."""
    if isinstance(error, TimeoutError):
        return SILENT
    return WHY.get(error.errno or 0, error.strerror or type(error).__name__)


def _said(line: socket.socket) -> bool:
    try:
        return bool(line.recv(256))
    except OSError:
        return False


def _sum(data: bytes) -> int:
    """The checksum of ICMP; that of ICMPv6 the kernel makes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
