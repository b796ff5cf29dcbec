# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each machine that boots the installer of Proxmox VE its own answer, and no other machine any.

The installer posts what it knows of its machine: DMI's numbers and the MAC addresses of its network cards. DIRECTORY
holds these files, which are read anew with each request:

    answers/rules.json      by what a machine is known
    answers/NAME.toml       the answer of a host
    hooks/NAME              what it runs at its first boot, for [first-boot] source = "from-url"
    served/NAME             made when an answer is given; names the answer by its SHA-256
    reports/NAME.WHAT.json  what a host tells when it is installed or has booted first

    POST /answer            the answer           POST /installed, /first-boot    a report
    GET  /hooks/NAME        the hook             everything else: 404, and the log says why

It needs nothing but Python 3.11 or later, and no privileges.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGEST_QUESTION = 256 * 1024
LARGEST_REPORT = 2 * 1024 * 1024
AT_ONCE = 32
PATIENCE_S = 20.0
DEADLINE_S = 60.0
REPORTS = ("installed", "first-boot")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


class Refused(Exception):
    """Why a request gets nothing: for the log. What the machine is told is only the status."""

    def __init__(self, why: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        super().__init__(why)
        self.status = status


def facts(posted: Any) -> dict[str, Any]:
    """The marks of a machine in what it posts. The installer has network_interfaces, its webhook a dash in it."""
    if not isinstance(posted, dict):
        raise Refused("the body is no JSON object", HTTPStatus.BAD_REQUEST)
    cards = posted.get("network_interfaces", posted.get("network-interfaces"))
    dmi = posted.get("dmi")
    system = dmi.get("system") if isinstance(dmi, dict) else None
    system = system if isinstance(system, dict) else {}
    macs = [c.get("mac") for c in cards if isinstance(c, dict)] if isinstance(cards, list) else []
    return {
        "macs": sorted({mac.lower() for mac in macs if isinstance(mac, str)}),
        "serial": str(system.get("serial", "")).strip(),
        "uuid": str(system.get("uuid", "")).strip().lower(),
    }


def fits(rule: dict[str, Any], seen: dict[str, Any]) -> bool:
    """Whether everything that a rule says is true of a machine; of several MAC addresses one is enough.

    A mark that is empty fits nobody: many machines have no serial number.
    """
    told = {"macs", "serial", "uuid"} & set(rule)
    same = all(rule[key] and rule[key] == seen[key] for key in told - {"macs"})
    return bool(told) and same and ("macs" not in told or not set(rule["macs"]).isdisjoint(seen["macs"]))


class Store:
    """The directory. One request at a time decides whether an answer is given."""

    def __init__(self, directory: Path, now: Any = lambda: datetime.now(UTC)) -> None:
        self.directory = directory
        self.now = now
        self.lock = threading.Lock()

    def rules(self) -> dict[str, dict[str, Any]]:
        """The table of hosts. Raises Refused when there is none that can be trusted."""
        try:
            table = json.loads((self.directory / "answers" / "rules.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refused(f"rules.json cannot be read: {error}", HTTPStatus.SERVICE_UNAVAILABLE) from error
        sound = isinstance(table, dict) and all(isinstance(r, dict) and NAME.fullmatch(n) for n, r in table.items())
        if not sound:
            raise Refused("rules.json is no table of hosts", HTTPStatus.SERVICE_UNAVAILABLE)
        return dict(table)

    def known(self, seen: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The one host that a machine is."""
        found = [(name, rule) for name, rule in self.rules().items() if fits(rule, seen)]
        if len(found) != 1:
            who = f"it could be {' or '.join(name for name, _rule in found)}" if found else "no rule fits it"
            raise Refused(who)
        return found[0]

    def answer(self, name: str, rule: dict[str, Any]) -> bytes:
        """The answer of a host, marked as given. Raises Refused when it must not be given (again)."""
        expires = rule.get("expires")
        if expires and self.now() >= datetime.fromisoformat(expires):
            raise Refused(f"the answer of {name} has expired at {expires}")
        try:
            content = (self.directory / "answers" / f"{name}.toml").read_bytes()
        except OSError as error:
            raise Refused(f"the answer of {name} cannot be read: {error}") from error
        digest = hashlib.sha256(content).hexdigest()
        mark = self.directory / "served" / name
        with self.lock:
            if rule.get("once") and mark.exists() and mark.read_text(encoding="utf-8").strip() == digest:
                raise Refused(f"the answer of {name} was given already, and is given only once")
            self.keep(mark, f"{digest}\n".encode())
        return content

    def take_back(self, name: str) -> None:
        """Forget that an answer was given, because it did not arrive."""
        with self.lock, suppress(OSError):
            (self.directory / "served" / name).unlink()

    def hook(self, name: str) -> bytes:
        """What a host runs at its first boot. It has no secrets, so that whoever knows its name may have it."""
        if not NAME.fullmatch(name) or name not in self.rules():
            raise Refused("there is no host of that name")
        try:
            return (self.directory / "hooks" / name).read_bytes()
        except OSError as error:
            raise Refused(f"the hook of {name} cannot be read: {error}") from error

    def report(self, name: str, what: str, posted: Any) -> None:
        """Keep what a host tells, the last time it does."""
        text = json.dumps(posted, indent=2, sort_keys=True) + "\n"
        with self.lock:
            self.keep(self.directory / "reports" / f"{name}.{what}.json", text.encode())

    @staticmethod
    def keep(path: Path, content: bytes) -> None:
        """A file is whole at every moment."""
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_bytes(content)
            os.replace(part, path)
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error}", HTTPStatus.INTERNAL_SERVER_ERROR) from error


class Handler(BaseHTTPRequestHandler):
    """One request. Nothing that a machine sent is written to the log without being quoted."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def setup(self) -> None:
        """Here and not in the loop that accepts, so that a slow handshake keeps nobody else waiting."""
        self.request.settimeout(PATIENCE_S)
        # A shutdown below TLS wakes whoever reads, which a close would not.
        self.limit = threading.Timer(DEADLINE_S, cut, [self.request])
        self.limit.daemon = True
        self.limit.start()
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def finish(self) -> None:
        self.limit.cancel()
        super().finish()

    def do_POST(self) -> None:
        self.answered(self.post)

    def do_GET(self) -> None:
        self.answered(self.get)

    def answered(self, act: Any) -> None:
        """Do it, or say that there is nothing; the connection ends, for an installer asks once."""
        self.close_connection = True
        try:
            act()
        except Refused as refused:
            self.told(refused.status, b"There is nothing here for this machine. The server's log says why.\n")
            self.say(f"{refused.status.value}: {refused}")

    def post(self) -> None:
        what = self.path.partition("?")[0].strip("/")
        # Read first: whoever is refused while he still sends does not get to know it.
        raw = self.body(LARGEST_REPORT if what in REPORTS else LARGEST_QUESTION)
        if what != "answer" and what not in REPORTS:
            raise Refused("there is no such address")
        if what == "answer":
            self.admitted()
        try:
            posted = json.loads(raw.decode())
        except (ValueError, RecursionError) as error:
            raise Refused(f"the body is no JSON: {str(error)[:80]}", HTTPStatus.BAD_REQUEST) from error
        seen = facts(posted)
        try:
            name, rule = self.server.store.known(seen)
        except Refused as refused:
            raise Refused(f"{refused}: {json.dumps(seen)[:600]}", refused.status) from None
        if what != "answer":
            self.server.store.report(name, what, posted)
            self.told(HTTPStatus.OK, b"")
            self.say(f"{name} reports: {what}")
            return
        self.give(name, self.server.store.answer(name, rule))

    def give(self, name: str, content: bytes) -> None:
        try:
            self.told(HTTPStatus.OK, content, "application/toml")
        except OSError as error:
            self.server.store.take_back(name)
            self.say(f"the answer of {name} did not arrive: {error}")
            return
        self.say(f"gave {name} its answer")

    def get(self) -> None:
        found = re.fullmatch(r"/hooks/([^/?]+)", self.path)
        if not found:
            raise Refused("there is no such address")
        self.told(HTTPStatus.OK, self.server.store.hook(found[1]), "application/octet-stream")
        self.say(f"gave the hook of {found[1]}")

    def admitted(self) -> None:
        """The token that prepare-iso --answer-auth-token has put into the ISO, where one is asked for."""
        wanted = self.server.token_sha256
        if not wanted:
            return
        given = self.headers.get("Authorization", "")
        digest = hashlib.sha256(given.partition("Bearer ")[2].strip().encode()).hexdigest()
        if not hmac.compare_digest(digest, wanted):
            raise Refused("the token is missing or wrong")

    def body(self, largest: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused("the length of the body is not told", HTTPStatus.LENGTH_REQUIRED)
        if int(length) > largest:
            raise Refused(f"the body has {length} bytes, more than {largest}", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            raw = self.rfile.read(int(length))
        except OSError as error:
            raise Refused(f"the body did not come: {error}", HTTPStatus.REQUEST_TIMEOUT) from error
        if len(raw) < int(length):
            raise Refused("the body ended early", HTTPStatus.BAD_REQUEST)
        return raw

    def told(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        return "answer-server"

    def say(self, text: str) -> None:
        where = json.dumps(f"{getattr(self, 'command', None) or '-'} {getattr(self, 'path', '-')}"[:200])
        note(f"{self.client_address[0]} {where} {text}")

    def log_message(self, format: str, *args: Any) -> None:
        """Only what the standard library refuses by itself; everything else is said in words."""
        self.say(json.dumps(format % args)[:200])

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        return None


class Server(ThreadingHTTPServer):
    """So many requests at once, each in a thread that does not outlive the server."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], store: Store, token_sha256: str = "") -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.store = store
        self.token_sha256 = token_sha256
        self.free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Whoever comes when all are busy waits for a moment, then is sent away."""
        if not self.free.acquire(timeout=PATIENCE_S / 10):
            note(f"{client_address[0]} too many requests at once")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        note(f"{client_address[0]} the connection ended: {type(error).__name__}: {error}")

    def with_tls(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


def cut(connection: socket.socket) -> None:
    """End a connection that takes too long, however busily."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate as prepare-iso --cert-fingerprint takes it; of a chain the first one's."""
    pem = certificate.read_text(encoding="ascii")
    first = pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN") :])).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, 64, 2))


def note(text: str) -> None:
    """One line for the journal, which knows the time."""
    print(text.replace("\n", " "), file=sys.stderr, flush=True)


def ready() -> None:
    """Tell systemd that whoever asks now is answered."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(b"READY=1", f"\0{address[1:]}" if address.startswith("@") else address)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Give each machine that boots the installer its own answer.")
    parser.add_argument("--directory", type=Path, required=True, help="has answers, hooks, served and reports")
    parser.add_argument("--listen", required=True, help="the one address to listen on")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--certificate", type=Path, help="PEM; with it there is only HTTPS")
    parser.add_argument("--key", type=Path, help="PEM")
    parser.add_argument("--token-sha256", default="", help="SHA-256 of the token that every POST has to have")
    given = parser.parse_args(argv)
    if bool(given.certificate) != bool(given.key):
        parser.error("--certificate and --key belong together")
    os.umask(0o077)
    for name in ("served", "reports"):
        (given.directory / name).mkdir(exist_ok=True)
    server = Server((given.listen, given.port), Store(given.directory), given.token_sha256.lower())
    scheme = "http"
    if given.certificate:
        server.with_tls(given.certificate, given.key)
        scheme = f"https (certificate {fingerprint(given.certificate)})"
    signal.signal(signal.SIGTERM, lambda *_frame: threading.Thread(target=server.shutdown).start())
    host, port = server.server_address[:2]
    note(f"listening on {host!s} port {port}, {scheme}")
    ready()
    with suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.1)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
