# SPDX-License-Identifier: GPL-3.0-or-later
"""The API over HTTPS: proxmoxer's resources and session, and around them what a long run over a bad network needs.

proxmoxer keeps only ``data``, takes the error from the status line, gives up after 5 s and logs in outside the session.
Its serializer is handed in here, so that the whole body comes through; its session is subclassed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Any

from .api_login import Login, login_for
from .api_options import Settings, is_loopback
from .api_tls import IDLE_LIMIT_S, Adapter, Watch, context
from .api_wire import MissingLibrary, NoAnswer, Refused, Reply, Request, form

MISSING: str | None = None
try:
    import requests.utils
    from requests import exceptions as errors
except ImportError:
    MISSING = "requests"
try:
    if MISSING:
        # Without requests the import of proxmoxer's backend would end the process.
        raise ImportError
    from proxmoxer import core
    from proxmoxer.backends import https as backend
    from proxmoxer.backends.https import JsonSerializer, ProxmoxHTTPAuthBase, ProxmoxHttpSession
except ImportError:
    MISSING = MISSING or "proxmoxer"
    JsonSerializer = ProxmoxHTTPAuthBase = ProxmoxHttpSession = object  # type: ignore[assignment, misc]

CONNECT_TIMEOUT_S = 10.0


class _Whole(JsonSerializer):
    """A serializer that keeps everything of an answer, not only ``data``."""

    def loads(self, response: Any) -> Reply:
        """Raises Refused when a success is not what the API sends."""
        body = _body(response)
        if "data" not in body:
            raise Refused(response.status_code, "the answer is not one of the Proxmox VE API")
        return Reply(body["data"], body.get("total"), body.get("changes"))

    def loads_errors(self, response: Any) -> dict[str, Any]:
        return _body(response)


def _body(response: Any) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


class _Auth(ProxmoxHTTPAuthBase):
    """What proxmoxer's session asks for a request: the headers of the login."""

    def __init__(self, headers: Callable[[str], Mapping[str, str]]) -> None:
        ProxmoxHTTPAuthBase.__init__(self, verify_ssl=False)
        self._headers = headers

    def __call__(self, request: Any) -> Any:
        request.headers.update(self._headers(request.method))
        return request


class _Session(ProxmoxHttpSession):
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
        if self._clock() - self._used > IDLE_LIMIT_S:
            self.adapter.drop_connections()
        self.watch.sent = False
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
        if 300 <= answer.status_code < 400:
            target = answer.headers.get("Location", "another place")
            raise NoAnswer(f"it redirects to {target}, which Proxmox VE does not do", sent=False, permanent=True)
        self._note_time(answer.headers.get("Date"))
        return answer

    def _note_time(self, date: str | None) -> None:
        """Learn how far the node's clock is from ours, to find tasks by their start. Once a second is enough."""
        if date is None or date == self._date:
            return
        self._date = date
        try:
            self.skew_s = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return


class HttpsWire:
    """HTTPS to one of several nodes: the first that can be reached. Nothing happens before the first request."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        login: Login | None = None,
        trust: Callable[[Settings], ssl.SSLContext] = context,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._login: Login = login or login_for(settings, clock)
        self._trust = trust
        self._session: _Session | None = None
        self._hosts = list(settings.hosts)
        self.user = settings.identity

    @property
    def where(self) -> str:
        """The node in use."""
        return f"https://{self._hosts[0]}"

    @property
    def skew_s(self) -> float:
        """The node's clock minus ours, in seconds."""
        return self._session.skew_s if self._session else 0.0

    def send(self, request: Request) -> Reply:
        """Send to the node in use, or to the next one while the request could not leave. Raises as Wire says."""
        silent: list[str] = []
        for _each in self._settings.hosts:
            try:
                return self._with_login(request)
            except NoAnswer as problem:
                if problem.sent or len(self._hosts) == 1:
                    raise
                silent.append(problem.cause)
                self._hosts.append(self._hosts.pop(0))
        raise NoAnswer(
            f"none of the {len(silent)} nodes can be reached: {'; '.join(silent)}",
            sent=False,
            remedy="Check that one of them is up and that api_hosts names them as they are reached from here.",
        )

    def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _with_login(self, request: Request) -> Reply:
        self._login.ready(self._log_in)
        try:
            return self._once(request, self._login.headers)
        except Refused as refused:
            # The node forgets tickets when its key changes; what it refuses so it has not carried out.
            if refused.status != 401 or not self._login.renew(self._log_in):
                raise
            return self._once(request, self._login.headers)

    def _log_in(self, request: Request) -> Mapping[str, Any]:
        try:
            data = self._once(request, lambda method: {}).data
        except NoAnswer as problem:
            # A login may be asked for again at any time, so for the request that needs it nothing has been sent.
            raise NoAnswer(problem.cause, sent=False, permanent=problem.permanent, remedy=problem.remedy) from problem
        if not isinstance(data, Mapping) or not data.get("ticket"):
            raise Refused(401, "the node gave no ticket")
        return data

    def _once(self, request: Request, headers: Callable[[str], Mapping[str, str]]) -> Reply:
        session = self._open()
        session.auth = _Auth(headers)
        session.timeout = (min(CONNECT_TIMEOUT_S, request.timeout_s), request.timeout_s)
        session.proxies = _proxies(self._hosts[0])
        base = f"https://{self._hosts[0]}/api2/json{request.path}"
        resource: Any = core.ProxmoxResource(base_url=base, session=session, serializer=_Whole())
        call = {"GET": resource.get, "POST": resource.post, "PUT": resource.put, "DELETE": resource.delete}
        try:
            with _upload(request) as fields:
                reply: Reply = call[request.method](**fields)
        except core.ResourceException as error:
            body = error.errors or {}
            told = body.get("errors")
            text = str(body.get("message") or error.content or error.status_message)
            raise Refused(error.status_code, text, told if isinstance(told, Mapping) else None) from error
        except errors.RequestException as error:
            raise self._no_answer(error, session) from error
        return reply

    def _open(self) -> _Session:
        if MISSING is not None:
            raise MissingLibrary(MISSING)
        if self._session is None:
            # At its INFO level proxmoxer logs what it sends, passwords included.
            logging.getLogger("proxmoxer").setLevel(logging.WARNING)
            logging.getLogger("proxmoxer.core").setLevel(logging.WARNING)
            self._session = _Session(self._settings, self._clock, self._trust(self._settings))
        return self._session

    def _no_answer(self, error: Exception, session: _Session) -> NoAnswer:
        """Say in a person's words why there was no answer."""
        where, sent = self._hosts[0], session.watch.sent
        proxy = session.proxies.get("https")
        if isinstance(error, errors.ProxyError):
            remedy = f"Add {where} to NO_PROXY if it is to be reached directly."
            return NoAnswer(f"the proxy {_bare(proxy)} of HTTPS_PROXY cannot be used", sent=sent, remedy=remedy)
        if isinstance(error, errors.SSLError) and not sent:
            return _untrusted(where, error)
        text = _innermost(error)
        if isinstance(error, errors.ReadTimeout):
            return NoAnswer(f"{where} did not answer within {session.timeout[1]:g} seconds", sent=sent)
        if sent:
            return NoAnswer(f"{where} cut the connection before it answered ({text})", sent=True)
        unknown = "Name or service not known" in text or "nodename nor servname" in text
        remedy = "Check api_host and api_port, and that the node is up and pveproxy runs on it."
        return NoAnswer(f"{where} cannot be reached: {text}", sent=False, permanent=unknown, remedy=remedy)


class _Source(io.FileIO):
    """A file that says how much of it has been read."""

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        super().__init__(path)
        self._say = say
        self._gib = os.fstat(self.fileno()).st_size / 2**30

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        done = 100 * self.tell() / 2**30 / self._gib if self._gib else 100
        self._say(f"{done:.0f} % of {self._gib:.1f} GiB sent")
        return piece


@contextmanager
def _upload(request: Request) -> Iterator[dict[str, Any]]:
    """The form of a request, with the file that it uploads open. proxmoxer streams it when it is large.

    Raises NoAnswer when the file cannot be read, and MissingLibrary when it is too large to be sent at once.
    """
    fields = form(request.params)
    if request.file is None:
        yield fields
        return
    try:
        source = _Source(request.file, request.tell) if request.tell else io.FileIO(request.file)
    except OSError as error:
        raise NoAnswer(f"{request.file} cannot be read: {error.strerror}", sent=False, permanent=True) from error
    with source:
        large = os.fstat(source.fileno()).st_size > backend.STREAMING_SIZE_THRESHOLD
        # Looked for and not imported: proxmoxer does that when it streams, and hardly any task uploads anything.
        if large and find_spec("requests_toolbelt") is None:
            raise MissingLibrary("requests_toolbelt")
        source.name = str(fields.get("filename") or request.file)
        yield {**{name: str(value) for name, value in fields.items()}, "filename": source}


def _untrusted(where: str, error: Exception) -> NoAnswer:
    text = _innermost(error)
    if "CERTIFICATE_VERIFY_FAILED" not in text:
        return NoAnswer(f"{where} does not speak TLS as expected: {text}", sent=False)
    why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
    remedy = (
        "Pin it with api_fingerprint, or set ca_path to the CA of the cluster (/etc/pve/pve-root-ca.pem on its nodes)."
    )
    return NoAnswer(f"the certificate of {where} is not trusted: {why}", sent=False, permanent=True, remedy=remedy)


def _innermost(error: BaseException) -> str:
    """The cause at the bottom of what requests and urllib3 have wrapped."""
    seen: BaseException = error
    for _level in range(8):
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((a for a in reversed(seen.args) if isinstance(a, BaseException)), None)
        if inner is None:
            inner = seen.__cause__
        if inner is None:
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    text = str(seen)
    return text.partition(": ")[2] if text.startswith("<") else text or type(seen).__name__


def _proxies(host: str) -> dict[str, str]:
    """The proxy that the environment names (HTTPS_PROXY, NO_PROXY), never one for this machine's own loopback."""
    if is_loopback(host):
        return {}
    return dict(requests.utils.get_environ_proxies(f"https://{host}/", no_proxy=None))


def _bare(proxy: str | None) -> str:
    """A proxy without the credentials that its URL may carry."""
    return (proxy or "").rpartition("@")[2]
