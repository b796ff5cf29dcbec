# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m guest_watch CONFIG [--once]: look every few seconds, tell what is wrong, and what is over.

CONFIG is a JSON file that the role guest_watch writes. With --once: look, print what is wrong now, and end with 0 where
nothing is, 1 where something is, and 2 where something could not be looked at.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import findings, sources, telling, textfile
from .alerts import Book, Event
from .findings import CRITICAL, Finding, Level, Seen

logger = logging.getLogger("guest_watch")
# How often the node may fail to answer, one look after the other, before people are told.
SILENT_LOOKS = 3


class Watch:
    """The looks of one host, and what they have left for the next one in ``state.json``."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.settings = findings.Settings(**config.get("settings", {}))
        self.state = Path(config["state_directory"])
        self.host = config.get("host") or socket.gethostname()
        self.node = sources.Node(config["api_url"], config["node"], _token(config), _trust(config))
        self.book, self.seen = self._remembered()
        self.outboxes = [telling.Outbox(self.state / "outbox" / name, channel) for name, channel in _channels(config)]
        self.silent = 0

    def _remembered(self) -> tuple[Book, Seen]:
        remind_s = float(self.config.get("remind_s", 0))
        try:
            kept = json.loads((self.state / "state.json").read_text(encoding="utf-8"))
            return Book.from_json(kept["alerts"], remind_s=remind_s), Seen(**kept["seen"])
        except FileNotFoundError:
            return Book(remind_s=remind_s), Seen()
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("what the last run has left cannot be read, so this one begins anew: %s", error)
            return Book(remind_s=remind_s), Seen()

    def look(self, now: float) -> tuple[dict[str, Any], list[Finding], list[str]]:
        """One look: what was seen, what is wrong, and the kinds of things that could not be seen."""
        looked: dict[str, Any] = {
            "at": now,
            "sees": {},
            "guests": [],
            "thin_pools": [],
            "zpools": [],
            "directories": {},
        }
        found: list[Finding] = []
        unknown: list[str] = []
        for kind, see in (
            ("guest", self._guests), ("thin_pool", self._thin), ("zpool", self._zfs), ("directory", self._directories)
        ):  # fmt: skip
            try:
                found += see(looked, now)
                looked["sees"][kind] = True
            except sources.Unseen as why:
                looked["sees"][kind] = False
                unknown.append(kind)
                found += self._unseen(kind, str(why))
        self.silent = self.silent + 1 if "guest" in unknown else 0
        return looked, found, unknown

    def _unseen(self, kind: str, why: str) -> list[Finding]:
        if kind == "guest" and self.silent + 1 < SILENT_LOOKS:
            logger.info("the node does not answer: %s", why)
            return []
        what = f"node {self.config['node']} does not answer" if kind == "guest" else f"cannot look at each {kind}"
        return [Finding("watch", kind, "unseen", CRITICAL, f"{what}: {why}.", labels={"name": kind})]

    def _guests(self, looked: dict[str, Any], now: float) -> list[Finding]:
        rows = self.node.guests()
        tasks = self.node.tasks(self.seen.at - 1 if self.seen.at else now)
        found, self.seen = findings.guests(rows, tasks, self.seen, now, self.settings)
        looked["guests"] = [row for row in rows if row["status"] == "running"]
        return found

    def _thin(self, looked: dict[str, Any], _now: float) -> list[Finding]:
        looked["thin_pools"] = sources.thin_pools()
        return findings.pools(looked["thin_pools"], self.book.raised, self.settings)

    def _zfs(self, looked: dict[str, Any], _now: float) -> list[Finding]:
        looked["zpools"], health = sources.zfs()
        return findings.zfs(looked["zpools"], health, self.book.raised, self.settings)

    def _directories(self, looked: dict[str, Any], _now: float) -> list[Finding]:
        found: list[Finding] = []
        for path in self.config.get("directories", []):
            looked["directories"][path] = parts = sources.directory(path)
            for of, used in parts.items():
                level = Level("directory", path, of, used, f"the {of} of {path}", "remove what nobody needs")
                found += findings.full(level, self.book.raised, self.settings)
        return found

    def once(self) -> list[Event]:
        """Look, remember, tell; the events."""
        now = time.time()
        looked, found, unknown = self.look(now)
        events = self.book.update(found, now, unknown)
        # What is to be told lies in the outbox before it counts as told: after a crash it comes twice, not never.
        for event in events:
            logger.warning("%s: %s", event.event, event.text)
            for outbox in self.outboxes:
                outbox.put(telling.message(event, self.host))
        self._remember()
        if self.config.get("textfile"):
            waiting = sum(len(outbox.waiting()) for outbox in self.outboxes)
            rows = textfile.samples(looked, self.book.alerts.values(), waiting)
            textfile.write(Path(self.config["textfile"]), textfile.render(rows))
        return events

    def _remember(self) -> None:
        draft = self.state / ".state.json.new"
        draft.write_text(json.dumps({"alerts": self.book.to_json(), "seen": asdict(self.seen)}), encoding="utf-8")
        os.replace(draft, self.state / "state.json")

    def run(self, ends: threading.Event) -> None:
        """Look until ``ends``; the pace is kept however long a look takes."""
        for outbox in self.outboxes:
            outbox.start()
        interval = float(self.config.get("interval_s", 5))
        due = time.monotonic()
        while not ends.is_set():
            try:
                self.once()
            except OSError as error:
                logger.error("what was seen could not be written down: %s", error)
            _notify("READY=1\nWATCHDOG=1")
            due = max(due + interval, time.monotonic())
            ends.wait(max(0.0, due - time.monotonic()))
        for outbox in self.outboxes:
            outbox.stop(5.0)
        self.node.close()


def _token(config: dict[str, Any]) -> str:
    """The API token, from systemd's credentials where the service runs, else from the file that is named."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(credentials) / "token" if credentials else Path(config["token_file"])
    return path.read_text(encoding="utf-8").strip()


def _trust(config: dict[str, Any]) -> sources.Trust:
    return sources.Trust(config.get("fingerprints", []), config.get("ca_file", ""))


def _channels(config: dict[str, Any]) -> list[tuple[str, telling.Channel]]:
    found: list[tuple[str, telling.Channel]] = []
    if config.get("webhook_url"):
        found.append(("webhook", telling.webhook(config["webhook_url"], config.get("webhook_headers", {}))))
    if config.get("mail_to"):
        server = config.get("mail_server") or "127.0.0.1"
        found.append(("mail", telling.mail(config["mail_to"], config.get("mail_from") or "root", server)))
    return found


def _notify(text: str) -> None:
    """Tell systemd, where it listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as tells:
            tells.sendto(text.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


def main() -> int:
    parser = argparse.ArgumentParser(prog="guest_watch", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", type=Path)
    parser.add_argument("--once", action="store_true", help="print what is wrong now, and end")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    watch = Watch(json.loads(given.config.read_text(encoding="utf-8")))
    if given.once:
        _looked, found, unknown = watch.look(time.time())
        print(*(f"{f.severity}: {f.text}" for f in found), sep="\n", end="\n" if found else "")
        return 2 if unknown else 1 if found else 0
    ends = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_none: ends.set())
    watch.run(ends)
    return 0


if __name__ == "__main__":
    sys.exit(main())
