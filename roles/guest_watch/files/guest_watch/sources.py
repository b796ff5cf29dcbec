# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at: the node through its API, and the host's pools and file systems through their own tools."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from . import findings


class Unseen(Exception):
    """Something could not be looked at; the message says why."""


@dataclass(frozen=True)
class Trust:
    """By what the node is known: the SHA-256 of its certificate (of several, any), or authorities in a file; else the
    system's."""

    fingerprints: Sequence[str] = ()
    ca_file: str = ""


class Node:
    """The API of one node with a token that may read (role PVEAuditor). One connection, made anew where it broke."""

    def __init__(self, url: str, node: str, token: str, trust: Trust, *, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 8006
        self.node, self.token, self.timeout_s = node, token, timeout_s
        self.fingerprints = {text.replace(":", "").lower() for text in trust.fingerprints}
        self.context = ssl.create_default_context(cafile=trust.ca_file or None)
        if self.fingerprints:
            # the pin says more than a name and an authority would
            self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self._connection: http.client.HTTPSConnection | None = None

    def guests(self) -> list[dict[str, Any]]:
        """Every guest with what its QEMU says. Raises Unseen."""
        rows: list[dict[str, Any]] = self._get("qemu", full=1)
        return rows

    def tasks(self, since: float) -> list[dict[str, Any]]:
        """Tasks that run, and those that have ended after ``since`` (seconds since 1970). Raises Unseen."""
        rows: list[dict[str, Any]] = self._get("tasks", source="active") + self._get("tasks", limit=100)
        return [row for row in rows if float(row.get("endtime") or since) >= since]

    def _get(self, path: str, **params: Any) -> Any:
        target = f"/api2/json/nodes/{self.node}/{path}" + (f"?{urlencode(params)}" if params else "")
        for again in (True, False):
            fresh = self._connection is None
            try:
                return self._ask(target)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                # the node closes connections that were idle; that is no reason to call it silent
                if fresh or not again:
                    raise Unseen(f"https://{self.host}:{self.port} {error or type(error).__name__}") from error
        raise AssertionError("unreachable")

    def _ask(self, target: str) -> Any:
        connection = self._connection or self._connect()
        connection.request("GET", target, headers={"Authorization": f"PVEAPIToken={self.token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"answers {answer.status} {answer.reason} to GET {target}")
        return json.loads(body)["data"]

    def _connect(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s, context=self.context)
        connection.connect()
        if self.fingerprints:
            certificate = bytes(connection.sock.getpeercert(binary_form=True) or b"")
            found = hashlib.sha256(certificate).hexdigest()
            if found not in self.fingerprints:
                connection.close()
                raise OSError(f"has another certificate than the one that is pinned: {found}")
        self._connection = connection
        return connection

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def thin_pools() -> list[dict[str, Any]]:
    """The host's thin pools as the kernel has them; none where there is no device mapper. Raises Unseen."""
    return (
        findings.thin_pools(_run(["dmsetup", "status", "--target", "thin-pool"]))
        if _there("dmsetup", "/sys/class/misc/device-mapper")
        else []
    )


def zfs() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """ZFS pools with what is available in them, and their health; none where ZFS is not loaded. Raises Unseen."""
    if not _there("zpool", "/sys/module/zfs"):
        return [], {}
    health = dict(line.split("\t") for line in _run(["zpool", "list", "-H", "-o", "name,health"]).splitlines())
    if not health:
        return [], {}
    return findings.datasets(_run(["zfs", "list", "-Hp", "-d", "0", "-o", "name,used,available", *health])), health


def directory(path: str) -> dict[str, float]:
    """How full the file system of a directory is, and its inodes, in percent. Raises Unseen."""
    try:
        seen = os.statvfs(path)
    except OSError as error:
        raise Unseen(f"{path}: {error.strerror}") from error
    # As df counts: what only root may use is neither used nor free.
    usable = seen.f_blocks - seen.f_bfree + seen.f_bavail
    found = {"space": round(100.0 * (seen.f_blocks - seen.f_bfree) / max(usable, 1), 2)}
    if seen.f_files:
        found["inodes"] = round(100.0 * (seen.f_files - seen.f_ffree) / seen.f_files, 2)
    return found


def _there(program: str, device: str) -> bool:
    return shutil.which(program) is not None and os.path.exists(device)


def _run(argv: list[str], timeout_s: float = 20.0) -> str:
    environment: Mapping[str, str] = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unseen(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise Unseen(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
