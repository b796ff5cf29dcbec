# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP side: authentication, formats, and Proxmox VE's way of saying that something went wrong.

An error's first line is the HTTP reason phrase and its whole text the ``message`` of the JSON body; every answer
of 400 or
more closes the connection; an idle connection lives 5 s and serves at most 100 requests; a 401 is answered late.
Facts from pve-http-server (AnyEvent.pm, Formatter/Standard.pm) and pve-manager (HTTPServer.pm, pveproxy.pm).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import pkgutil
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web

from labnode import api, body, dispatch
from labnode.dispatch import Caller
from labnode.errors import ApiError, AuthError
from labnode.node import Node
from labnode.route import Answer, Ctx, Raw

log = logging.getLogger(__name__)

KEEPALIVE_S = 5.0
MAX_REQUESTS = 100
# What ``--verbose`` tells of a request: the how manyth of its connection it is, what was asked for, and the status.
REQUEST = "request %d: %s %s %d"
_METHODS = ("GET", "POST", "PUT", "DELETE")
_API = re.compile(r"^/api2/(?P<format>json|extjs)(?P<path>/.*)?$")
_COOKIE = re.compile(r"(?:^|\s)PVEAuthCookie=([^;]*)")
_UPLOAD = re.compile(r"^/nodes/[^/]+/storage/[^/]+/upload$")


def load_handlers() -> None:
    """Import every module of ``labnode.api``, which binds its routes."""
    for module in pkgutil.iter_modules(api.__path__):
        importlib.import_module(f"labnode.api.{module.name}")


class Front:
    """Answers HTTP requests for one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._served: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, from the path to the response; never raises for what a client sends."""
        response = await self._respond(request)
        response.headers["Server"] = "pve-api-daemon/3.0"
        transport = request.transport
        if transport is not None:
            self._served[transport] = self._served.get(transport, 0) + 1
            if response.status >= 400 or self._served[transport] >= MAX_REQUESTS:
                response.force_close()
            if log.isEnabledFor(logging.INFO):
                log.info(REQUEST, self._served[transport], request.method, request.rel_url.raw_path, response.status)
        return response

    async def _respond(self, request: web.Request) -> web.Response:
        if request.method not in _METHODS:
            return plain(501, f"method '{request.method}' not available")
        match = _API.match(unquote(request.rel_url.raw_path))
        if not match:
            return plain(404, "no such file; the API is below /api2/json")
        path = "/" + "/".join(part for part in (match["path"] or "").split("/") if part)
        try:
            caller = self._identify(request, path)
        except AuthError as err:
            await asyncio.sleep(self.node.auth.delay)
            return plain(401, err.message)
        ctx = Ctx(self.node, caller.user or "", {}, caller.address, request.method, path, caller.kind)
        return await self._call(ctx, request, match["format"])

    async def _call(self, ctx: Ctx, request: web.Request, form: str) -> web.Response:
        raw: dict[str, Any] = {}
        try:
            raw = await body.read_params(request, self.node.state_dir / "tmp")
            result = await dispatch.call(ctx, raw)
            return success(result, form)
        except ApiError as err:
            body.discard_upload(raw)
            if err.status == 401:
                await asyncio.sleep(self.node.auth.delay)
            return failure(err, form)
        except Exception as err:
            body.discard_upload(raw)
            log.exception("%s %s failed", ctx.method, ctx.path)
            return failure(ApiError(f"internal error: {type(err).__name__}: {err}"), form)

    def _identify(self, request: web.Request, path: str) -> Caller:
        address = request.remote or "127.0.0.1"
        if (request.method, path) in dispatch.OPEN:
            return Caller(None, "none", address)
        auth = self.node.auth
        header = request.headers.get("Authorization", "")
        if header.startswith("PVEAPIToken="):
            user = auth.token_user(unquote(header.removeprefix("PVEAPIToken=").strip()))
            return Caller(self._known(user), "token", address)
        cookie = _COOKIE.search(request.headers.get("Cookie", ""))
        ticket = unquote(cookie[1].strip('"')) if cookie else header.removeprefix("PVEAuthCookie=")
        if not ticket:
            raise AuthError("No ticket")
        user = self._known(auth.ticket_user(ticket))
        needs_csrf = request.method != "GET" and not (request.method == "POST" and _UPLOAD.match(path))
        if needs_csrf and not auth.csrf_good(user, request.headers.get("CSRFPreventionToken", "")):
            raise AuthError("Permission denied - invalid csrf token")
        return Caller(user, "ticket", address)

    def _known(self, user: str | None) -> str:
        try:
            if user:
                self.node.auth.check_enabled(user.partition("!")[0])
                return user
        except AuthError:
            log.info("refused %s: user is disabled or expired", user)
        raise AuthError("Authentication failed!")


def plain(status: int, reason: str) -> web.Response:
    """An answer without a body, as Proxmox VE gives before it gets to the API."""
    return web.Response(status=status, reason=one_line(reason))


def one_line(text: str) -> str:
    """The first line, fit for an HTTP status line."""
    first = text.strip().splitlines()[0] if text.strip() else "error"
    return "".join(char for char in first if char.isprintable())


def success(result: Any, form: str) -> web.Response:
    """HTTP 200 with ``data`` and what belongs beside it."""
    extra = result.extra if isinstance(result, Answer) else {}
    shown: dict[str, Any] = {"data": result.data if isinstance(result, Answer) else result, **extra}
    if form == "extjs":
        shown["success"] = 1
    return as_json(shown, 200, "OK")


def failure(err: ApiError, form: str) -> web.Response:
    """The error as JSON. Texts of status 400 and 500 end with a newline in the body, as Perl's ``die`` leaves it."""
    message = err.message + "\n" if err.status in (400, 401, 403, 500) else err.message
    shown: dict[str, Any] = {"data": None, "message": message}
    if err.errors:
        shown["errors"] = err.errors
    if form == "extjs":
        return as_json({**shown, "success": 0, "status": err.status}, 200, "OK")
    return as_json(shown, err.status, one_line(err.message) or HTTPStatus(err.status).phrase)


def as_json(shown: dict[str, Any], status: int, reason: str) -> web.Response:
    """JSON with booleans as 1 and 0, the way Perl has them."""
    text = json.dumps(plain_values(shown), separators=(",", ":"))
    return web.Response(
        status=status, reason=reason, body=text.encode(), headers={"Content-Type": "application/json;charset=UTF-8"}
    )


def plain_values(value: Any) -> Any:
    """The value with every bool as an int (not within ``Raw``) and every set as a sorted list."""
    if isinstance(value, Raw):
        return value.value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value


def make_app(node: Node) -> web.Application:
    """The aiohttp application of a node; uploads of any size stream to disk."""
    load_handlers()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{rest:.*}", Front(node).handle)
    return app
