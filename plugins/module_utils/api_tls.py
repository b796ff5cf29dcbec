# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS for the API session: whom to trust, pinned certificates, and knowing whether a request has left this machine.

requests decides about certificates in several places, one of which lets REQUESTS_CA_BUNDLE turn ``verify=False`` of a
session into a check. So the decision is made once, in an ``SSLContext``, and requests is not asked.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from typing import Any

from .api_options import Settings, shown_fingerprint
from .api_wire import NoAnswer
from .core.steps import Failure

try:
    import certifi
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPSConnectionPool
except ImportError:
    HTTPAdapter = HTTPSConnection = HTTPSConnectionPool = object  # type: ignore[assignment, misc]

# A server that keeps connections for 5 s (pve-http-server AnyEvent.pm) may close one just as it is used again.
IDLE_LIMIT_S = 4.0
# Uploads are read and encrypted in pieces of this size; with the 16 KiB of urllib3 they take twice as long.
BLOCK = 1 << 18


class Watch:
    """What one session knows of its connections: the pins, and whether the current request has begun to leave."""

    def __init__(self, pins: tuple[str, ...]) -> None:
        self.pins = pins
        self.sent = False

    def check(self, host: str, certificate: bytes | None) -> None:
        """Compare the presented certificate with the pins. Raises NoAnswer before anything secret is sent."""
        if not self.pins:
            return
        seen = hashlib.sha256(certificate or b"").hexdigest()
        if seen not in self.pins:
            expected = " or ".join(shown_fingerprint(pin) for pin in self.pins)
            raise NoAnswer(
                f"{host} shows another certificate than the pinned one: expected {expected}, "
                f"seen {shown_fingerprint(seen)}",
                sent=False,
                permanent=True,
                remedy="Compare with the node itself (openssl x509 -noout -fingerprint -sha256 -in "
                "/etc/pve/local/pveproxy-ssl.pem, or pve-ssl.pem where there is none). If it was renewed, "
                "set api_fingerprint to the new one; if not, somebody is in between.",
            )


def context(settings: Settings) -> ssl.SSLContext:
    """Whom to trust: the pin alone; nobody asked (``validate_certs: false``); ``ca_path``; or this machine's store.

    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE take the place of the machine's store, as everywhere with requests.
    Raises Failure when there are no certificates at the path given.
    """
    if settings.pins or not settings.verify:
        # create_default_context would read all certificates of this machine, and that takes 30 ms of a task.
        unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        return unchecked
    path = settings.ca_path or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    try:
        if path:
            folder = os.path.isdir(path)
            checked = ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
        else:
            checked = ssl.create_default_context()
            if not checked.cert_store_stats()["x509_ca"]:
                checked.load_verify_locations(certifi.where())
    except OSError as error:
        raise Failure(
            f"no certificates can be read from {path}: {error.strerror or error}. "
            "Set ca_path to the CA of the cluster, which is /etc/pve/pve-root-ca.pem on each of its nodes."
        ) from error
    # Proxmox VE's own CA has no key usage extension, which the strict mode of Python 3.13 would refuse.
    checked.verify_flags &= ~ssl.VERIFY_X509_STRICT
    checked.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return checked


class _Connection(HTTPSConnection):
    """A connection that checks the pins as soon as it stands, and tells when a request leaves through it."""

    watch: Watch

    def connect(self) -> None:
        super().connect()
        try:
            self.watch.check(self.host, self.sock.getpeercert(binary_form=True))  # type: ignore[union-attr]
        except NoAnswer:
            self.close()
            raise
        self.is_verified = self.is_verified or bool(self.watch.pins)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self.watch.sent = True
        super().putrequest(*args, **kwargs)


class Adapter(HTTPAdapter):
    """An adapter for requests that keeps the decision about certificates and watches its connections."""

    def __init__(self, trust: ssl.SSLContext, watch: Watch) -> None:
        self._trust = trust
        connection = type("Connection", (_Connection,), {"watch": watch})
        self._pools = {"https": type("Pool", (HTTPSConnectionPool,), {"ConnectionCls": connection})}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Called by requests: the manager of direct connections."""
        super().init_poolmanager(*args, ssl_context=self._trust, blocksize=BLOCK, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Called by requests: the manager of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, ssl_context=self._trust, blocksize=BLOCK, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """Called by requests: what tells pools apart; its view of certificates is left out."""
        host, _trust = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Called by requests to set up its own view of certificates: the context has decided."""

    def drop_connections(self) -> None:
        """Let go of idle connections, which the server may be closing just now."""
        self.poolmanager.clear()
        for manager in self.proxy_manager.values():
            manager.clear()
