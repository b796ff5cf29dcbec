# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an API answers, asked over one connection that is kept, for what nobody needs to log in for.

A connection that is accepted says little: the kernel accepts it for a service that hangs. A request is answered by the
service itself, and with the time by its host's clock.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections import deque
from email.utils import parsedate_to_datetime

from . import clock
from .probes import BROKE_OFF, Note, Probe, Prober, why
from .silence import Try

# The list from which a login page is made: anyone may read it, and no session or file of the node is needed for it.
PATH = "/api2/json/access/domains"
CONNECT_S = 0.5
PATIENCE_S = 1.0
# So that the answers fall upon all parts of a second in turn, which is what makes their dates exact.
OFF_S = 0.003
KEPT = 20


def ask(probes: tuple[Probe, ...], note: Note, ends: threading.Event) -> None:
    """Ask all of them until it is told to end; ``note`` is called from several threads."""
    others = [Web(probe, note) for probe in probes if probe.kind == "https"]
    threads = [threading.Thread(target=web.run, args=(ends,), daemon=True) for web in others]
    for thread in threads:
        thread.start()
    Prober(probes, note).run(ends)
    for thread in threads:
        thread.join()


class Web:
    """Asks until it is told to end: again after ``every_s``, and after an answer that took its time, later. Nothing is
    sent that is worth knowing, so the certificate is not looked at."""

    def __init__(self, probe: Probe, note: Note) -> None:
        self.probe, self.note = probe, note
        self.took: deque[float] = deque(maxlen=KEPT)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self._line: http.client.HTTPConnection | None = None

    def run(self, ends: threading.Event) -> None:
        pause = 0.0
        while not ends.wait(pause):
            at = clock.now()
            found = self._ask(at)
            self.note(self.probe.name, found)
            took = clock.now() - at
            # A service that is slow is asked less often, or the question would be what slows it down.
            slow = 2 * took if found.ms is not None and took > self.probe.every_s / 2 else 0.0
            pause = max(self.probe.every_s - OFF_S - took, slow, 0.0)
        self._close()

    def _ask(self, at: float) -> Try:
        fresh = self._line is None
        try:
            return self._exchange(at)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            # One that was kept may have been closed meanwhile, which says nothing.
            if not fresh and not isinstance(error, TimeoutError):
                return self._ask(at)
            broken = isinstance(error, ssl.SSLError | http.client.HTTPException) and not isinstance(error, TimeoutError)
            return Try(at, None, BROKE_OFF if broken or not isinstance(error, OSError) else why(error))

    def _exchange(self, at: float) -> Try:
        line = self._line or self._connect()
        line.sock.settimeout(max(PATIENCE_S, 4 * max(self.took, default=0.0)))
        line.request("GET", PATH)
        answer = line.getresponse()
        answer.read()
        now = clock.now()
        self.took.append(now - at)
        if answer.will_close:
            self._close()
        return Try(at, (now - at) * 1000, date=_date(answer.getheader("Date")))

    def _connect(self) -> http.client.HTTPConnection:
        plain = socket.create_connection((self.probe.to, self.probe.port), timeout=CONNECT_S)
        plain.settimeout(max(PATIENCE_S, 4 * max(self.took, default=0.0)))
        try:
            line = http.client.HTTPConnection(self.probe.to, self.probe.port)
            line.sock = self.context.wrap_socket(plain)
        except OSError:
            plain.close()
            raise
        self._line = line
        return line

    def _close(self) -> None:
        if self._line:
            self._line.close()
            self._line = None


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
