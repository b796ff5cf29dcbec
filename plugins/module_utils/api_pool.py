# SPDX-License-Identifier: GPL-3.0-or-later
"""Several lines to the API for work in several threads, each with a connection that is kept, and one login for all."""

from __future__ import annotations

import ssl
import threading
from functools import lru_cache

from .api_https import HttpsWire
from .api_login import SharedLogin, login_for
from .api_options import Settings
from .api_tls import context
from .api_wire import Reply, Request


class Pool:
    """A Wire for many threads. A request takes the line that was used last, so that few are open when little goes on.

    There are as many lines as there were requests at the same time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._login = SharedLogin(login_for(settings))
        # Reading the certificates of the machine takes longer than a connection.
        self._trust = lru_cache(maxsize=1)(context)
        self._lock = threading.Lock()
        self._all: list[HttpsWire] = []
        self._idle: list[HttpsWire] = []
        self.user = settings.identity
        self.skew_s = 0.0

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"https://{self._settings.hosts[0]}"

    def send(self, request: Request) -> Reply:
        """Send through a line of one's own. Raises as Wire says."""
        line = self._line()
        try:
            return line.send(request)
        finally:
            self.skew_s = line.skew_s
            with self._lock:
                self._idle.append(line)

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            for line in self._all:
                line.close()

    def _line(self) -> HttpsWire:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            line = HttpsWire(self._settings, login=self._login, trust=self._shared_trust)
            self._all.append(line)
            return line

    def _shared_trust(self, settings: Settings) -> ssl.SSLContext:
        with self._lock:
            return self._trust(settings)
