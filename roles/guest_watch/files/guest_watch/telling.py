# SPDX-License-Identifier: GPL-3.0-or-later
"""How people are told: by webhook and mail, from an outbox on disk that outlives a restart."""

from __future__ import annotations

import http.client
import json
import logging
import os
import smtplib
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from .alerts import Event

# What waits to be sent; the oldest goes when there is more, and the log says so.
MOST = 1000
FIRST_S, LAST_S = 5.0, 300.0
logger = logging.getLogger("guest_watch")
Channel = Callable[[Mapping[str, Any]], None]


def message(event: Event, host: str) -> dict[str, Any]:
    """An event as it is sent: its fields, the host, and ``text``, which chat systems show."""
    mark = {"raised": "ALERT", "changed": "ALERT", "reminder": "STILL", "cleared": "OK"}[event.event]
    lasted = f" (after {event.seconds:.0f} s)" if event.event in ("cleared", "reminder") else ""
    says = f"[{mark}] {host}: {'over: ' if event.event == 'cleared' else ''}{event.text}{lasted}"
    return {**asdict(event), "host": host, "alert": event.text, "text": says}


def webhook(url: str, headers: Mapping[str, str], timeout_s: float = 10.0) -> Channel:
    """Posts each message as JSON. An answer of 400 and more is a failure, as is none (OSError)."""

    def send(what: Mapping[str, Any]) -> None:
        body = json.dumps(what).encode()
        given = {"Content-Type": "application/json", "User-Agent": "pvelab-guest-watch", **headers}
        request = urllib.request.Request(url, body, given, method="POST")
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            answer.read()

    return send


def mail(receivers: Sequence[str], sender: str, server: str, timeout_s: float = 30.0) -> Channel:
    """Hands each message to a mail server, HOST or HOST:PORT; one that refuses it is an OSError."""
    host, _colon, port = server.partition(":")

    def send(what: Mapping[str, Any]) -> None:
        letter = EmailMessage()
        letter["To"], letter["From"] = ", ".join(receivers), sender
        letter["Subject"] = str(what["text"]).splitlines()[0][:200]
        letter["Date"] = format_datetime(datetime.fromtimestamp(float(what["at"]), UTC))
        since = datetime.fromtimestamp(float(what["since"]), UTC).isoformat(" ", "seconds")
        letter.set_content(f"{what['text']}\n\nSince: {since}\nKind: {what['key']}, {what['severity']}\n")
        with smtplib.SMTP(host, int(port or 25), timeout=timeout_s) as connection:
            connection.send_message(letter)

    return send


class Outbox:
    """One channel's messages, oldest first, each in a file of its own until it has been sent."""

    def __init__(self, directory: Path, channel: Channel) -> None:
        self.directory, self.channel = directory, channel
        self._wake, self._ends = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"send-{directory.name}", daemon=True)
        directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, what: Mapping[str, Any]) -> None:
        """Keep a message until it has been sent."""
        waiting = self.waiting()
        for old in waiting[: max(0, len(waiting) - MOST + 1)]:
            logger.error(
                "%s: too much waits to be sent, so this is thrown away: %s", self.directory.name, old.read_text()
            )
            old.unlink(missing_ok=True)
        last = int(waiting[-1].stem) if waiting else 0
        name = f"{max(last + 1, time.time_ns()):020}"
        draft = self.directory / f"{name}.new"
        draft.write_text(json.dumps(what), encoding="utf-8")
        os.replace(draft, self.directory / f"{name}.json")
        self._wake.set()

    def waiting(self) -> list[Path]:
        """What has not been sent."""
        return sorted(self.directory.glob("*.json"))

    def stop(self, timeout_s: float) -> None:
        """Send what can be sent in that time; the rest stays."""
        self._ends.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        pause = FIRST_S
        while True:
            self._wake.clear()
            sent = self._send_all()
            pause = FIRST_S if sent else min(pause * 2, LAST_S)
            if self._ends.is_set():
                return
            self._wake.wait(None if sent else pause)

    def _send_all(self) -> bool:
        for path in self.waiting():
            try:
                self.channel(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, http.client.HTTPException) as error:
                logger.warning("%s: not sent, it is tried again: %s", self.directory.name, error)
                return False
            path.unlink(missing_ok=True)
        return True
