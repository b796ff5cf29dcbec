# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with one node: that of proxmoxer, with our trust and timeouts, and beside it a short way for reads.

proxmoxer keeps only ``data`` of an answer, takes the error from the status line, gives up after 5 s and logs in outside
the session. Its serializer is handed in here, so that the whole body comes through; its session is subclassed.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Any

from .api_options import Settings
from .api_tls import IDLE_LIMIT_S, Adapter, Watch
from .api_wire import NoAnswer, Refused, Reply

MISSING: str | None = None
try:
    from requests import exceptions as errors
    from urllib3 import Timeout
    from urllib3 import exceptions as below
except ImportError:
    MISSING = "requests"
try:
    if MISSING:
        # Without requests the import of proxmoxer's backend would end the process.
        raise ImportError
    from proxmoxer.backends.https import JsonSerializer, ProxmoxHTTPAuthBase, ProxmoxHttpSession
except ImportError:
    MISSING = MISSING or "proxmoxer"
    JsonSerializer = ProxmoxHTTPAuthBase = ProxmoxHttpSession = object  # type: ignore[assignment, misc]

CONNECT_TIMEOUT_S = 10.0


class Whole(JsonSerializer):
    """A serializer that keeps everything of an answer, not only ``data``."""

    def loads(self, response: Any) -> Reply:
        """Raises Refused when a success is not what the API sends."""
        return _reply(response.status_code, _body(response.content))

    def loads_errors(self, response: Any) -> dict[str, Any]:
        return _body(response.content)


def _body(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _reply(status: int, body: Mapping[str, Any]) -> Reply:
    if "data" not in body:
        raise Refused(status, "the answer is not one of the Proxmox VE API")
    return Reply(body["data"], body.get("total"), body.get("changes"))


def refused(status: int, body: Mapping[str, Any], reason: str | None) -> Refused:
    """An answer that is an error: its ``message``, else what its status line says."""
    told = body.get("errors")
    text = str(body.get("message") or reason or responses.get(status) or "no reason given")
    return Refused(status, text, told if isinstance(told, Mapping) else None)


class Auth(ProxmoxHTTPAuthBase):
    """What proxmoxer's session asks for a request: the headers of the login."""

    def __init__(self, headers: Callable[[str], Mapping[str, str]]) -> None:
        ProxmoxHTTPAuthBase.__init__(self, verify_ssl=False)
        self._headers = headers

    def __call__(self, request: Any) -> Any:
        request.headers.update(self._headers(request.method))
        return request


class Session(ProxmoxHttpSession):
    """proxmoxer's session with our trust and timeouts, without redirects and without stale connections."""

    def __init__(self, settings: Settings, clock: Callable[[], float], trust: ssl.SSLContext) -> None:
        ProxmoxHttpSession.__init__(self)
        self._clock = clock
        self._used = clock()
        self.timeout = (CONNECT_TIMEOUT_S, settings.timeout_s)
        self.watch = Watch(settings.pins)
        self.skew_s = 0.0
        self._date: str | None = None
        # The environment is asked for proxies only, see _proxies.
        self.trust_env = False
        self.adapter = Adapter(trust, self.watch)
        self.mount("https://", self.adapter)
        self.headers["accept"] = "application/json"

    def send(self, request: Any, **kwargs: Any) -> Any:
        """Called by requests with a request that is ready to go. Raises NoAnswer for an answer that is none."""
        self._before()
        kwargs.update(timeout=self.timeout, allow_redirects=False)
        try:
            answer = super().send(request, **kwargs)
        except errors.RequestException:
            # A form that did not leave whole is not acted on.
            if hasattr(request.body, "read") and request.body.read(1):
                self.watch.sent = False
            raise
        finally:
            self._used = self._clock()
        self._after(answer.status_code, answer.headers)
        return answer

    def read(self, base: str, path: str, headers: Mapping[str, str]) -> Reply:
        """GET ``path`` at ``base`` (https://host:port) over the same connections, without a proxy.

        What requests does for a request in general takes longer than all else that this process does for a read.
        Raises Refused, NoAnswer, and what requests would raise where no answer comes.
        """
        self._before()
        connect_s, read_s = self.timeout
        try:
            answer = self.adapter.poolmanager.connection_from_url(base).request(
                "GET",
                path,
                headers={**self.headers, **headers},
                timeout=Timeout(connect_s, read_s),
                retries=False,
                redirect=False,
            )
        except below.SSLError as error:
            raise errors.SSLError(error) from error
        except below.ReadTimeoutError as error:
            raise errors.ReadTimeout(error) from error
        except below.HTTPError as error:
            raise errors.ConnectionError(error) from error
        finally:
            self._used = self._clock()
        self._after(answer.status, answer.headers)
        body = _body(answer.data)
        if answer.status >= 400:
            raise refused(answer.status, body, answer.reason)
        return _reply(answer.status, body)

    def _before(self) -> None:
        if self._clock() - self._used > IDLE_LIMIT_S:
            self.adapter.drop_connections()
        self.watch.sent = False

    def _after(self, status: int, headers: Mapping[str, str]) -> None:
        if 300 <= status < 400:
            target = headers.get("Location", "another place")
            raise NoAnswer(f"it redirects to {target}, which Proxmox VE does not do", sent=False, permanent=True)
        self._note_time(headers.get("Date"))

    def _note_time(self, date: str | None) -> None:
        """Learn how far the node's clock is from ours, to find tasks by their start. Once a second is enough."""
        if date is None or date == self._date:
            return
        self._date = date
        try:
            self.skew_s = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return
