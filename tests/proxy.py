# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands between a client and a labnode: writes down every request, and does to it what a bad network or a busy node
would do, where a test says so.

It serves with the node's own certificate and key, so that a pinned fingerprint still fits.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import aiohttp
from aiohttp import web

from ansible_collections.pvelab.proxmox.tests.lab import Lab

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding"}


@dataclass(frozen=True)
class Seen:
    """One request; ``path`` is below /api2/json."""

    method: str
    path: str

    @property
    def writes(self) -> bool:
        """Asking for a ticket is a POST, but it changes nothing."""
        return self.method != "GET" and self.path != "/access/ticket"


class Proxy:
    """``cut(seen)`` says "before" (the node never hears of it), "after" (it does, its answer is lost) or "" (passes).

    Once a line is cut, ``outage`` later requests are lost as well, or without it all until ``mend``: the network is
    down, not one packet lost.

    It may say more: "slow" (half a second later), "late" (the answer is), "599 text" (this answer, and the node never
    hears of it), "after 599 text" (it does), or "exit text" (a task that the request asks for has ended like this, if
    it has ended).
    """

    def __init__(self, lab: Lab, cut: Callable[[Seen], str] = lambda _seen: "", *, outage: float = math.inf) -> None:
        self.lab = lab
        self.cut = cut
        self.outage = outage
        self.seen: list[Seen] = []
        self._to_lose: float = 0
        self._session: aiohttp.ClientSession | None = None
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(30), "the proxy listens"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._loop.close()

    @property
    def written(self) -> list[Seen]:
        """The requests that change something."""
        return [s for s in self.seen if s.writes]

    def mend(self) -> None:
        """The network is back, and nothing is cut any more."""
        self.cut = lambda _seen: ""
        self._to_lose = 0

    async def _serve(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.lab.certificate, self.lab.certificate.with_suffix(".key"))
        verify = ssl.create_default_context(cafile=str(self.lab.certificate))
        line = aiohttp.TCPConnector(ssl=verify, limit=0, keepalive_timeout=2)
        self._session = aiohttp.ClientSession(connector=line, auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.path.removeprefix("/api2/json"))
        self.seen.append(seen)
        where = "before" if self._to_lose else self.cut(seen)
        if self._to_lose:
            self._to_lose -= 1
        elif where in ("before", "after"):
            self._to_lose = self.outage
        if where == "before":
            return self._lost(request)
        if where == "slow":
            await self._wait()
        if where[:1].isdigit():
            return _said(where)
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        assert self._session is not None
        url = f"{self.lab.url}{request.raw_path}"
        try:
            async with self._session.request(request.method, url, data=body, headers=headers) as answer:
                content = await answer.read()
        except aiohttp.ClientError:
            return self._lost(request)
        if where == "late":
            await self._wait()
        if where == "after":
            return self._lost(request)
        if where.startswith("after "):
            return _said(where.removeprefix("after "))
        if where.startswith("exit "):
            content = content.replace(b'"exitstatus":"OK"', f'"exitstatus":"{where.removeprefix("exit ")}"'.encode())
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP - {"content-encoding"}}
        return web.Response(status=answer.status, reason=answer.reason, body=content, headers=kept)

    async def _wait(self) -> None:
        await asyncio.wait([asyncio.create_task(self._stop.wait())], timeout=0.5)

    @staticmethod
    def _lost(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


class Nth:
    """Says ``verdict`` at the write number ``n`` to a path, counted from 0; ``happened`` tells that it came to that."""

    def __init__(self, n: int, verdict: str, path: re.Pattern[str] = re.compile(".*")) -> None:
        self.n = n
        self.verdict = verdict
        self.path = path
        self.count = 0
        self.happened = threading.Event()

    def __call__(self, seen: Seen) -> str:
        if not seen.writes or not self.path.fullmatch(seen.path):
            return ""
        self.count += 1
        if self.count != self.n + 1:
            return ""
        self.happened.set()
        return self.verdict


def _said(verdict: str) -> web.Response:
    """An answer that is not the node's: "599 Too many redirections"."""
    status, _space, reason = verdict.partition(" ")
    return web.Response(status=int(status), reason=reason)
