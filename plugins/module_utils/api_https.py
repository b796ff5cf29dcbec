# SPDX-License-Identifier: GPL-3.0-or-later
"""The API over HTTPS: proxmoxer's resources and session, and around them what a long run over a bad network needs."""

from __future__ import annotations

import io
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode

from .api_login import Login, login_for
from .api_options import Settings, is_loopback
from .api_session import CONNECT_TIMEOUT_S, MISSING, Auth, Session, Whole, refused
from .api_tls import context
from .api_wire import MissingLibrary, NoAnswer, Refused, Reply, Request, form

try:
    import requests.utils
    from proxmoxer import core
    from proxmoxer.backends import https as backend
    from requests import exceptions as errors
except ImportError:
    # api_session says which of them is missing.
    pass


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
        self._session: Session | None = None
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
        session.auth = Auth(headers)
        session.timeout = (min(CONNECT_TIMEOUT_S, request.timeout_s), request.timeout_s)
        session.proxies = _proxies(self._hosts[0])
        base, path = f"https://{self._hosts[0]}", f"/api2/json{request.path}"
        try:
            if not request.writes and not session.proxies:
                query = urlencode(form(request.params), doseq=True)
                return session.read(base, f"{path}?{query}" if query else path, headers("GET"))
            resource: Any = core.ProxmoxResource(base_url=base + path, session=session, serializer=Whole())
            call = {"GET": resource.get, "POST": resource.post, "PUT": resource.put, "DELETE": resource.delete}
            with _upload(request) as fields:
                reply: Reply = call[request.method](**fields)
        except core.ResourceException as error:
            raise refused(error.status_code, error.errors or {}, error.content) from error
        except errors.RequestException as error:
            raise self._no_answer(error, session) from error
        return reply

    def _open(self) -> Session:
        if MISSING is not None:
            raise MissingLibrary(MISSING)
        if self._session is None:
            # At its INFO level proxmoxer logs what it sends, passwords included.
            logging.getLogger("proxmoxer").setLevel(logging.WARNING)
            logging.getLogger("proxmoxer.core").setLevel(logging.WARNING)
            self._session = Session(self._settings, self._clock, self._trust(self._settings))
        return self._session

    def _no_answer(self, error: Exception, session: Session) -> NoAnswer:
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
