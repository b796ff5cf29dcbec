#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands in guests, through the API and their agents, all guests side by side.

    guest_exec.py ENDPOINT.json < [{"vmid": 101, "argv": ["ping", "-c1", "10.0.0.1"]}, …]

prints the same list with `code` and `out` for each command. A guest whose agent does not answer in time, or a
command that does not end, is an error: a command that fails in the guest is not, its `code` tells.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LIMIT_S = 300.0


class Node:
    """The API of the node that a lab's endpoint.json names, its certificate held against the fingerprint there."""

    def __init__(self, endpoint: dict[str, Any]) -> None:
        pem = ssl.get_server_certificate((endpoint["host"], endpoint["api_port"]))
        mark = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        if mark != endpoint["fingerprint"].replace(":", "").lower():
            raise SystemExit(f"the certificate's fingerprint is {mark}, and not that of the lab")
        self.context = ssl.create_default_context(cadata=pem)
        self.context.check_hostname = False
        self.base = f"https://{endpoint['host']}:{endpoint['api_port']}/api2/json"
        self.headers: dict[str, str] = {}
        password = Path(endpoint["password_file"]).read_text(encoding="utf-8").strip()
        ticket = self.ask("POST", "/access/ticket", {"username": "root@pam", "password": password})
        self.headers = {
            "Cookie": f"PVEAuthCookie={urllib.parse.quote(ticket['ticket'])}",
            "CSRFPreventionToken": ticket["CSRFPreventionToken"],
        }
        self.name = self.ask("GET", "/nodes")[0]["node"]

    def ask(self, method: str, path: str, params: dict[str, Any] | None = None) -> Any:
        """One request; the answer's data."""
        sent = urllib.parse.urlencode(params, doseq=True) if params else ""
        query = f"?{sent}" if sent and method == "GET" else ""
        body = sent.encode() if method != "GET" else None
        request = urllib.request.Request(f"{self.base}{path}{query}", body, self.headers, method=method)
        with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
            return json.load(answer)["data"]

    def run(self, vmid: int, argv: list[str]) -> dict[str, Any]:
        """Run a command in a guest to its end, once the agent answers."""
        agent = f"/nodes/{self.name}/qemu/{vmid}/agent"
        pid = self._until(lambda: self.ask("POST", f"{agent}/exec", {"command": argv}), f"agent of {vmid}")["pid"]
        ended = self._until(lambda: self._ended(agent, pid), f"{argv} in {vmid}")
        return {"vmid": vmid, "argv": argv, "code": ended.get("exitcode", -1), "out": ended.get("out-data", "")}

    def _ended(self, agent: str, pid: int) -> Any:
        status = self.ask("GET", f"{agent}/exec-status", {"pid": pid})
        return status if status["exited"] else None

    @staticmethod
    def _until(question: Any, what: str) -> Any:
        deadline, why = time.monotonic() + LIMIT_S, "no end"
        while time.monotonic() < deadline:
            try:
                if answer := question():
                    return answer
            except urllib.error.HTTPError as error:
                why = f"{error.code} {error.reason}"
            time.sleep(0.5)
        raise SystemExit(f"{what}: {why} within {LIMIT_S:.0f} s")


def main() -> None:
    """Commands of one guest run one after the other."""
    node = Node(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    commands: list[dict[str, Any]] = json.load(sys.stdin)
    guests = sorted({command["vmid"] for command in commands})

    def of(vmid: int) -> list[dict[str, Any]]:
        return [node.run(vmid, command["argv"]) for command in commands if command["vmid"] == vmid]

    with ThreadPoolExecutor(len(guests)) as pool:
        json.dump([done for result in pool.map(of, guests) for done in result], sys.stdout)


if __name__ == "__main__":
    main()
