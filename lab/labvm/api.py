# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of a lab's node, for whoever holds the lab's files."""

from __future__ import annotations

import hashlib
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from labvm.errors import LabError
from labvm.places import Endpoint


class Api:
    """One session of root@pam, the node's certificate held against the fingerprint that the lab knows."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.base = f"https://{endpoint.host}:{endpoint.api_port}/api2/json"
        self.context = ssl.create_default_context()
        self.headers: dict[str, str] = {}

    def log_in(self) -> Api:
        """Raises LabError where it is another node, or does not let us in."""
        endpoint = self.endpoint
        try:
            pem = ssl.get_server_certificate((endpoint.host, endpoint.api_port))
        except OSError as error:
            raise LabError(f"the node of lab '{endpoint.name}' does not answer: {error}") from error
        mark = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        if mark != endpoint.fingerprint.replace(":", "").lower():
            raise LabError(f"the certificate's fingerprint is {mark}, and not that of lab '{endpoint.name}'")
        self.context = ssl.create_default_context(cadata=pem)
        self.context.check_hostname = False
        password = Path(endpoint.password_file).read_text(encoding="utf-8").strip()
        ticket = self.ask("POST", "/access/ticket", {"username": "root@pam", "password": password})
        self.headers = {
            "Cookie": f"PVEAuthCookie={urllib.parse.quote(ticket['ticket'])}",
            "CSRFPreventionToken": ticket["CSRFPreventionToken"],
        }
        return self

    def ask(self, method: str, path: str, params: dict[str, Any] | None = None) -> Any:
        """One request; the answer's data. Raises LabError with the node's own words."""
        sent = urllib.parse.urlencode(params, doseq=True) if params else ""
        query = f"?{sent}" if sent and method == "GET" else ""
        body = sent.encode() if method in ("POST", "PUT") else None
        request = urllib.request.Request(f"{self.base}{path}{query}", body, self.headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace").strip()
            raise LabError(f"{method} {path}: {error.code} {error.reason} {text}".strip()) from error
        except OSError as error:
            raise LabError(f"{method} {path}: {error}") from error
